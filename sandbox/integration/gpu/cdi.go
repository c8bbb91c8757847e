package gpu

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"cove/sandbox/integration"

	"go.yaml.in/yaml/v3"
)

// cdiFile is what a CDI file says, as far as it matters here. JSON is YAML, too.
type cdiFile struct {
	Kind    string `yaml:"kind"`
	Devices []struct {
		Name  string `yaml:"name"`
		Edits edits  `yaml:"containerEdits"`
	} `yaml:"devices"`
	Edits edits `yaml:"containerEdits"` // of each of its devices
}

type edits struct {
	Env   []string `yaml:"env"`
	Nodes []struct {
		Path     string `yaml:"path"`
		HostPath string `yaml:"hostPath"`
	} `yaml:"deviceNodes"`
	Mounts []struct {
		HostPath      string `yaml:"hostPath"`
		ContainerPath string `yaml:"containerPath"`
	} `yaml:"mounts"`
}

// The bounds of CDI files.
const (
	maxFile  = 1 << 20
	maxFiles = 64
	maxEdits = 1024
)

// cdi finds a device by its name, VENDOR/CLASS=NAME.
func (o Options) cdi(name string) (*integration.Devices, error) {
	kind, device, _ := strings.Cut(name, "=")
	var known []string
	for i := len(o.Dirs) - 1; i >= 0; i-- {
		entries, err := os.ReadDir(o.Dirs[i])
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: read CDI files: %w", key, err)
		}
		entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
			ext := filepath.Ext(e.Name())
			return ext != ".json" && ext != ".yaml" && ext != ".yml"
		})
		if len(entries) > maxFiles {
			return nil, fmt.Errorf("%s: %q holds %d CDI files, more than %d", key, o.Dirs[i], len(entries), maxFiles)
		}
		for _, e := range entries {
			file := filepath.Join(o.Dirs[i], e.Name())
			f, err := o.readCDI(file)
			if err != nil {
				return nil, fmt.Errorf("%s: CDI file %q: %w", key, file, err)
			}
			for _, d := range f.Devices {
				known = append(known, fmt.Sprintf("%q", f.Kind+"="+d.Name))
				if f.Kind != kind || d.Name != device {
					continue
				}
				found := &integration.Devices{}
				for _, e := range []edits{f.Edits, d.Edits} {
					if err := e.apply(found); err != nil {
						return nil, fmt.Errorf("%s: CDI file %q: %w", key, file, err)
					}
				}
				return found, nil
			}
		}
	}
	if known == nil {
		return nil, missing("`sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml` writes one for NVIDIA's", "%q: there is no CDI file in %s", name, strings.Join(o.Dirs, ", "))
	}
	return nil, missing("these are known: "+strings.Join(known[:min(20, len(known))], ", "), "no CDI file knows %q", name)
}

// readCDI reads a file that is root's or the caller's own.
func (o Options) readCDI(name string) (*cdiFile, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	case !ok || st.Uid != 0 && st.Uid != o.UID || info.Mode().Perm()&0o002 != 0:
		return nil, errors.New("it is somebody else's, or may be written by everybody")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	return parseCDI(data)
}

func parseCDI(data []byte) (*cdiFile, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("larger than %d bytes", maxFile)
	}
	var f cdiFile
	if err := yaml.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("not YAML or JSON as CDI has it: %q", err.Error())
	}
	for _, d := range f.Devices {
		if err := errors.Join(f.Edits.check(), d.Edits.check()); err != nil {
			return nil, err
		}
	}
	return &f, nil
}

// check refuses what would put something where it has no place.
func (e *edits) check() error {
	if len(e.Nodes)+len(e.Mounts)+len(e.Env) > maxEdits {
		return fmt.Errorf("more than %d things for one device", maxEdits)
	}
	for _, n := range e.Nodes {
		if !cleanPath(n.Path) || !strings.HasPrefix(n.Path, "/dev/") || n.HostPath != "" && !cleanPath(n.HostPath) {
			return fmt.Errorf("device node %q: want a clean path below /dev", n.Path)
		}
		for _, own := range []string{"pts", "shm", "mqueue", "fd", "stdin", "stdout", "stderr", "ptmx", "null", "zero", "full", "random", "urandom", "tty"} {
			if rest := strings.TrimPrefix(n.Path, "/dev/"); rest == own || strings.HasPrefix(rest, own+"/") {
				return fmt.Errorf("device node %q: that is the sandbox's own", n.Path)
			}
		}
	}
	for _, m := range e.Mounts {
		if !cleanPath(m.HostPath) || !cleanPath(m.ContainerPath) {
			return fmt.Errorf("mount of %q at %q: want clean absolute paths", m.HostPath, m.ContainerPath)
		}
		for _, own := range []string{"/proc", "/sys", "/dev"} {
			if m.ContainerPath == own || strings.HasPrefix(m.ContainerPath, own+"/") {
				return fmt.Errorf("mount at %q: that is the sandbox's own", m.ContainerPath)
			}
		}
	}
	for _, v := range e.Env {
		if name, _, ok := strings.Cut(v, "="); !ok || name == "" || strings.Contains(v, "\x00") {
			return fmt.Errorf("variable %q: want NAME=VALUE", v)
		}
	}
	return nil
}

func cleanPath(p string) bool {
	return path.IsAbs(p) && path.Clean(p) == p && p != "/" && !strings.Contains(p, "\x00")
}

// apply adds what is asked for. Sockets of the host's daemons are left out, and variables by which the dynamic loader is told what to load.
func (e *edits) apply(d *integration.Devices) error {
	for _, n := range e.Nodes {
		source := n.HostPath
		if source == "" {
			source = n.Path
		}
		d.Nodes = append(d.Nodes, integration.Bound{Source: source, Target: n.Path})
	}
	for _, m := range e.Mounts {
		info, err := os.Stat(m.HostPath)
		if err != nil {
			return missing("it was written for another version of the driver: make it anew, as by `nvidia-ctk cdi generate`", "it names %q: %v", m.HostPath, errors.Unwrap(err))
		}
		if info.Mode().IsRegular() || info.IsDir() {
			d.Mounts = append(d.Mounts, integration.Bound{Source: m.HostPath, Target: m.ContainerPath})
		}
	}
	for _, v := range e.Env {
		if !strings.HasPrefix(v, "LD_") && !strings.HasPrefix(v, "PATH=") {
			d.Env = append(d.Env, v)
		}
	}
	return nil
}
