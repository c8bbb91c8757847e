package homes

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"cove/sandbox/spec"
)

// Home is one project's.
type Home struct {
	Dir     string // absolute
	Project string // its folder; "" where that is not known
	// Gone says that no sandbox will use it again: there is no such folder any more, or it is another one.
	Gone bool
}

// record lies beside a home, as NAME.json.
type record struct {
	Project spec.Path `json:"project"` // of any bytes
	Born    string    `json:"born,omitempty"`
}

const suffix = ".json"

// of says what a project's home is called. Another folder that later has the same path is another project: with its
// files it would get what the first one's commands have left in the home, a .bashrc say. Where the file system knows
// no time of birth the path alone has to do.
func of(project string) (name string, r record, err error) {
	r = record{Project: spec.Path(project)}
	if r.Born, err = Born(project); err != nil {
		return "", r, fmt.Errorf("find the home of project %q: %w", project, err)
	}
	sum := sha256.Sum256([]byte(project + "\x00" + r.Born))
	return hex.EncodeToString(sum[:12]), r, nil
}

// Find is where the home of a project is, or will be.
func Find(data, project string) (string, error) {
	name, _, err := of(project)
	return filepath.Join(data, "homes", name), err
}

// Make makes it, where it is not there.
func Make(data, project string) (string, error) {
	name, r, err := of(project)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(data, "homes", name)
	if _, err := os.Lstat(dir); err == nil {
		return dir, nil
	}
	failed := func(err error) (string, error) { return "", fmt.Errorf("make the project's home: %w", err) }
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return failed(err)
	}
	// First the record: a home without one would belong to nobody.
	if err := r.write(dir + suffix); err != nil {
		return failed(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return failed(err)
	}
	return dir, nil
}

func (r record) write(name string) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".record-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// List is every home that there is.
func List(data string) ([]Home, error) {
	entries, err := os.ReadDir(filepath.Join(data, "homes"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the homes of projects: %w", err)
	}
	var all []Home
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		h := Home{Dir: filepath.Join(data, "homes", e.Name()), Gone: true}
		if b, err := os.ReadFile(h.Dir + suffix); err == nil {
			var r record
			if json.Unmarshal(b, &r) == nil && r.Project != "" {
				h.Project = string(r.Project)
				h.Gone = r.gone(e.Name())
			}
		}
		all = append(all, h)
	}
	return all, nil
}

// gone is only what can be seen to be: a folder that cannot be looked at may well be there.
func (r record) gone(name string) bool {
	now, _, err := of(string(r.Project))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) || isNotDir(err)
	}
	return now != name
}

// Forget removes what stands beside a home whose folder was removed.
func (h Home) Forget() error {
	if err := os.Remove(h.Dir + suffix); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
