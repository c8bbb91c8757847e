package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	projectFolders = 1000
	projectFiles   = 100 // in each
)

// try is a command under review in a large project, and what it changed, beside what else one would do: copy the project, and
// compare the copy.
func (b *bench) try() error {
	project, err := b.makeProject()
	if err != nil {
		return err
	}
	reset, cold := b.coldStore()
	// A view with changes is not gone on with, and what copies have written is not to be waited for by cove, which syncs.
	discard := func() error {
		_ = b.doIn(project, b.cove, "discard", "-f")
		syscall.Sync()
		return nil
	}
	if err := discard(); err != nil {
		return err
	}
	copied := filepath.Join(cold, "copy")
	tried := func(argv ...string) command {
		return command{name: "cove try", dir: project, argv: append([]string{b.cove, "try", "--"}, argv...), reset: discard}
	}
	run := command{name: "cove run", dir: project, argv: []string{b.cove, "run", "--", "true"}}
	cp := command{name: "cp -a", dir: project, argv: []string{"cp", "-a", project, copied}, reset: reset}
	if err := b.compare("try, 100 000 files, nothing done", b.few(), tried("true"), run); err != nil {
		return err
	}
	if err := b.compare("try, 100 000 files, nothing done", b.rounds(), tried("true"), cp); err != nil {
		return err
	}
	find := []string{"find", ".", "-size", "+1000k"}
	if err := b.compare("try, 100 000 files, find", b.few(), tried(find...), command{name: "find", dir: project, argv: find}); err != nil {
		return err
	}
	const change = `for i in $(seq 100); do echo more >>folder-0$((i + 99))/file-01; rm folder-0$((i + 299))/file-02; echo new >folder-0$((i + 499))/new; done`
	under := tried("sh", "-c", change)
	under.then = []string{b.cove, "diff", "--stat"}
	compared := command{name: "cp -a, diff -rq", dir: project, reset: reset,
		argv: []string{"sh", "-c", fmt.Sprintf(`cp -a . "$1" && cd "$1" && %s; [ "$(diff -rq "$0" "$1" | wc -l)" = 300 ]`, change), project, copied}}
	err = b.compare("try, 100 000 files, 300 changed, diff", b.rounds(), under, compared)
	_ = discard()
	return err
}

// makeProject is made once.
func (b *bench) makeProject() (string, error) {
	project := filepath.Join(b.dir, "project")
	if _, err := os.Stat(project); err == nil {
		return project, nil
	}
	part := project + ".part"
	if err := os.RemoveAll(part); err != nil {
		return "", err
	}
	for d := range projectFolders {
		folder := filepath.Join(part, fmt.Sprintf("folder-%04d", d))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return "", err
		}
		for f := range projectFiles {
			text := strings.Repeat(fmt.Sprintf("line of file %d in folder %d\n", f, d), 1+f%20)
			if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("file-%02d", f)), []byte(text), 0o644); err != nil {
				return "", err
			}
		}
	}
	return project, os.Rename(part, project)
}
