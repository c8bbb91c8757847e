package main

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	untarRow  = "untar 20 000 files"
	statusRow = "git status of 20 000 files"
	ciRow     = "20 000 small files as npm ci makes them"
	removeRow = "rm -r of 40 000 files"
)

// fileWork is the same work in the same image, on the root file system: of cove and of podman, both an overlay, and without
// one. The program measures itself inside, so that no start is in it.
func (b *bench) fileWork() error {
	if err := b.makeBundle(); err != nil {
		return err
	}
	tools := filepath.Join(b.dir, "filework")
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if _, err := install(self, filepath.Join(tools, "bench")); err != nil {
		return err
	}
	if err := modules(filepath.Join(tools, "tree.tar"), 1000); err != nil {
		return err
	}
	work := []string{"/bench/bench", "-work", "/var/tmp/bench", "/bench/tree.tar"}
	ways := []inside{
		{"cove", func(c ...string) []string {
			return b.coveImage(append([]string{"-v", tools + ":/bench:ro", "--"}, c...)...)
		}},
		{"no overlay", func(c ...string) []string {
			return append([]string{"bwrap", "--unshare-all", "--uid", "0", "--gid", "0", "--bind", filepath.Join(b.bundle(), "rootfs"), "/",
				"--dev", "/dev", "--proc", "/proc", "--dir", "/bench", "--ro-bind", tools, "/bench"}, c...)
		}},
		{"podman run", func(c ...string) []string {
			return b.podman(append([]string{"run", "--rm", "--network=none", "-v", tools + ":/bench:ro", b.ref("one")}, c...)...)
		}},
	}
	f := figures{}
	for i := range b.rounds() {
		for j := range ways {
			way := ways[(i+j)%len(ways)] // a removal makes the next one's files slower
			syscall.Sync()               // or one pays for what the other wrote
			out, err := b.output(way.argv(work...))
			if err != nil {
				return fmt.Errorf("%s: %w", way.name, err)
			}
			var took map[string]float64
			if err := json.Unmarshal(out, &took); err != nil {
				return fmt.Errorf("%s: %.300s: %w", way.name, out, err)
			}
			for row, ms := range took {
				f.add(row, way.name, ms)
			}
		}
	}
	for _, row := range []string{untarRow, statusRow, ciRow, removeRow} {
		for _, way := range ways[1:] {
			b.out.add(row, "ms", middle(f[row][ways[0].name]), way.name, middle(f[row][way.name]))
		}
	}
	return nil
}

// workInside is what is done in a folder of the root file system that is measured.
func workInside(dir, tarball string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	in := func(name string, args ...string) error {
		cmd := exec.Command(name, args...)
		cmd.Dir, cmd.Stderr = dir, os.Stderr
		cmd.Env = append(os.Environ(), "HOME="+dir, "GIT_CONFIG_NOSYSTEM=1", "PATH=/usr/bin:/bin")
		return cmd.Run()
	}
	files, err := readTree(tarball)
	if err != nil {
		return err
	}
	took := map[string]float64{}
	for _, step := range []struct {
		row string // "": not measured
		do  func() error
	}{
		{untarRow, func() error { return in("tar", "xf", tarball) }},
		{"", func() error { return in("git", "init", "-q") }},
		{"", func() error { return in("git", "add", "-A") }},
		{"", func() error { return in("git", "status", "-s") }}, // looks into what was added in the same second
		{statusRow, func() error { return in("git", "status", "-s") }},
		{ciRow, func() error { return npmCI(filepath.Join(dir, "ci"), files) }},
		{removeRow, func() error { return in("rm", "-r", "modules", "ci") }},
		{"", func() error { return os.RemoveAll(dir) }},
	} {
		start := time.Now()
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.row, err)
		}
		if step.row != "" {
			took[step.row] = float64(time.Since(start)) / float64(time.Millisecond)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(took)
}

// file is one of a package that npm has in memory.
type file struct {
	name string
	data []byte
}

// readTree returns the packages of a tarball, and their files.
func readTree(tarball string) (packages [][]file, err error) {
	f, err := os.Open(tarball)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return packages, nil
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag == tar.TypeDir {
			packages = append(packages, nil)
			continue
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		last := &packages[len(packages)-1]
		*last = append(*last, file{h.Name, data})
	}
}

// npmCI writes packages side by side as npm does (its pacote and node-tar, with libuv's four threads): each file is made,
// written and given its mode; when all of a package are there its first, the description, is read again and linked to.
func npmCI(dir string, packages [][]file) error {
	bin := filepath.Join(dir, ".bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	const threads = 4
	next, errs := make(chan []file), make(chan error, threads)
	for range threads {
		go func() {
			var first error
			for p := range next {
				first = firstError(first, installPackage(dir, bin, p))
			}
			errs <- first
		}()
	}
	for _, p := range packages {
		next <- p
	}
	close(next)
	var first error
	for range threads {
		first = firstError(first, <-errs)
	}
	return first
}

func installPackage(dir, bin string, files []file) error {
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, f.data, 0o600); err != nil {
			return err
		}
		if err := os.Chmod(path, 0o644); err != nil {
			return err
		}
	}
	first := filepath.Join(dir, files[0].name)
	if _, err := os.ReadFile(first); err != nil {
		return err
	}
	return os.Symlink(first, filepath.Join(bin, filepath.Base(filepath.Dir(first))))
}
