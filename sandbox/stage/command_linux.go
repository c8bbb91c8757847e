package stage

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"syscall"

	"cove/sandbox/rootfs"
	"cove/sandbox/spec"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// command is a Process looked up inside: ready to be forked.
type command struct {
	path      string
	argv, env []string
	cwd       string
	uid, gid  uint32
	groups    []uint32
	single    bool // one id is mapped: groups cannot be set
}

// defaultPath is what a command is looked for in when its environment has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// prepare looks up the user, the working directory and the program inside the root file system.
func prepare(p *spec.Process, s *spec.Spec) (*command, error) {
	p = privately(p, s.Landlock)
	if len(p.Argv) == 0 || p.Argv[0] == "" {
		return nil, &execError{codeNotFound, errors.New("no command was given")}
	}
	u, err := lookUpUser(p.User)
	if err != nil {
		return nil, err
	}
	if _, ok := s.IDMap.HostUID(u.uid); !ok {
		return nil, fmt.Errorf("user %q: uid %d is not among the ids of this sandbox (%s)", p.User, u.uid, s.IDMap)
	}
	if _, ok := s.IDMap.HostGID(u.gid); !ok {
		return nil, fmt.Errorf("user %q: gid %d is not among the ids of this sandbox (%s)", p.User, u.gid, s.IDMap)
	}
	c := &command{uid: u.uid, gid: u.gid, groups: mappedGroups(u.groups, s.IDMap), single: s.IDMap.Single(), cwd: path.Clean("/" + string(p.Cwd))}
	for _, a := range p.Argv {
		c.argv = append(c.argv, string(a))
	}
	c.environment(p, u)
	if err := rootfs.CheckDir(c.cwd, p.MakeCwd, c.uid, c.gid); err != nil {
		return nil, fmt.Errorf("working directory %q: %w", c.cwd, err)
	}
	if c.path, err = c.find(); err != nil {
		return nil, err
	}
	if !s.Security.Seccomp.Programs32 {
		err = c.refuse32()
	}
	return c, err
}

// refuse32 tells of a 32-bit program what it could not say itself: none of its system calls would be answered.
func (c *command) refuse32() error {
	file := c.path
	if !path.IsAbs(file) {
		file = path.Join(c.cwd, file)
	}
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil // for execve to say
	}
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var head [5]byte
	const class32 = "\x7fELF\x01" // elf(5)
	if n, err := unix.Read(fd, head[:]); err == nil && string(head[:n]) == class32 {
		return &execError{codeNotRunnable, fmt.Errorf("%q: a 32-bit program, which the system call filter does not let run", c.argv[0])}
	}
	return nil
}

// mappedGroups leaves out what setgroups(2) would refuse: an image's /etc/group may name any number.
func mappedGroups(groups []uint32, m userns.IDMap) []uint32 {
	return slices.DeleteFunc(groups, func(gid uint32) bool {
		_, ok := m.HostGID(gid)
		return !ok
	})
}

// environment is the Process's, and HOME and USER where it has none.
func (c *command) environment(p *spec.Process, u *user) {
	has := map[string]bool{}
	for _, e := range p.Env {
		name, _, _ := strings.Cut(string(e), "=")
		has[name] = true
		c.env = append(c.env, string(e))
	}
	home := string(p.Home)
	if home == "" {
		home = u.home
	}
	if !has["HOME"] {
		c.env = append(c.env, "HOME="+home)
	}
	if !has["USER"] && u.name != "" {
		c.env = append(c.env, "USER="+u.name)
	}
}

func (c *command) getenv(name string) (string, bool) {
	for _, e := range c.env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v, true
		}
	}
	return "", false
}

// find looks the program up as execvp(3) does.
func (c *command) find() (string, error) {
	name := c.argv[0]
	if strings.Contains(name, "/") {
		return name, nil
	}
	list, ok := c.getenv("PATH")
	if !ok {
		list = defaultPath
	}
	var denied string
	for _, dir := range strings.Split(list, ":") {
		if !path.IsAbs(dir) {
			dir = path.Join(c.cwd, dir)
		}
		file := path.Join(dir, name)
		var st unix.Stat_t
		if err := unix.Stat(file, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		if st.Mode&0o111 != 0 {
			return file, nil
		}
		denied = file
	}
	if denied != "" {
		return "", &execError{codeNotRunnable, fmt.Errorf("%q: %q is not executable", name, denied)}
	}
	return "", &execError{codeNotFound, fmt.Errorf("%q: not found in PATH inside (%s)", name, quotePath(list))}
}

func quotePath(list string) string { return strings.Trim(fmt.Sprintf("%q", list), `"`) }

// attr is how the command is forked, without its descriptors.
func (c *command) attr() *syscall.ProcAttr {
	return &syscall.ProcAttr{
		Dir: c.cwd,
		Env: c.env,
		Sys: &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: c.uid, Gid: c.gid, Groups: c.groups, NoSetGroups: c.single},
		},
	}
}

// execError says which of not found and not runnable the failed exec of the command was.
func (c *command) execError(err error) error {
	var st unix.Stat_t
	file := c.path
	if !path.IsAbs(file) {
		file = path.Join(c.cwd, file)
	}
	missing := unix.Stat(file, &st) != nil
	switch {
	case missing && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)):
		return &execError{codeNotFound, fmt.Errorf("%q: %w", c.argv[0], err)}
	case errors.Is(err, unix.ENOENT):
		return &execError{codeNotRunnable, fmt.Errorf("%q: its interpreter or loader is not inside: %w", c.argv[0], err)}
	case errors.Is(err, unix.EACCES):
		return &execError{codeNotRunnable, fmt.Errorf("%q: %w (for uid %d, in the working directory %q)", c.argv[0], err, c.uid, c.cwd)}
	case errors.Is(err, unix.E2BIG):
		return &execError{codeNotRunnable, fmt.Errorf("%q: arguments and environment are too long: %w", c.argv[0], err)}
	}
	return &execError{codeNotRunnable, fmt.Errorf("%q: %w", c.argv[0], err)}
}
