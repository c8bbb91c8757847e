package start

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"cove/config"
	"cove/sandbox"
)

// runScript lets a script begin with `#!/usr/bin/env -S cove run`. The kernel then starts
// `cove run SCRIPT ARG...`, and inside the script's first line would ask for cove once more. So
// its interpreter is what a second line "#!INTERPRETER" names, otherwise the shell, which is who
// runs a script that names none. A script outside the workspace is mounted read-only, for whoever
// runs it means it to be read.
func runScript(in *sandbox.Input) error {
	if len(in.Argv) == 0 || !strings.Contains(in.Argv[0], "/") {
		return nil
	}
	first, second := firstLines(in.Argv[0])
	if !namesCove(first) {
		return nil
	}
	interpreter := []string{"/bin/sh"}
	if rest, ok := strings.CutPrefix(second, "#!"); ok && len(strings.Fields(rest)) > 0 && !namesCove(second) {
		interpreter = strings.Fields(rest)
	}
	argv := append(interpreter, in.Argv...)
	script := &argv[len(interpreter)]
	in.Argv = argv
	real, err := filepath.EvalSymlinks(*script)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return fmt.Errorf("find the script: %w", err)
	}
	p := in.Profile
	if p.Dir != "" && p.Workspace.Mode != "none" && strings.HasPrefix(real, p.Dir+"/") {
		return nil
	}
	*script = real
	if err := p.Set("mount", config.Mount{Source: real, Target: real, Mode: "ro"}, config.Origin{Kind: config.FromFlag, Flag: "the script"}); err != nil {
		return err
	}
	_, err = p.Check() // it may be where the workspace is to be
	return err
}

// namesCove reports whether a line is an interpreter's line of a script that cove runs.
func namesCove(line string) bool {
	rest, ok := strings.CutPrefix(line, "#!")
	if !ok {
		return false
	}
	words := strings.Fields(rest)
	for i, w := range words {
		if path.Base(w) == "cove" && i+1 < len(words) && words[i+1] == "run" {
			return true
		}
	}
	return false
}

// firstLines reads the first two lines of a regular file; "" for what cannot be read.
func firstLines(name string) (first, second string) {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return "", ""
	}
	f, err := os.Open(name)
	if err != nil {
		return "", ""
	}
	defer f.Close()
	s := bufio.NewScanner(io.LimitReader(f, 4096))
	if s.Scan() {
		first = s.Text()
	}
	if s.Scan() {
		second = s.Text()
	}
	return first, second
}
