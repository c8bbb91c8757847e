package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// errNoPlace says that an entry cannot be added by adding text: the table is an inline one.
var errNoPlace = errors.New("its network is an inline table; write it as [network]")

// AddAllow writes entries into network.allow of the profile's file, and network.mode where it says none. Everything else
// stays as it is, comments too. A file that is no longer as it was read is left alone.
func (p *Profile) AddAllow(entries []string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write profile %s: %w", showName(p.shownAs(p.File)), bare(err))
		}
	}()
	// Through a link, which stays one: the file is what was read.
	file, err := filepath.EvalSymlinks(p.File)
	if err != nil {
		return err
	}
	data, err := readOwned(file, false)
	if err != nil {
		return err
	}
	if hashOf(data) != p.hash {
		return errors.New("it has been changed meanwhile")
	}
	text, err := insertAllow(data, entries)
	if err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	return replaceFile(file, text, info.Mode().Perm())
}

// replaceFile puts a file in the place of another, whole or not at all.
func replaceFile(file string, text []byte, mode os.FileMode) error {
	f, err := createBeside(file)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	return syncDir(filepath.Dir(file))
}

// insertAllow is a profile's text with entries added, where it has them not yet.
func insertAllow(data []byte, entries []string) ([]byte, error) {
	d := parseTOML(data)
	if len(d.mistakes) > 0 {
		return nil, errors.New(d.mistakes[0].Text)
	}
	network, _ := d.tree["network"].(map[string]any)
	var words []string
	have, _ := network["allow"].([]any)
	for _, e := range entries {
		if !slices.Contains(have, any(e)) {
			words = append(words, tomlString(e))
		}
	}
	if len(words) == 0 {
		return data, nil
	}
	list := strings.Join(words, ", ")
	text := d.text
	at := -1
	switch {
	case network["allow"] != nil:
		at = d.scan.places["network.allow"].val + 1 // behind its bracket
		if len(have) > 0 {
			list += ", "
		}
	case network == nil:
		at, list = len(text), "\n[network]\nmode  = \"user\"\nallow = ["+list+"]\n"
		if text != "" && !strings.HasSuffix(text, "\n") {
			list = "\n" + list
		}
	default:
		prefix := ""
		if at = d.scan.headerEnd("network"); at < 0 {
			at, prefix = d.scan.dottedEnd("network."), "network."
		}
		if at < 0 {
			return nil, errNoPlace
		}
		list = prefix + "allow = [" + list + "]\n"
		if network["mode"] == nil {
			list = prefix + "mode = \"user\"\n" + list
		}
		if !strings.HasSuffix(text[:at], "\n") {
			list = "\n" + list
		}
	}
	out := text[:at] + list + text[at:]
	if d = parseTOML([]byte(out)); len(d.mistakes) > 0 {
		return nil, fmt.Errorf("bug: it would not be TOML any more: %s", d.mistakes[0].Text)
	}
	if strings.HasPrefix(string(data), "\ufeff") {
		out = "\ufeff" + out
	}
	return []byte(out), nil
}

// headerEnd is where the line after [name] begins; -1 where there is no such header.
func (s *scan) headerEnd(name string) int {
	for _, st := range s.statements {
		line := s.data[st.start:st.end]
		inner, _, ok := strings.Cut(strings.TrimPrefix(line, "["), "]")
		if st.header && ok && !strings.HasPrefix(inner, "[") && strings.Trim(inner, " \t\"'") == name {
			return st.end
		}
	}
	return -1
}

// dottedEnd is where the line after the last key that begins with prefix begins; -1 where no line begins so.
func (s *scan) dottedEnd(prefix string) int {
	at := -1
	for _, st := range s.statements {
		if st.header {
			break
		}
		if strings.HasPrefix(s.data[st.start:st.end], prefix) {
			at = st.end
		}
	}
	return at
}
