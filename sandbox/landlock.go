package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"cove/sandbox/seccomp"
	"cove/sandbox/spec"
	"cove/sandbox/stage"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// startLandlock is start where there are no namespaces: a stage beside this process does what init does, on the host's
// own files. What differs is that nothing there goes away by itself: the stage ends whatever its commands left.
func (b *box) startLandlock(ctx context.Context, main *mainCommand) error {
	discardEarly()
	if err := b.makeState(); err != nil {
		return err
	}
	if err := b.makePrivate(ctx); err != nil {
		return err
	}
	if err := b.checkGrants(); err != nil {
		return err
	}
	b.watchProtected()
	var err error
	if b.filter, err = landlockFilter(b.spec.Landlock); err != nil {
		return err
	}
	listener, err := b.open()
	if err != nil {
		return err
	}
	child, err := userns.Fork(userns.Config{Stage: stage.LandlockName, Bare: true, Env: []string{"GOMAXPROCS=1"}})
	if err != nil {
		return err
	}
	m := mapped(child)
	limits := b.beginLimits(ctx, m)
	if err := b.adopt(m); err != nil {
		return err
	}
	// Before adopt's own, which kills the stage alone.
	b.undo(func() error { b.kill(); return nil })
	if err := b.awaitLimits(ctx, limits); err != nil {
		return err
	}
	if err := b.sendSetup(spec.Link{}, nil, main); err != nil {
		return fmt.Errorf("send the Spec to %s: %w", stage.LandlockName, err)
	}
	go b.control.serve(listener, b)
	if err := b.awaitReady(ctx); err != nil {
		return err
	}
	b.startClock()
	return nil
}

// landlockFilter is the program that stands beside landlock.
func landlockFilter(l *spec.Landlock) ([]byte, error) {
	native, ok := seccomp.Native()
	if !ok {
		return nil, &ProtectionError{"there is no system call filter for this processor: nothing would keep the command from sockets"}
	}
	c := seccomp.Conditions{Native: native}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, os.NewSyscallError("uname", err)
	}
	_, _ = fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &c.Kernel[0], &c.Kernel[1])
	policy := seccomp.New(nil, c).With(seccomp.WithoutNamespaces(l.ABI, l.HostNetwork)...)
	program, err := policy.Compile()
	if err != nil {
		return nil, fmt.Errorf("make the system call filter: %w", err)
	}
	return program.Bytes(), nil
}

// kill ends what runs in the box, and waits. A stage without namespaces is asked to end the others first.
func (b *box) kill() {
	if b.spec.Landlock != nil {
		b.child.Signal(unix.SIGTERM)
		select {
		case <-b.ended:
		case <-time.After(killAfter):
		}
	}
	b.child.Kill()
}

// makePrivate makes the run's own folder, with a home and a /tmp of its own.
func (b *box) makePrivate(ctx context.Context) error {
	run, err := b.makeRun(ctx, openFolders)
	if err != nil {
		return err
	}
	l := b.spec.Landlock
	l.Private = spec.Path(run.Dir)
	tmp, home := run.Dir+"/tmp", run.Dir+"/home"
	if err := errors.Join(os.Mkdir(tmp, 0o700), os.Mkdir(home, 0o700)); err != nil {
		return fmt.Errorf("make the run's directory: %w", err)
	}
	l.Grants = append(l.Grants, spec.Grant{Path: spec.Path(tmp), Write: true}, spec.Grant{Path: spec.Path(home), Write: true})
	if real, err := filepath.EvalSymlinks("/etc/resolv.conf"); err == nil && l.HostNetwork {
		l.Grants = append(l.Grants, spec.Grant{Path: spec.Path(real), Optional: true}) // below /run, with systemd-resolved
	}
	return nil
}

// openFolders gives their owner back what a command took from folders, so that they can be removed.
func openFolders(dir string) {
	_ = filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if e != nil && e.IsDir() {
			if info, ierr := e.Info(); ierr == nil && info.Mode().Perm()&0o700 != 0o700 {
				_ = os.Chmod(name, 0o700)
				if err != nil { // its reading failed, and is not tried again
					openFolders(name)
				}
			}
		}
		return nil
	})
}

// checkGrants refuses what landlock could not take away again from a folder that is granted: cove's own folders and the
// sockets' of the session, and cove's own file where it could be written.
func (b *box) checkGrants() error {
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return err
	}
	for _, g := range b.spec.Landlock.Grants {
		real, err := filepath.EvalSymlinks(string(g.Path))
		if err != nil || real == string(b.spec.Landlock.Private)+"/tmp" || real == string(b.spec.Landlock.Private)+"/home" {
			continue // the stage says what is missing
		}
		if _, within := below(self, real); within && g.Write {
			return &ProtectionError{fmt.Sprintf("%q holds cove's own file, which could be written there without user namespaces", g.Path)}
		}
		for _, name := range b.spec.Hide {
			hide, err := realPath(string(name))
			if err != nil {
				return fmt.Errorf("hide %q: %w", name, err)
			}
			if rel, within := below(hide, real); within && rel != "" {
				return &ProtectionError{fmt.Sprintf("%q holds %q, which could not be hidden there without user namespaces", g.Path, name)}
			}
		}
	}
	return nil
}

// watchProtected tells at the end what was changed of the protected paths: landlock cannot take back from a folder in a
// writable one what it grants there.
func (b *box) watchProtected() {
	p := b.spec.Protect
	if p == nil {
		return
	}
	prints := func() map[spec.Path]string {
		out := map[spec.Path]string{}
		for _, name := range p.Paths {
			out[name] = fingerprint(filepath.Join(string(p.Source), string(name)))
		}
		return out
	}
	before := prints()
	git := watchGit(p, b.warn)
	b.undo(func() error {
		for name, now := range prints() {
			if now != before[name] {
				b.warn("changed in the workspace: %q, which nothing could protect", name)
			}
		}
		git()
		return nil
	})
}

// fingerprint is another one when anything at name or below was changed: no program can choose a change time.
func fingerprint(name string) string {
	out := ""
	_ = filepath.WalkDir(name, func(at string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if unix.Lstat(at, &st) == nil {
			out += fmt.Sprintf("%q %d:%d %d.%d\n", at, st.Dev, st.Ino, st.Ctim.Sec, st.Ctim.Nsec)
		}
		return nil
	})
	return out
}
