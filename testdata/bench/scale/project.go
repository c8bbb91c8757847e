package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// few is how many of the rows of project are not about changes of all files.
const few = 7

// project measures a project of n files: a run in it, and a review of one changed file, of all, and of all taken over.
func (s *scale) project(n int) error {
	dir := filepath.Join(s.dir, "work", "project")
	for i := range n {
		name := filepath.Join(dir, fileName(i))
		if i%perFolder == 0 {
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				return err
			}
		}
		if err := os.WriteFile(name, []byte("a line\n"), 0o644); err != nil {
			return err
		}
	}
	cove := func(argv ...string) []string { return append([]string{s.cove}, argv...) }
	inside := func(script string) []string { return cove("try", "--", "sh", "-c", script) }
	change := "find . -type f -name 'file-*' -exec sed -i 's/a line/another/' {} +"
	make := "mkdir made && cd made && seq -f 'new-%.0f' " + fmt.Sprint(n) + " | xargs touch"
	rows := []struct {
		what  string
		times int
		argv  []string
	}{
		{"project: run, rw", 5, cove("run", "--", "true")},
		{"project: try of nothing", 5, cove("try", "--", "true")},
		{"project: try of one change", 1, inside("echo x >0/0/0/file-0")},
		{"project: diff of one change", 3, cove("diff")},
		{"project: apply of one change", 1, cove("apply")},
		{"project: undo of one change", 1, cove("apply", "--undo")},
		{"project: discard of one change", 1, cove("discard", "-f")},
		{"all changed: try", 1, inside(change)},
		{"all changed: diff --summary", 1, cove("diff", "--summary")},
		{"all changed: diff", 1, cove("diff")},
		{"all changed: apply", 1, cove("apply")},
		{"all changed: apply --undo", 1, cove("apply", "--undo")},
		{"all changed: discard of a folder", 1, cove("discard", "0/0/0")},
		{"all changed: discard", 1, cove("discard", "-f")},
		{"all deleted: try", 1, inside("rm -r [0-9]*")},
		{"all deleted: diff --name-status", 1, cove("diff", "--name-status")},
		{"all deleted: discard of some", 1, cove("discard", "0")},
		{"all deleted: discard", 1, cove("discard", "-f")},
		{"one folder of as many: try", 1, inside(make)},
		{"one folder of as many: diff --summary", 1, cove("diff", "--summary")},
		{"one folder of as many: apply", 1, cove("apply")},
		{"one folder of as many: apply --undo", 1, cove("apply", "--undo")},
		{"one folder of as many: discard of it", 1, cove("discard", "made")},
	}
	for i, c := range rows {
		if n > s.all && i >= few {
			break
		}
		if err := s.row(n, c.times, c.what, "project", c.argv...); err != nil {
			return err
		}
	}
	return nil
}
