// Command probe is an attacker: it runs inside a sandbox and tries every way out, and every look out, that its author
// could think of. Each attempt is a check with a name, the promise that it belongs to, and a verdict.
//
//	probe lay [OPTIONS] -- TOOL ARGS...    on the host: puts bait out, runs the tool, judges what happened outside too
//	probe try --bait JSON [--json]         what the tool is to run inside; @BAIT@ among ARGS stands for the JSON
//	probe table TOOL=FILE...               results of lay --json side by side
//
// Some of what a sandbox must not reach can only be recognised by who put it there: a process, a socket, a key, a
// segment of shared memory, a descriptor. That is the bait. See README.md beside it.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The promises, by the short names that the table has.
const (
	outside = "outside" // only what is granted is there: no process, file, socket, memory, key, descriptor, variable of the host
	rights  = "rights"  // capabilities, no_new_privs, seccomp, on every process; no way to more
	kernel  = "kernel"  // system calls that sandboxes have been left by are refused before the kernel looks at them
	tool    = "tool"    // the tool's own file and processes can be neither written, read, nor replaced
	system  = "system"  // /proc, /sys and /dev show and take nothing that is not the sandbox's
	network = "network" // nothing but what is granted
	after   = "after"   // looked at from outside, when it is over: nothing was changed, nothing is left
)

// result is one check's outcome.
type result struct {
	Name    string `json:"name"`
	Promise string `json:"promise"`
	Verdict string `json:"verdict"`
	Why     string `json:"why"`
}

// The verdicts.
const (
	Held    = "held"
	Open    = "open"
	Granted = "granted" // it is open because it was asked for
	Cannot  = "cannot be tried"
)

// check is one attempt. It says what came of it by held, open, granted or cannot.
type check struct {
	name, promise string
	try           func(b *bait) (verdict, why string)
}

func held(format string, a ...any) (string, string)    { return Held, fmt.Sprintf(format, a...) }
func open(format string, a ...any) (string, string)    { return Open, fmt.Sprintf(format, a...) }
func granted(format string, a ...any) (string, string) { return Granted, fmt.Sprintf(format, a...) }
func cannot(format string, a ...any) (string, string)  { return Cannot, fmt.Sprintf(format, a...) }

// checks are all there are. Those of here run first, in the very process that the tool started; the others each in a
// child, which may be killed for trying.
func checks() []check {
	return slices.Concat(hereChecks(), outsideChecks(), ipcChecks(), toolChecks(), systemChecks(), rightsChecks(), kernelChecks(), networkChecks())
}

