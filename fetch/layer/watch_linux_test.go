package layer_test

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cove/fetch/layer"
	"cove/fetch/layer/stage"
	"cove/userns"
	"cove/userns/usernstest"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if os.Args[0] == layer.StageName {
		stage.Main()
	}
	os.Exit(m.Run())
}

// start starts a stage in a folder of its own.
func start(t *testing.T) (*layer.Session, string) {
	t.Helper()
	dir := t.TempDir()
	m := usernstest.IDMap(t, 0)
	if os.Getuid() == 0 {
		if err := os.Chown(dir, usernstest.FirstID, usernstest.FirstID); err != nil {
			t.Fatal(err)
		}
	}
	s, err := layer.Start(context.Background(), m, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.Close()
		again, err := layer.Start(context.Background(), m, dir)
		if err == nil {
			err = errors.Join(again.Remove(layer.Place{Name: "l"}), again.Close())
		}
		if err != nil {
			t.Error(err)
		}
	})
	if err := os.Mkdir(dir+"/l", 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		if err := os.Chown(dir+"/l", 1879048192, 1879048192); err != nil {
			t.Fatal(err)
		}
	}
	return s, dir + "/l"
}

// endless is a tar that does not end: small entries, for ever.
func endless(t *testing.T) io.Reader {
	pr, pw := io.Pipe()
	t.Cleanup(func() { pr.Close() })
	go func() {
		w := tar.NewWriter(pw)
		for i := 0; ; i++ {
			if err := w.WriteHeader(&tar.Header{Name: fmt.Sprint("d", i%1000), Mode: 0o755, Typeflag: tar.TypeDir}); err != nil {
				return
			}
		}
	}()
	return pr
}

// A stage that takes more of the processor than it may is ended, and says so.
func TestProcessorLimit(t *testing.T) {
	defer layer.SetWatch(time.Minute, 20*time.Millisecond)()
	s, _ := start(t)
	_, err := s.Unpack(layer.UnpackRequest{Limits: layer.Limits{CPUSeconds: 1}, At: layer.Place{Name: "l"}}, endless(t))
	var lim *layer.LimitError
	if !errors.As(err, &lim) || lim.What != "processor" || lim.Max != 1 {
		t.Fatalf("%v", err)
	}
	if _, err := s.Unpack(layer.UnpackRequest{At: layer.Place{Name: "l"}}, strings.NewReader("")); !errors.As(err, &lim) {
		t.Errorf("afterwards: %v", err)
	}
}

// One that does nothing, here since it is stopped, is ended too, whichever call it is.
func TestStuckStage(t *testing.T) {
	for name, call := range map[string]func(*layer.Session) error{
		"unpack": func(s *layer.Session) error {
			_, err := s.Unpack(layer.UnpackRequest{At: layer.Place{Name: "l"}}, endless(t))
			return err
		},
		"unpack, all sent": func(s *layer.Session) error {
			_, err := s.Unpack(layer.UnpackRequest{At: layer.Place{Name: "l"}}, strings.NewReader(strings.Repeat("\x00", 1024)))
			return err
		},
		"remove": func(s *layer.Session) error { return s.Remove(layer.Place{Name: "l"}) },
	} {
		t.Run(name, func(t *testing.T) {
			defer layer.SetWatch(300*time.Millisecond, 20*time.Millisecond)()
			s, _ := start(t)
			if err := unix.Kill(s.Pid(), unix.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			if err := call(s); err == nil || !strings.Contains(err.Error(), "it has done nothing for") {
				t.Fatalf("%v", err)
			}
		})
	}
}

// It is not stuck while it has nothing to do: when the wire is silent, or what lies below takes its time.
func TestWaitingIsNotStuck(t *testing.T) {
	defer layer.SetWatch(1500*time.Millisecond, 50*time.Millisecond)()
	s, dir := start(t)
	pr, pw := io.Pipe()
	go func() {
		w := tar.NewWriter(pw)
		for i := range 2 {
			time.Sleep(time.Duration(i) * 2 * time.Second)
			if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("d/f%d", i), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
				return
			}
		}
		pw.CloseWithError(w.Close())
	}()
	slowly := func() ([]layer.Place, error) {
		time.Sleep(2 * time.Second)
		return nil, nil
	}
	if _, err := s.Unpack(layer.UnpackRequest{At: layer.Place{Name: "l"}, Below: slowly}, pr); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir + "/d/f1"); err != nil {
		t.Error(err)
	}
	time.Sleep(1700 * time.Millisecond)
	if err := s.Remove(layer.Place{Name: "l"}); err != nil {
		t.Error(err)
	}
}

// A folder that is copied is the one whose path was looked at: a link that was put on its way since is not followed.
func TestCopyTreeLink(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"real", "real/in", "to"} {
		if err := os.Mkdir(dir+"/"+d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(dir+"/real/in/file", nil, 0o600), os.Symlink("real", dir+"/link")); err != nil {
		t.Fatal(err)
	}
	m := userns.Single(uint32(os.Geteuid()), uint32(os.Getegid()), 0, 0)
	if err := layer.CopyTree(t.Context(), m, dir+"/link/in", dir+"/to", nil); !errors.Is(err, unix.ELOOP) && (err == nil || !strings.Contains(err.Error(), unix.ELOOP.Error())) {
		t.Errorf("through a link: %v", err)
	}
	if got, _ := os.ReadDir(dir + "/to"); len(got) > 0 {
		t.Errorf("copied through a link: %v", got)
	}
	if err := layer.CopyTree(t.Context(), m, dir+"/real/in", dir+"/to", nil); err != nil {
		t.Errorf("without a link: %v", err)
	}
}

// No thread of the stage keeps a group of the caller's: what it may do is for the mapping to say. setgroups(2) is of the
// calling thread alone.
func TestGroupsDropped(t *testing.T) {
	if os.Getuid() == 0 { // others have the groups that they have
		had, err := syscall.Getgroups()
		if err == nil {
			err = syscall.Setgroups([]int{4343})
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := syscall.Setgroups(had); err != nil {
				t.Error(err)
			}
		}()
	}
	s, _ := start(t)
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", s.Pid()))
	if err != nil || len(tasks) < 2 {
		t.Fatalf("%v, %v", tasks, err)
	}
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(b), "\nGroups:\t \n") {
			t.Errorf("%s:\n%s", task, b)
		}
	}
}
