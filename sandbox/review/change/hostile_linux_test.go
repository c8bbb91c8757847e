package change

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"cove/sandbox/review/tree"
	"cove/sandbox/spec"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// Whatever a program leaves in a view is listed, shown and applied, or said not to be: nothing waits, nothing is followed.
func TestHostile(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			v := newView(t, kind, "mkdir d; echo 1 > d/1; echo s > secret; chmod 600 secret; ln -s /etc etc")
			if v.r.IDMap.Single() {
				skip(t, "needs subordinate ids")
			}
			before := v.dump(v.project)
			v.inside(insideRequest{Quiet: true, Script: `
				mkfifo fifo; mkdir shut; echo in > shut/in; chmod 0 shut/in shut; chown 1000:1000 shut shut/in
				ln -s /etc/shadow shadow; ln -s ../../../../../../etc/passwd up; ln -s self self; ln -s d/1 good
				printf 'a\nb' > "$(printf 'new\nline')"; echo x > "$(printf 'esc\033[2J')"; echo x > "$(printf 'no\377utf')"
				truncate -s 1T sparse; printf end >> sparse; echo '#!/bin/sh' > setuid; chmod 6755 setuid; chown 33 setuid; chmod 6755 setuid
				rm etc; mkdir etc; echo mine > etc/passwd; rm -r d; ln -s /etc d
				perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0); bind(S, sockaddr_un("sock"))'
				perl -e 'for (1..300) { my $d = "x" x 50; mkdir $d or die; chdir $d or die } open(F, ">deep")' || [ ` + string(kind) + ` = fuse-overlayfs ]`})
			begin := time.Now()
			s := v.open()
			var all bytes.Buffer
			for _, c := range s.Changes {
				f, err := s.Read(c)
				if err == nil {
					err = Look{Safe: true, Colour: true}.Write(&all, f)
				}
				if err != nil {
					t.Fatalf("%q: %v", c.Path, err)
				}
			}
			if strings.Contains(strings.ReplaceAll(all.String(), "\x1b[", ""), "\x1b") || strings.Contains(all.String(), "\x1b[2J") {
				t.Errorf("an escape gets through: %q", all.String())
			}
			res, err := s.Apply(context.Background(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			var skipped []string
			for _, sk := range res.Skipped {
				skipped = append(skipped, strings.Trim(string(sk.Path), "x/"))
			}
			want := "sock "
			if kind == spec.RootFuse {
				want = "sock" // it lets nobody go as deep
			}
			if got := strings.Join(skipped, " "); got != want {
				t.Errorf("skipped %q, want the socket and the folder that is too deep", skipped)
			}
			s.Close()
			if d := time.Since(begin); d > 20*time.Second {
				t.Errorf("took %v", d)
			}
			for name, want := range map[string]string{"shadow": "/etc/shadow", "up": "../../../../../../etc/passwd", "d": "/etc", "good": "d/1"} {
				if got, err := os.Readlink(v.project + "/" + name); err != nil || got != want {
					t.Errorf("%s: %q, %v", name, got, err)
				}
			}
			var st unix.Stat_t
			if err := unix.Lstat(v.project+"/setuid", &st); err != nil || st.Mode&0o7777 != 0o755 || int(st.Uid) != os.Getuid() {
				t.Errorf("setuid: mode %o of user %d, %v", st.Mode, st.Uid, err)
			}
			if err := unix.Lstat(v.project+"/sparse", &st); err != nil || st.Size != 1<<40+3 || st.Blocks > 1000 {
				t.Errorf("sparse: %d bytes in %d blocks, %v", st.Size, st.Blocks, err)
			}
			if err := unix.Lstat(v.project+"/shut", &st); err != nil || st.Mode&0o7777 != 0 || int(st.Uid) != os.Getuid() {
				t.Errorf("shut: mode %o of user %d, %v", st.Mode, st.Uid, err)
			}
			if got := v.dump(v.project); !strings.Contains(got, `"shut/in" 100000 3 `) || !strings.Contains(got, `"etc/passwd" 100644 5 `) {
				t.Errorf("the project has\n%s", got)
			}
			v.undo()
			differ(t, "taken back", v.dump(v.project), before)
			// What is left can be dropped, however deep.
			s = v.open()
			if _, err := s.Discard(context.Background(), []string{""}); err != nil {
				t.Fatal(err)
			}
			if len(s.Changes) > 0 {
				t.Errorf("left: %v", s.Changes[0].Path)
			}
		})
	}
}

