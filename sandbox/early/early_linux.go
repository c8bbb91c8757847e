// Package early starts the init stage of `cove run`, and asks the sandbox of `cove exec` for a session, before the rest of cove is
// ready to say what it is for. Making namespaces and starting a program in them takes as long as the initialisation of the
// packages that a command needs and the reading of the profile; done beside each other, a quarter of a
// short run's time is gone. What is started has no ids and does nothing until it is told what;
// when nobody takes it, it ends with this process.
//
// It imports syscall and next to nothing else, so that its turn in the order of initialisation comes among the first:
// package os, with which the waiting begins, comes behind it.
package early

import (
	"runtime"
	"syscall"

	// First of all it is seen whether there is enough of everything.
	_ "cove/sandbox/need"
	"cove/sandbox/trace"
	"cove/userns/fork"
)

// InitName is argv[0] of the stage.
const InitName = "cove-init"

// Namespaces are those of a sandbox, besides the user namespace that has them; without CLONE_NEWNET
// it is on the host's network. The cgroup namespace comes later: its root is the group of whoever makes it.
const Namespaces uintptr = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS | syscall.CLONE_NEWNET

// Stage is a started init stage, and the parent's end of its socket.
type Stage struct {
	Forked     *fork.Child
	Conn       int
	Namespaces uintptr
}

// started yields the stage, or nil when it could not be started; nil when none was tried.
var started chan *Stage

func init() {
	args := fork.Args()
	if len(args) > 0 && args[0] == InitName {
		dropRest()
		return
	}
	trace.Open("parent")
	trace.Step("began")
	if name, ok := sandboxOf(args); ok {
		asked = ask(name)
		return
	}
	if !wanted(args) {
		return
	}
	started = make(chan *Stage, 1)
	go func() {
		// Why it failed is found out by whoever finds nothing to take, and tries again.
		stage, _ := start(namespacesOf(args))
		trace.Step("forked init")
		started <- stage
	}()
	// The first to be bound to its thread has one more started, from which others are cloned then. The goroutine above
	// would be the first, and the fork would wait for it.
	runtime.LockOSThread()
	runtime.UnlockOSThread()
}

// wanted tells the command line of a run that will want a sandbox. To be wrong costs time and nothing else.
func wanted(args []string) bool {
	// Called by the name of a stage it is one, whatever else the command line says, and takes descriptor 3 for its own.
	if len(args) < 3 || args[1] != "run" || len(args[0]) > 5 && args[0][:5] == "cove-" {
		return false
	}
	for _, o := range args[2:] {
		switch o {
		case "--":
			return true
		case "--dry-run", "--help", "-h":
			return false
		}
	}
	return true
}

// namespacesOf are those that a run with this command line will want; what a profile says is not known.
func namespacesOf(args []string) uintptr {
	for i, o := range args {
		switch {
		case o == "--":
			return Namespaces
		case o == "--network=host", o == "--network" && i+1 < len(args) && args[i+1] == "host":
			return Namespaces &^ syscall.CLONE_NEWNET
		}
	}
	return Namespaces
}

// start starts an init stage in these namespaces. Its ids are still to be mapped.
func start(namespaces uintptr) (*Stage, error) {
	path, ok := fork.Executable()
	if !ok {
		return nil, syscall.ENOENT
	}
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = syscall.Close(fds[1]) }()
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		_ = syscall.Close(fds[0])
		return nil, err
	}
	defer func() { _ = syscall.Close(null) }()
	attr := &syscall.ProcAttr{Dir: "/", Env: Env(), Sys: fork.InNamespaces(namespaces, true),
		Files: []uintptr{uintptr(null), uintptr(null), uintptr(null), uintptr(fds[1])}}
	if file := trace.File(); file >= 0 {
		attr.Env = append(attr.Env, trace.Descriptor+"=4")
		attr.Files = append(attr.Files, uintptr(file)) // userns.ConnFD + 1
	}
	child, err := fork.Exec(path, []string{InitName}, attr, Slack)
	if err != nil {
		_ = syscall.Close(fds[0])
		return nil, err
	}
	return &Stage{child, fds[0], namespaces}, nil
}

// dropRest closes what init has inherited besides its socket and the file of a trace. Package time opens the time zone's
// file without O_CLOEXEC, in the parent and just when init is forked there; whatever init has, the commands inside get.
func dropRest() {
	first := 4 // userns.ConnFD + 1
	if _, traced := syscall.Getenv(trace.Descriptor); traced {
		first++
	}
	fork.CloseFrom(first)
}

// Slack is how late init's timers may be, in nanoseconds. While any thread of a program is busy Go's runtime looks after them all
// every 20 microseconds, or 70 with the usual slack; init has little that would need it, and each look costs a timer and a
// change of threads. The commands have the caller's slack.
const Slack = 200_000

// Env is init's environment: what spares it time before its first line. With one processor Go's runtime starts half as
// many threads; with a time zone, package toml does not read /etc/localtime; and without that instruction package
// snapref, of the decompressors, does not compute checksum tables with it, which takes longer than without.
func Env() []string {
	return append([]string{"GOMAXPROCS=1", "TZ=", "GODEBUG=cpu.sse42=off"}, raceEnv()...)
}

// Take hands over the stage that was started, nil when there is none.
func Take() *Stage {
	if started == nil {
		return nil
	}
	stage := <-started
	started = nil
	return stage
}
