// Package early starts the init stage of `cove run` before the rest of cove is ready to say what it is
// for. Making namespaces and starting a program in them takes as long as the initialisation of the
// packages that a command needs and the reading of the profile; done beside each other, a quarter of a
// short run's time is gone. What is started has no ids and does nothing until it is told what;
// when nobody takes it, it ends with this process.
//
// It imports little, so that its turn in the order of initialisation comes early (see package stage).
package early

import (
	"os"
	"slices"
	"strconv"

	"cove/sandbox/stage"
	"cove/sandbox/trace"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// Namespaces are those of a sandbox, besides the user namespace that has them; without CLONE_NEWNET
// it is on the host's network. The cgroup namespace comes later: its root is the group of whoever makes it.
const Namespaces uintptr = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET

// initEnv is init's environment: what spares it time before its first line. With one processor Go's runtime starts half
// as many threads; with a time zone, package toml does not read /etc/localtime; and without that instruction package
// snapref, of the decompressors, does not compute checksum tables with it, which takes longer than without.
var initEnv = []string{"GOMAXPROCS=1", "TZ=", "GODEBUG=cpu.sse42=off"}

// Config is how a sandbox's init is started.
func Config(namespaces uintptr) userns.Config {
	cfg := userns.Config{Stage: stage.InitName, Namespaces: namespaces, Env: slices.Clone(initEnv)}
	if tracing != nil {
		cfg.Files = []*os.File{tracing}
		cfg.Env = append(cfg.Env, trace.Descriptor+"="+strconv.Itoa(userns.ConnFD+1))
	}
	return cfg
}

// started yields the stage, or nil when it could not be started; nil when none was tried.
var started chan *userns.Child

// tracing is where the steps are written down, for init to do the same.
var tracing *os.File

func init() {
	tracing = trace.Open("parent")
	trace.Step("began")
	if !wanted(os.Args) {
		return
	}
	started = make(chan *userns.Child, 1)
	go func() {
		// Why it failed is found out by whoever finds nothing to take, and tries again.
		child, _ := userns.Fork(Config(Namespaces))
		trace.Step("forked init")
		started <- child
	}()
}

// wanted tells the command line of a run that will want a sandbox. To be wrong costs time and nothing else.
func wanted(args []string) bool {
	if len(args) < 3 || args[1] != "run" {
		return false
	}
	options := args[2:]
	if end := slices.Index(options, "--"); end >= 0 {
		options = options[:end]
	}
	return !slices.ContainsFunc(options, func(o string) bool { return o == "--dry-run" || o == "--help" || o == "-h" })
}

// Take hands over the stage that was started, when it has these namespaces; nil when there is none.
func Take(namespaces uintptr) *userns.Child {
	if started == nil {
		return nil
	}
	child := <-started
	started = nil
	if child != nil && namespaces != Namespaces {
		child.Discard()
		child = nil
	}
	return child
}