func main() {
	before := firstLook()
	if len(os.Args) < 2 {
		usage()
	}
	switch os.Args[1] {
	case "try":
		tryAll(os.Args[2:], before)
	case "some":
		trySome(strings.Split(os.Args[2], ","), os.Args[3])
	case "lay":
		os.Exit(lay(os.Args[2:]))
	case "table":
		os.Exit(table(os.Args[2:]))
	case "list":
		for _, c := range checks() {
			fmt.Println(c.promise, c.name)
		}
	case "stand": // the bait's process: it waits to be found
		time.Sleep(time.Hour)
	default:
		if helper(os.Args[1:]) {
			return
		}
		usage()
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: probe lay [OPTIONS] -- TOOL ARGS... | try --bait JSON [--json] | table TOOL=FILE... | list")
	os.Exit(2)
}

// inherited is what firstLook saw, for the checks of here.
var inherited *look

func tryAll(args []string, l *look) {
	flags := flag.NewFlagSet("try", flag.ExitOnError)
	text := flags.String("bait", "{}", "what lay put out")
	asJSON := flags.Bool("json", false, "one JSON object a line")
	only := flags.String("only", "", "the checks whose names begin so")
	_ = flags.Parse(args)
	var b bait
	if err := json.Unmarshal([]byte(*text), &b); err != nil {
		fmt.Fprintln(os.Stderr, "probe: bait:", err)
		os.Exit(2)
	}
	inherited = l
	all := slices.DeleteFunc(checks(), func(c check) bool { return !strings.HasPrefix(c.name, *only) })
	here := map[string]bool{}
	for _, c := range hereChecks() {
		here[c.name] = true
	}
	for i := 0; i < len(all); {
		if c := all[i]; here[c.name] {
			r := result{Name: c.name, Promise: c.promise}
			r.Verdict, r.Why = c.try(&b)
			show(os.Stdout, r, *asJSON)
			i++
			continue
		}
		n := i + 1
		for !alone[all[i].name] && n < len(all) && !alone[all[n].name] {
			n++
		}
		for _, r := range inChild(all[i:n], *text) {
			show(os.Stdout, r, *asJSON)
			i++
		}
	}
}

func show(f *os.File, r result, asJSON bool) {
	if asJSON {
		line, _ := json.Marshal(r)
		fmt.Fprintln(f, string(line))
		return
	}
	fmt.Fprintf(f, "%-16s %-9s %-28s %s\n", r.Verdict, r.Promise, r.Name, r.Why)
}

// alone are the checks that change the process that they run in, so that it is of no use to others.
var alone = map[string]bool{
	"files-above-cwd": true, "files-chroot-breakout": true, "files-pivot": true, "files-uncover": true, "files-remount": true,
	"caps-raised": true, "no-new-privs-cleared": true, "seccomp-removed": true, "ids-unmapped": true, "ids-groups-dropped": true, "limits-raised": true,
	"priority-nice": true, "priority-realtime": true, "priority-io": true, "priority-oom": true, "init-killed": true,
	"call-personality": true, "call-iopl": true, "call-ioperm": true, "call-set_mempolicy": true, "call-vhangup": true, "call-mount": true, "call-setns": true,
	"namespace-unshare-user": true, "namespace-unshare-mnt": true, "namespace-unshare-pid": true, "namespace-unshare-net": true, "namespace-unshare-ipc": true,
	"namespace-unshare-uts": true, "namespace-unshare-cgroup": true, "namespace-unshare-time": true, "namespace-set-proc": true,
	"entry-int80-unshare": true, "entry-int80-personality": true, "entry-x32-unshare": true, "terminal-stolen": true,
}

// inChild runs checks in a process of their own: what they change ends with it, and a filter may kill it. It returns the
// results as far as it came, one at least.
func inChild(list []check, text string) []result {
	var names []string
	for _, c := range list {
		names = append(names, c.name)
	}
	fail := func(format string, a ...any) []result {
		return []result{{list[0].name, list[0].promise, Cannot, fmt.Sprintf(format, a...)}}
	}
	cmd := exec.Command("/proc/self/exe", "some", strings.Join(names, ","), text)
	cmd.Env = os.Environ()
	out, w, err := os.Pipe()
	if err != nil {
		return fail("pipe: %v", err)
	}
	defer out.Close()
	cmd.ExtraFiles = []*os.File{w}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fail("a process of its own: %v", err)
	}
	late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	var results []result
	for d := json.NewDecoder(out); len(results) < len(list); {
		var r result
		if d.Decode(&r) != nil {
			break
		}
		results = append(results, r)
	}
	err = cmd.Wait()
	if len(results) == len(list) {
		return results
	}
	c := list[len(results)]
	r := result{Name: c.name, Promise: c.promise}
	r.Verdict, r.Why = cannot("the attempt ended without a word: %v", err)
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !late.Stop() {
		r.Verdict, r.Why = cannot("it did not come back within a minute")
	} else if ok && ws.Signaled() && ws.Signal() == syscall.SIGSYS {
		r.Verdict, r.Why = held("killed for trying")
	}
	return append(results, r)
}

// trySome carries out checks and tells the results on descriptor 3.
func trySome(names []string, text string) {
	// A thread that a check changes is the one that it runs on, and the process's main one.
	runtime.LockOSThread()
	out := os.NewFile(3, "result")
	syscall.CloseOnExec(3)
	var b bait
	_ = json.Unmarshal([]byte(text), &b)
	for _, c := range checks() {
		if !slices.Contains(names, c.name) {
			continue
		}
		r, began := result{Name: c.name, Promise: c.promise}, time.Now()
		r.Verdict, r.Why = c.try(&b)
		if took := time.Since(began); took > time.Second {
			r.Why += fmt.Sprintf(" (%.1f s)", took.Seconds())
		}
		_ = json.NewEncoder(out).Encode(r)
	}
}
