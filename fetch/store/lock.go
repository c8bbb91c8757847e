package store

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// flock(2) cannot be waited for and given up at once, so waiting is asking again.
const (
	pauseFirst = 2 * time.Millisecond
	pauseMost  = 50 * time.Millisecond
)

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// tryLock takes a flock on path, making the file when it is not there. nil: another has it.
// Locked files are unlinked only by who holds them exclusively, so that a lock on a file that
// is still at its path is the lock.
func tryLock(path string, how int) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		ok, err := flock(f, how)
		if err != nil || !ok {
			f.Close()
			return nil, err
		}
		if same(f, path) {
			return f, nil
		}
		f.Close()
	}
}

// tryLockDir is tryLock for a directory, which must be there.
func tryLockDir(path string) (*os.File, error) {
	// Every start tries that of each sandbox beside it: a plain descriptor takes fewer system calls.
	fd, err := openDir(path)
	if err == unix.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == unix.EWOULDBLOCK {
		return nil, unix.Close(fd)
	}
	f := os.NewFile(uintptr(fd), path)
	ok, err := flock(f, unix.LOCK_EX)
	if err != nil || !ok || !same(f, path) {
		f.Close()
		return nil, err
	}
	return f, nil
}

func openDir(path string) (fd int, err error) {
	for {
		if fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != unix.EINTR {
			return fd, err
		}
	}
}

func flock(f *os.File, how int) (bool, error) {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch err {
		case nil:
			return true, nil
		case unix.EINTR:
			continue
		case unix.EWOULDBLOCK:
			return false, nil
		}
		return false, &os.PathError{Op: "flock", Path: f.Name(), Err: err}
	}
}

func same(f *os.File, path string) bool {
	a, err1 := f.Stat()
	b, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// waitLock is tryLock that waits as long as ctx lets it.
func waitLock(ctx context.Context, path string, how int) (*os.File, error) {
	for pause := pauseFirst; ; pause = min(2*pause, pauseMost) {
		f, err := tryLock(path, how)
		if err != nil || f != nil {
			return f, err
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}
