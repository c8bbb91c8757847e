package sandbox

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// verdict is how a sandbox ended, when one of its limits ended it. The parent knows; other coves that have a command
// in the sandbox read it from a file in its directory, which is empty until then. They open that when they come: at
// the end the directory goes.
type verdict struct {
	Code int    `json:"code"`
	Text string `json:"text"`
}

const verdictFile = "verdict.json"

// makeVerdict makes the empty file.
func (s *state) makeVerdict() error {
	return os.WriteFile(filepath.Join(s.dir, verdictFile), nil, 0o600)
}

func (s *state) writeVerdict(v verdict) {
	b, err := json.Marshal(v)
	if err != nil {
		return
	}
	// Of the file that is there: a new one would be read by nobody.
	f, err := os.OpenFile(filepath.Join(s.dir, verdictFile), os.O_WRONLY, 0)
	if err != nil {
		return
	}
	_, _ = f.Write(b)
	_ = f.Close()
}

// verdictFor is what a client has open to learn of a verdict. Both are nil in a sandbox without limits.
type verdictFor struct{ dir, file *os.File }

func listenVerdict(dir string) *verdictFor {
	f, err := os.Open(filepath.Join(dir, verdictFile))
	if err != nil {
		return &verdictFor{}
	}
	d, err := os.Open(dir)
	if err != nil {
		f.Close()
		return &verdictFor{}
	}
	return &verdictFor{dir: d, file: f}
}

func (l *verdictFor) close() {
	if l.file != nil {
		l.file.Close()
		l.dir.Close()
	}
}

// get is the verdict, nil where there is none. When the sandbox is lost the parent may be about to say so: it is waited
// for until it gives up its lock of the directory.
func (l *verdictFor) get(lost bool) *verdict {
	if l.file == nil {
		return nil
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		over := unix.Flock(int(l.dir.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil
		buf := make([]byte, 4096)
		n, _ := l.file.ReadAt(buf, 0)
		var v verdict
		if json.Unmarshal(buf[:n], &v) == nil {
			return &v
		}
		if !lost || over || time.Now().After(deadline) {
			return nil
		}
	}
}
