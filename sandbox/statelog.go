package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// The logs of a sandbox.
const netLogName = "net.log"

// maxLog bounds a log's file: it lies in memory (XDG_RUNTIME_DIR).
const maxLog = 4 << 20

// oldLog is the file that a log's first part is moved to, in place of what that had.
func oldLog(name string) string { return name + ".1" }

// stateLog is a file in the sandbox's state, one JSON object a line. What is beyond maxLog goes to a second file.
type stateLog struct {
	mu   sync.Mutex
	dir  string
	name string
	file *os.File
	size int64
}

// newLog is a log that is begun with its first line.
func (b *box) newLog(name string) *stateLog { return &stateLog{dir: b.state.dir, name: name} }

// add writes a line. A log that cannot be written is no reason to stop what it tells of: what holds to its rules holds to
// them all the same.
func (l *stateLog) add(what any) {
	line, err := json.Marshal(what)
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.write(append(line, '\n'))
}

func (l *stateLog) write(line []byte) error {
	if l.file == nil || l.size > maxLog {
		if err := l.begin(); err != nil {
			return err
		}
	}
	n, err := l.file.Write(line)
	l.size += int64(n)
	return err
}

// begin opens the file, or a new one in its place.
func (l *stateLog) begin() error {
	path := filepath.Join(l.dir, l.name)
	if l.file != nil {
		l.file.Close()
		l.file = nil
		if err := os.Rename(path, filepath.Join(l.dir, oldLog(l.name))); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	l.file, l.size = f, 0
	return nil
}

func (l *stateLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
	l.dir = os.DevNull // what still comes is not written
}

// openLog opens a sandbox's log: what was moved out of the way first, which may be nil, then what is being written. ended
// tells whether the sandbox has ended since. Where there is no log yet, none says why.
func openLog(runtimeDir, sandbox, name string, none error) (old, now *os.File, ended func() bool, err error) {
	dir, r, err := find(runtimeDir, sandbox)
	if err != nil {
		return nil, nil, nil, err
	}
	now, err = os.Open(filepath.Join(dir, name))
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("sandbox %q: %w", r.Name, none)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	if old, err = os.Open(filepath.Join(dir, oldLog(name))); err != nil {
		old = nil
	}
	return old, now, func() bool { lives, err := alive(dir); return err != nil || !lives }, nil
}
