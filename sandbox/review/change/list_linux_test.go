package change

import (
	"encoding/binary"
	"testing"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// What differs is listed, and nothing else: each way of making a view has its own to say so.
func TestList(t *testing.T) {
	const project = `
		mkdir -p d/e f/g keep many; echo one > a; echo two > d/x; echo 1 > d/e/1; echo 2 > d/e/2; echo g > f/g/h; echo k > keep/k
		ln -s a link; echo h > h; ln h hard; touch empty; echo m > many/1; echo n > many/2; printf 'longer than the others' > mv`
	for _, c := range []struct{ name, inside, want string }{
		{"nothing", "", ""},
		{"copied up without a change", "chmod 600 a; chmod 644 a; touch d/x; chmod 700 d; chmod 755 d", ""},
		{"written with the same content", "echo one > a", ""},
		{"content", "echo ONE > a", "changed a\n"},
		{"mode", "chmod 755 a", "mode a\n"},
		{"a folder's mode", "chmod 700 d", "mode d\n"},
		{"deleted", "rm a; rm -r d", "deleted a\ndeleted d\ndeleted d/e\ndeleted d/e/1\ndeleted d/e/2\ndeleted d/x\n"},
		{"added", "echo n > n; mkdir m; echo o > m/o", "added m\nadded m/o\nadded n\n"},
		{"link", "ln -sf b link; ln -s x new", "target link\nadded new\n"},
		{"file to folder", "rm a; mkdir a; echo i > a/i", "type a\nadded a/i\n"},
		{"folder to file", "rm -r d; echo f > d", "type d\ndeleted d/e\ndeleted d/e/1\ndeleted d/e/2\ndeleted d/x\n"},
		{"folder to link", "rm -r f; ln -s d f", "type f\ndeleted f/g\ndeleted f/g/h\n"},
		{"made anew", "rm -r d; mkdir d; echo two > d/x; echo y > d/y", "deleted d/e\ndeleted d/e/1\ndeleted d/e/2\nadded d/y\n"},
		{"made anew, deeper", "rm -r d; mkdir -p d/e; echo 1 > d/e/1; echo two > d/x", "deleted d/e/2\n"},
		{"a file renamed", "mv mv many/moved", "renamed many/moved < mv\n"},
		{"a folder renamed", "cp -a d q; rm -r d", "deleted d\ndeleted d/e\nadded q\nadded q/e\nrenamed q/e/1 < d/e/1\nrenamed q/e/2 < d/e/2\nrenamed q/x < d/x\n"},
		{"a hard link's content", "echo H > hard", ""}, // told apart below
		{"a fifo", "mkfifo p", "added p\n"},
		{"deleted and made again", "rm a; echo one > a", ""},
		{"deleted in a new place", "mkdir z; echo 1 > z/1; rm -r z", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, kind := range kinds {
				t.Run(string(kind), func(t *testing.T) {
					t.Parallel()
					v := newView(t, kind, project)
					v.write(c.inside)
					want := c.want
					if c.name == "a hard link's content" {
						want = "changed hard\n" // copying up breaks the link, unless the copy has it
						if kind == spec.RootCopy {
							want = "changed h\nchanged hard\n"
						}
					}
					if kind == spec.RootFuse && c.name == "a hard link's content" && v.changes() == "changed h\n" {
						return // fuse-overlayfs goes by the file, and takes any of its names
					}
					if got := v.changes(); got != want {
						t.Errorf("got\n%swant\n%s", got, want)
					}
				})
			}
		})
	}
}

// What is dropped with its folder is dropped at once, and a folder is looked at once for all that is dropped in it: the stage
// opens few folders, however many files there are.
func TestDiscardLinear(t *testing.T) {
	const files = 40
	for _, c := range []struct {
		name, inside, path string
		changes, most      int
	}{
		{"a new folder", "mkdir -p made/deep; for i in $(seq 40); do touch made/$i made/deep/$i; done", "made", 2*files + 2, 10},
		{"files of a folder", "for i in $(seq 40); do echo x >d/e/f/$i; done", "d", files, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := newView(t, spec.RootOverlay, "mkdir -p d/e/f; for i in $(seq 40); do touch d/e/f/$i; done")
			v.write(c.inside)
			set := v.open()
			defer set.Close()
			fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			if _, err := unix.InotifyAddWatch(fd, v.r.Views[0].Upper, unix.IN_OPEN|unix.IN_CLOSE|unix.IN_ONLYDIR); err != nil {
				t.Fatal(err)
			}
			res, err := set.Discard(t.Context(), []string{c.path})
			if err != nil || len(res.Done) != c.changes || res.Left != 0 {
				t.Fatalf("%+v, %v", res, err)
			}
			opened := 0
			for buf := make([]byte, 64<<10); ; {
				n, err := unix.Read(fd, buf)
				if err == unix.EAGAIN {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				for rest := buf[:n]; len(rest) > 0; {
					// What is closed is told too, or the same twice would be told once (inotify(7)).
					if binary.NativeEndian.Uint32(rest[4:])&unix.IN_OPEN != 0 {
						opened++
					}
					rest = rest[unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(rest[12:])):]
				}
			}
			if opened > c.most {
				t.Errorf("the top of the view was opened %d times for %d changes", opened, c.changes)
			}
		})
	}
}
