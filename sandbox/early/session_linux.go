package early

import (
	"strconv"
	"syscall"

	"cove/userns/fork"
)

// Session is a connection to a sandbox's socket on which a session was asked for.
type Session struct {
	Conn int
	Dir  string // the sandbox's directory; its last element is the ID
	// Same says that the sandbox was started by this very program: after the request, the connection carries package wire's bytes.
	Same bool

	name     string // that the sandbox was asked for by
	dev, ino uint64 // of Dir
}

// asked is the session that was asked for; nil when none was.
var asked *Session

// sandboxOf is the sandbox that the command line of an exec names. Where options come first it takes more to know.
func sandboxOf(args []string) (name string, ok bool) {
	if len(args) < 4 || args[1] != "exec" || len(args[0]) > 5 && args[0][:5] == "cove-" {
		return "", false
	}
	name = args[2]
	if name == "" || name[0] == '-' || name[0] == '.' {
		return "", false
	}
	for i := range len(name) {
		if name[i] == '/' {
			return "", false
		}
	}
	return name, true
}

// ask connects to the sandbox of that name or ID, where there is such a one below $XDG_RUNTIME_DIR, and asks it for a session: its
// parent and its init, which have to wake for that, have it ready while the packages of this process are initialised. Whether the
// directory is to be trusted is seen by whoever takes it; until then nothing is sent but this.
func ask(name string) *Session {
	dir, _ := syscall.Getenv("XDG_RUNTIME_DIR")
	if dir == "" || dir[0] != '/' {
		return nil
	}
	s := &Session{Dir: dir + "/cove/sandboxes/" + name, name: name}
	at, err := openDir(s.Dir)
	if err != nil {
		var id, program string
		if id, program = readName(dir + "/cove/names/" + name); id == "" {
			return nil
		}
		s.Dir, s.Same = dir+"/cove/sandboxes/"+id, program != "" && program == fork.Program()
		if at, err = openDir(s.Dir); err != nil {
			return nil
		}
	}
	defer func() { _ = syscall.Close(at) }()
	var st syscall.Stat_t
	if err := syscall.Fstat(at, &st); err != nil || int(st.Uid) != syscall.Geteuid() {
		return nil
	}
	s.dev, s.ino = uint64(st.Dev), st.Ino
	if s.Conn, err = syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0); err != nil {
		return nil
	}
	// By the descriptor, since a path has to fit 108 bytes (unix(7)). A parent that has too many to answer is waited for later.
	err = syscall.Connect(s.Conn, &syscall.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(at) + "/sock"})
	if err == nil {
		_, err = syscall.SendmsgN(s.Conn, s.request(), nil, nil, syscall.MSG_NOSIGNAL)
	}
	if err != nil {
		s.Close()
		return nil
	}
	return s
}

func openDir(name string) (int, error) {
	const path = 0x200000 // O_PATH
	return syscall.Open(name, path|syscall.O_DIRECTORY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
}

// readName reads the link that package sandbox makes for a name: the ID, and after a colon the program that started it.
func readName(file string) (id, program string) {
	var to [200]byte
	n, err := syscall.Readlink(file, to[:])
	if err != nil || n == len(to) {
		return "", ""
	}
	for i := range n {
		if to[i] == ':' {
			return string(to[:i]), string(to[i+1 : n])
		}
	}
	return string(to[:n]), ""
}

// request is what the parent of a sandbox is sent for a session: a frame of package fdpass without descriptors, with package sandbox's request.
func (s *Session) request() []byte {
	body := `{"session":true}`
	if s.Same {
		body = `{"session":true,"program":"` + fork.Program() + `"}`
	}
	return append([]byte{0, 0, 0, byte(len(body)), 0, 0, 0, 0}, body...)
}

// TakeSession hands over the session that was asked for with the sandbox of that name, when its directory is in this one, nil where there is none.
func TakeSession(name, sandboxes string) *Session {
	s := asked
	asked = nil
	if s == nil {
		return nil
	}
	id := s.Dir
	for i := range s.Dir {
		if s.Dir[i] == '/' {
			id = s.Dir[i+1:]
		}
	}
	dir := sandboxes + "/" + id
	var st syscall.Stat_t
	if err := syscall.Lstat(dir, &st); err != nil || uint64(st.Dev) != s.dev || st.Ino != s.ino || s.name != name {
		s.Close()
		return nil
	}
	s.Dir = dir
	return s
}

// Close gives the session up. Of nil it is nothing.
func (s *Session) Close() {
	if s != nil {
		_ = syscall.Close(s.Conn)
	}
}
