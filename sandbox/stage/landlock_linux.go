package stage

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"unsafe"

	"cove/sandbox/signals"
	"cove/sandbox/spec"
	"cove/userns/fdpass"

	"golang.org/x/sys/unix"
)

// LandlockName is the stage that stands in for init where there are no namespaces. It talks as init does, starts every command
// by way of cove-confine, and ends what commands leave behind.
const LandlockName = "cove-landlock"

func landlockMain(control *fdpass.Conn) int {
	control.Same()
	limitSelf()
	var first spec.ToInit
	files, err := control.Recv(&first)
	if err != nil || first.Setup == nil || first.Setup.Spec == nil || first.Setup.Spec.Landlock == nil {
		return 1 // the parent is gone
	}
	i := &initStage{control: control, spec: first.Setup.Spec}
	if err := i.setUpLandlock(first.Setup.Filter); err != nil {
		_ = control.Send(spec.FromInit{Failed: failed(err)})
		return 1
	}
	if err := control.Send(spec.FromInit{Ready: true}); err != nil {
		return 1
	}
	_, own := mainFiles(first.Setup, files)
	return i.serve(first.Setup.Main, own)
}

func (i *initStage) setUpLandlock(filter []byte) error {
	resetSignals()
	signals.IgnoreHandled()
	unix.Umask(0o022)
	resetPersonality()
	// What a command leaves running becomes a child of this process, and ends with it.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("adopt what commands leave: %w", err)
	}
	// landlock keeps what is in a domain from tracing what is not; this keeps other programs of the user's out too.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("close the stage's memory: %w", err)
	}
	i.endAll = endDescendants
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, unix.SIGTERM) // of the parent, or because it died
	go func() {
		<-asked
		endDescendants()
		os.Exit(1)
	}()
	rules, err := newRuleset(i.spec.Landlock)
	if err != nil {
		return err
	}
	i.confine = &confinement{rules: os.NewFile(uintptr(rules), "landlock ruleset"), filter: filter}
	return nil
}

// privately has a command use the run's own folder where nothing else was said: what a sandbox has at the usual places
// is the host's own there.
func privately(p *spec.Process, l *spec.Landlock) *spec.Process {
	if l == nil {
		return p
	}
	own := *p
	if own.Home == "" {
		own.Home = l.Private + "/home"
	}
	if own.Cwd == "" {
		own.Cwd = own.Home
	}
	own.Env = append([]spec.Arg{"TMPDIR=" + spec.Arg(l.Private) + "/tmp"}, own.Env...)
	return &own
}

// The rights of landlock(7), and the ABI that has them first. x/sys has the system calls' numbers alone.
const (
	fsExecute   = 1 << 0
	fsWriteFile = 1 << 1
	fsReadFile  = 1 << 2
	fsReadDir   = 1 << 3
	fsABI1      = 1<<13 - 1 // these, and removing and making of every kind
	fsRefer     = 1 << 13   // ABI 2: links and renames between folders
	fsTruncate  = 1 << 14   // ABI 3
	fsIoctlDev  = 1 << 15   // ABI 5

	netBindTCP    = 1 << 0 // ABI 4
	netConnectTCP = 1 << 1

	scopeSignal = 1 << 1 // ABI 6, with landlockScopeAbstract

	fsOfFiles = fsExecute | fsWriteFile | fsReadFile | fsTruncate | fsIoctlDev // what a rule for what is no folder may hold
	fsRead    = fsExecute | fsReadFile | fsReadDir
)

// rulesetOf is what landlock_create_ruleset takes of an ABI: everything that it can close.
func rulesetOf(l *spec.Landlock) (attr [3]uint64, size uintptr) {
	fsAll, size := uint64(fsABI1), uintptr(8)
	if l.ABI >= 2 {
		fsAll |= fsRefer
	}
	if l.ABI >= 3 {
		fsAll |= fsTruncate
	}
	if l.ABI >= 4 {
		size = 16
		if !l.HostNetwork {
			attr[1] = netBindTCP | netConnectTCP
		}
	}
	if l.ABI >= 5 {
		fsAll |= fsIoctlDev
	}
	if l.ABI >= 6 {
		size = 24
		attr[2] = landlockScopeAbstract | scopeSignal
	}
	attr[0] = fsAll
	return attr, size
}

// newRuleset makes the domain's rules. It is landlock by its system calls, which are three: the library that there is
// makes a domain of rules at once and for all threads, with a signal to each, and here both are apart.
func newRuleset(l *spec.Landlock) (int, error) {
	attr, size := rulesetOf(l)
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return -1, fmt.Errorf("landlock_create_ruleset: %w", errno)
	}
	rules := int(fd)
	for _, g := range l.Grants {
		if err := allow(rules, attr[0], g); err != nil {
			_ = unix.Close(rules)
			return -1, fmt.Errorf("grant %q: %w", g.Path, err)
		}
	}
	return rules, nil
}

// allow adds the rule of a grant, whose rights hold for everything below it.
func allow(rules int, handled uint64, g spec.Grant) error {
	fd, err := openGrant(g)
	if g.Optional && (err == unix.ENOENT || err == unix.EACCES) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	rights := uint64(fsRead)
	if g.Write {
		rights = handled
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= fsOfFiles
	}
	// struct landlock_path_beneath_attr is packed: 12 bytes.
	var rule [12]byte
	*(*uint64)(unsafe.Pointer(&rule[0])) = rights & handled
	*(*int32)(unsafe.Pointer(&rule[8])) = int32(fd)
	const pathBeneath = 1 // LANDLOCK_RULE_PATH_BENEATH
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(rules), pathBeneath, uintptr(unsafe.Pointer(&rule)), 0, 0, 0); errno != 0 {
		return fmt.Errorf("landlock_add_rule: %w", errno)
	}
	return nil
}

// openGrant opens what is granted. What was granted because it lies beneath a folder must not be led out of it by a
// link that something put there since.
func openGrant(g spec.Grant) (int, error) {
	if g.Beneath == "" {
		return unix.Open(string(g.Path), unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	dir, err := unix.Open(string(g.Beneath), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	rel := strings.TrimPrefix(strings.TrimPrefix(string(g.Path), string(g.Beneath)), "/")
	if rel == "" {
		rel = "."
	}
	fd, err := unix.Openat2(dir, rel, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS})
	if errors.Is(err, unix.EXDEV) {
		return -1, fmt.Errorf("stay beneath %q: %w", g.Beneath, err)
	}
	return fd, err
}
