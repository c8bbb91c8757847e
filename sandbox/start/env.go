package start

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"cove/config"
)

// Variable is one that was given by hand.
type Variable struct {
	Name  string
	Value string
	Pass  bool   // its value is the one outside, where it has one
	Flag  string // how it was given
}

// Variables are those of --env-file and --env, in that order: the last one for a name counts, as for podman.
func Variables(l Line) ([]Variable, error) {
	var all []Variable
	for _, file := range l.Words("env-file") {
		lines, err := readEnvFile(file)
		if err != nil {
			return nil, Usagef("--env-file %s: %v", strconv.Quote(file), err)
		}
		for _, v := range lines {
			all = putVariable(all, v)
		}
	}
	for _, text := range l.Words("env") {
		name, value, set := strings.Cut(text, "=")
		all = putVariable(all, Variable{Name: name, Value: value, Pass: !set, Flag: "--env"})
	}
	return all, nil
}

func putVariable(all []Variable, v Variable) []Variable {
	for i := range all {
		if all[i].Name == v.Name {
			all[i] = v
			return all
		}
	}
	return append(all, v)
}

// maxEnvFile bounds a file of variables; what execve(2) takes is less.
const maxEnvFile = 1 << 20

// readEnvFile reads a file as podman and docker do. What can be waited for for ever, such as a fifo, is refused.
func readEnvFile(name string) ([]Variable, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, errors.New("is a folder")
	case !info.Mode().IsRegular():
		return nil, errors.New("is no regular file")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxEnvFile+1))
	if err == nil && len(data) > maxEnvFile {
		err = fmt.Errorf("is larger than %d bytes", maxEnvFile)
	}
	if err != nil {
		return nil, err
	}
	return parseEnvFile(data)
}

// parseEnvFile takes lines K=V, whose value is what stands behind the "=" as it is, quotes and all; K alone, which
// passes the variable from outside; empty lines, and comments, which begin with a "#".
func parseEnvFile(data []byte) ([]Variable, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	var all []Variable
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxEnvFile+1)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimLeft(lines.Text(), " \t")
		name, value, set := strings.Cut(line, "=")
		if !set {
			name = strings.TrimRight(name, " \t")
		}
		switch {
		case line == "" || line[0] == '#':
			continue
		case name == "":
			return nil, fmt.Errorf("line %d names no variable", n)
		case strings.ContainsAny(name, " \t"):
			return nil, fmt.Errorf("line %d: a blank in the name %s (want K=V, or K alone)", n, strconv.Quote(name))
		case strings.Contains(line, "\x00") || !utf8.ValidString(line):
			return nil, fmt.Errorf("line %d is not text", n)
		}
		all = putVariable(all, Variable{Name: name, Value: value, Pass: !set, Flag: "--env-file"})
	}
	return all, lines.Err()
}

// envFlags are the variables given by hand as values above the profile's.
func envFlags(l Line) ([]config.Flag, error) {
	all, err := Variables(l)
	var out []config.Flag
	for _, v := range all {
		if v.Pass {
			out = append(out, config.Flag{Name: v.Flag, Key: "env.pass", Value: []string{v.Name}, Add: true})
		} else {
			out = append(out, config.Flag{Name: v.Flag, Key: "env.set", Value: map[string]string{v.Name: v.Value}})
		}
	}
	return out, err
}