// The stage sees the view's folders and nothing else, and makes no system call that it does not need.
func TestStage(t *testing.T) {
	v := newView(t, spec.RootOverlay, "echo 1 > a")
	v.write("echo 2 > a; ln -s /etc etc; mkdir d")
	s, err := tree.Start(context.Background(), v.r.IDMap, v.r.Kind, v.r.Views[0].Upper)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, path := range []string{"..", "../work", "/etc/passwd", "d/../../work", "./a", "a/", "d//x"} {
		if e, f, err := s.Open(0, path); err == nil {
			t.Errorf("%q is opened: %v %v", path, e, f)
		}
		if err := s.Remove(0, path); err == nil {
			t.Errorf("%q is removed", path)
		}
	}
	if _, _, err := s.Open(0, "etc/passwd"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("through a link: %v", err)
	}
	if _, _, err := s.Open(1, "a"); err == nil {
		t.Error("a view that there is not")
	}
	e, f, err := s.Open(0, "a")
	if err != nil || e.Size != 2 || f == nil {
		t.Fatalf("%v %v %v", e, f, err)
	}
	if _, err := f.WriteString("x"); err == nil {
		t.Error("what comes from the stage can be written")
	}
	f.Close()
}

// A stage that is not started by cove does nothing.
func TestStageAlone(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := &exec.Cmd{Path: exe, Args: []string{tree.StageName}}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "is started by cove itself") {
		t.Errorf("%v: %s", err, out)
	}
}

// With one id alone everything works as well.
func TestSingleID(t *testing.T) {
	v := newView(t, spec.RootOverlay, "echo 1 > a")
	v.r.IDMap = userns.Single(uint32(os.Getuid()), uint32(os.Getgid()), 0, 0)
	v.write("echo 2 > a; mkdir d; chmod 0 d; echo x > b; chmod 0 b")
	want := v.merged()
	v.apply(Options{})
	differ(t, "applied", v.dump(v.project), want)
	v.undo()
	v.outside("[ $(cat a) = 1 ]; [ ! -e d ]")
}

// Why a file cannot be read is told, and nothing of what it is called gets to the terminal with it.
func TestUnreadableName(t *testing.T) {
	name := "a\x1b[31m"
	v := newView(t, spec.RootOverlay, "echo a > '"+name+"'")
	v.write("echo b > '" + name + "'")
	s := v.open()
	v.outside("rm '" + name + "'; ln -s / '" + name + "'")
	f, err := s.Read(s.Changes[0])
	if err != nil {
		t.Fatal(err)
	}
	if f.Unreadable == "" || strings.ContainsAny(f.Unreadable, "\x1b") {
		t.Errorf("%q", f.Unreadable)
	}
}

// A link on the way to a project, put there since its view was made, is not followed, neither to be read nor to be written.
func TestLinkOnTheWay(t *testing.T) {
	v := newView(t, spec.RootOverlay, "echo a > a")
	v.write("echo A > a; echo N > n")
	other := t.TempDir()
	if err := os.Rename(v.project, v.project+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, v.project); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), v, nil)
	if err == nil || !strings.Contains(err.Error(), "link") {
		t.Errorf("%v", err)
	}
	if err := errors.Join(os.Remove(v.project), os.Rename(v.project+".old", v.project)); err != nil {
		t.Fatal(err)
	}
	v.apply(Options{})
}

// A file with more extended attributes than the kernel lists keeps nobody from the others, nor from dropping it. Not every
// file system takes so many.
func TestLadenFile(t *testing.T) {
	t.Setenv("TMPDIR", "/dev/shm")
	v := newView(t, spec.RootOverlay, "echo a > a; echo b > b; mkdir d")
	v.inside(insideRequest{Quiet: true, Script: `
		for f in a d new; do
			[ -e $f ] || echo new > $f
			{ echo "# file: $f"; for i in $(seq 400); do echo "user.$(printf %0200d $i)=\"v\""; done; } | setfattr --restore=-
		done
		echo B > b`})
	if got := v.changes(); got != "xattr a refused\nchanged b\nxattr d refused\nadded new refused\n" {
		t.Fatal(got)
	}
	s := v.open()
	for _, c := range s.Changes {
		if _, err := s.Read(c); err != nil {
			t.Errorf("%s: %v", c.Path, err)
		}
	}
	if res, err := s.Apply(t.Context(), Options{}); err != nil || len(res.Done) != 1 || len(res.Skipped) != 3 {
		t.Errorf("%+v, %v", res, err)
	}
	if _, err := s.Discard(t.Context(), []string{"a", "new"}); err != nil {
		t.Error(err)
	}
	s.Close()
	if got := v.changes(); got != "xattr d refused\n" { // a folder goes with the whole view
		t.Error(got)
	}
}

// What lies too deep outside to be named stays, when it is deleted inside, and all else is applied.
func TestDeepOutside(t *testing.T) {
	v := newView(t, spec.RootOverlay, `echo a > a; mkdir top; cd top; perl -e 'for (1..100) { my $d = "x" x 50; mkdir $d or die; chdir $d or die }'`)
	v.write("rm -r top; echo b > a")
	s := v.open()
	res, err := s.Apply(t.Context(), Options{})
	if err != nil || len(res.Done) != 1 || res.Done[0].Path != "a" || len(res.Skipped) == 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	v.outside("grep b a; [ -d top/* ]")
}
