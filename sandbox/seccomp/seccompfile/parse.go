package seccompfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"cove/config"
	"cove/sandbox/seccomp"

	"golang.org/x/sys/unix"
)

// Error is every mistake in a file.
type Error struct{ Mistakes []string }

// maxMistakes bounds what is shown of a hostile file.
const maxMistakes = 20

func (e *Error) Error() string {
	list := e.Mistakes
	if n := len(list); n > maxMistakes {
		list = append(slices.Clone(list[:maxMistakes]), fmt.Sprintf("and %d mistakes more", n-maxMistakes))
	}
	return strings.Join(list, "\n")
}

// Parse reads a profile. The error is an *Error.
func Parse(data []byte) (*seccomp.Profile, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // a uint64 does not fit a float64
	var tree any
	err := d.Decode(&tree)
	if err == nil {
		if _, err = d.Token(); err == nil {
			err = errors.New("something follows the JSON value")
		} else if err == io.EOF {
			err = nil
		}
	}
	if err != nil {
		return nil, &Error{[]string{syntax(data, err)}}
	}
	p := &parser{}
	profile := p.profile(tree)
	if len(p.mistakes) > 0 {
		return nil, &Error{p.mistakes}
	}
	return profile, nil
}

// parser goes through a tree and collects what is wrong with it.
type parser struct{ mistakes []string }

func (p *parser) profile(tree any) *seccomp.Profile {
	top := p.object("", tree, "defaultAction", "defaultErrnoRet", "defaultErrno", "architectures", "archMap", "flags", "listenerPath", "listenerMetadata", "syscalls")
	if top == nil {
		return nil
	}
	out := &seccomp.Profile{}
	if _, ok := top["defaultAction"]; !ok {
		p.wrong("", "defaultAction is missing")
	} else {
		out.Default = p.action("", top, "defaultAction", "defaultErrno")
	}
	if top["archMap"] != nil && top["architectures"] != nil {
		p.wrong("", "architectures and archMap are two ways to say the same: want one of them")
	}
	out.Arches = append(p.archMap(top["archMap"]), p.architectures(top["architectures"])...)
	for i, flag := range p.texts("flags", top["flags"]) {
		// Load sets these two in any case.
		if flag != "SECCOMP_FILTER_FLAG_TSYNC" && flag != "SECCOMP_FILTER_FLAG_SPEC_ALLOW" {
			p.wrong(element("flags", i), "%s is not supported", strconv.QuoteToASCII(flag))
		}
	}
	for _, name := range []string{"listenerPath", "listenerMetadata"} {
		if text, ok := top[name]; ok && text != "" {
			p.wrong(name, "there is no listener in a sandbox")
		}
	}
	if _, ok := top["syscalls"]; !ok {
		return out
	}
	for i, one := range p.array("syscalls", top["syscalls"]) {
		out.Calls = append(out.Calls, p.rule(element("syscalls", i), one)...)
	}
	return out
}

var arches = map[string]seccomp.Arch{"SCMP_ARCH_X86_64": seccomp.AMD64, "SCMP_ARCH_X86": seccomp.I386,
	"SCMP_ARCH_AARCH64": seccomp.ARM64, "SCMP_ARCH_ARM": seccomp.ARM}

// otherArches are the rest of what libseccomp knows. X32 is never let in; the others are not this machine's.
var otherArches = []string{"SCMP_ARCH_X32", "SCMP_ARCH_NATIVE", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL",
	"SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC", "SCMP_ARCH_PPC64", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_S390", "SCMP_ARCH_S390X",
	"SCMP_ARCH_PARISC", "SCMP_ARCH_PARISC64", "SCMP_ARCH_RISCV64", "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_M68K", "SCMP_ARCH_SH", "SCMP_ARCH_SHEB"}

// arch reads the name of an architecture; ok is false for one that cove does not run on.
func (p *parser) arch(at string, tree any) (a seccomp.Arch, ok bool) {
	name := p.text(at, tree)
	if a, ok = arches[name]; !ok && name != "" && !slices.Contains(otherArches, name) {
		p.unknown(at, "architecture", name, append(slices.Sorted(maps.Keys(arches)), otherArches...), false)
	}
	return a, ok
}

// archMap is docker's: each native architecture, and what is filtered beside it.
func (p *parser) archMap(tree any) []seccomp.ArchMap {
	var out []seccomp.ArchMap
	for i, one := range p.array("archMap", tree) {
		at := element("archMap", i)
		m := p.object(at, one, "architecture", "subArchitectures")
		if m == nil {
			continue
		}
		native, ok := p.arch(member(at, "architecture"), m["architecture"])
		var subs []seccomp.Arch
		at = member(at, "subArchitectures")
		for j, sub := range p.array(at, m["subArchitectures"]) {
			if a, ok := p.arch(element(at, j), sub); ok && !slices.Contains(subs, a) && a != native {
				subs = append(subs, a)
			}
		}
		if ok {
			out = append(out, seccomp.ArchMap{Arch: native, SubArches: subs})
		}
	}
	return out
}

// pairs are the ways into one kernel.
var pairs = []seccomp.ArchMap{{Arch: seccomp.AMD64, SubArches: []seccomp.Arch{seccomp.I386}}, {Arch: seccomp.ARM64, SubArches: []seccomp.Arch{seccomp.ARM}}}

// architectures is OCI's: a list in which the native one may be left out.
func (p *parser) architectures(tree any) []seccomp.ArchMap {
	var has []seccomp.Arch
	for i, one := range p.array("architectures", tree) {
		if a, ok := p.arch(element("architectures", i), one); ok {
			has = append(has, a)
		}
	}
	var out []seccomp.ArchMap
	for _, pair := range pairs {
		if slices.Contains(has, pair.SubArches[0]) {
			out = append(out, pair)
		}
	}
	return out
}

var actions = map[string]seccomp.Action{"SCMP_ACT_ALLOW": seccomp.Allow, "SCMP_ACT_LOG": seccomp.Log, "SCMP_ACT_TRAP": seccomp.Trap,
	"SCMP_ACT_KILL": seccomp.KillThread, "SCMP_ACT_KILL_THREAD": seccomp.KillThread, "SCMP_ACT_KILL_PROCESS": seccomp.KillProcess,
	"SCMP_ACT_ERRNO": seccomp.Errno(0)}

const (
	actErrno = "SCMP_ACT_ERRNO"
	maxErrno = 4095 // MAX_ERRNO of the kernel
	eperm    = 1
)

// action reads an action, and the error number that belongs to SCMP_ACT_ERRNO: as errnoRet, and in podman's files also as
// errno, by name.
func (p *parser) action(at string, m map[string]any, name, errnoName string) seccomp.Action {
	text := p.text(member(at, name), m[name])
	errno := uint64(eperm)
	if number := m[errnoName+"Ret"]; number != nil {
		errno = p.number(member(at, errnoName+"Ret"), number, maxErrno)
	}
	if named := m[errnoName]; named != nil && named != "" {
		at := member(at, errnoName)
		word := p.text(at, named)
		n, ok := errnoNamed(word)
		if word != "" && !ok {
			p.wrong(at, "unknown error %s", strconv.QuoteToASCII(word))
		} else if m[errnoName+"Ret"] != nil && errno != n {
			p.wrong(at, "%s is %d, and %sRet is %d", word, n, errnoName, errno)
		}
		errno = n
	}
	a, ok := actions[text]
	switch {
	case text == "SCMP_ACT_TRACE" || text == "SCMP_ACT_NOTIFY":
		p.wrong(member(at, name), "%s: there is nobody in a sandbox to ask", text)
	case !ok && text != "":
		p.unknown(member(at, name), "action", text, slices.Sorted(maps.Keys(actions)), true)
	case text == actErrno:
		return seccomp.Errno(uint16(errno))
	}
	return a
}

// errnoNamed is the number of an error such as EPERM.
func errnoNamed(name string) (uint64, bool) {
	for n := range uint64(200) {
		if got := unix.ErrnoName(syscall.Errno(n)); got == name && got != "" {
			return n, true
		}
	}
	return 0, false
}

// rule reads one entry of syscalls. Conditions on the same argument are rules of their own, as runc has it: one of them is
// enough (opencontainers/runc issue 2735).
func (p *parser) rule(at string, tree any) []seccomp.ProfileRule {
	m := p.object(at, tree, "names", "name", "action", "errnoRet", "errno", "args", "comment", "includes", "excludes")
	if m == nil {
		return nil
	}
	out := seccomp.ProfileRule{}
	names := p.texts(member(at, "names"), m["names"])
	if one := m["name"]; one != nil && one != "" {
		if len(names) > 0 {
			p.wrong(at, "name and names are two ways to say the same: want one of them")
		}
		names = append(names, p.text(member(at, "name"), one))
	}
	if len(names) == 0 {
		p.wrong(at, "names no system call")
	}
	for _, name := range names {
		if name != "" && !known(name) {
			p.unknown(member(at, "names"), "system call", name, callNames(), false)
		}
	}
	out.Names = names
	if _, ok := m["action"]; !ok {
		p.wrong(at, "action is missing")
	} else {
		out.Action = p.action(at, m, "action", "errno")
	}
	if comment, ok := m["comment"]; ok && comment != nil {
		p.text(member(at, "comment"), comment)
	}
	out.Includes, out.Excludes = p.filter(member(at, "includes"), m["includes"]), p.filter(member(at, "excludes"), m["excludes"])
	args, again := p.args(member(at, "args"), m["args"])
	if !again {
		out.Args = args
		return []seccomp.ProfileRule{out}
	}
	var each []seccomp.ProfileRule
	for _, a := range args {
		one := out
		one.Args = []seccomp.Arg{a}
		each = append(each, one)
	}
	return each
}

// multiplexed are names that libseccomp has for what is one call on some architectures.
var multiplexed = []string{"recv", "send", "accept", "semop", "semget", "semctl", "semtimedop", "msgget", "msgsnd", "msgrcv", "msgctl", "shmat",
	"shmdt", "shmget", "shmctl"}

var callNames = sync.OnceValue(seccomp.Names)

func known(name string) bool { return seccomp.Known(name) || slices.Contains(multiplexed, name) }

var ops = map[string]seccomp.Op{"SCMP_CMP_NE": seccomp.NotEqual, "SCMP_CMP_LT": seccomp.Less, "SCMP_CMP_LE": seccomp.LessEqual,
	"SCMP_CMP_EQ": seccomp.Equal, "SCMP_CMP_GE": seccomp.GreaterEqual, "SCMP_CMP_GT": seccomp.Greater, "SCMP_CMP_MASKED_EQ": seccomp.MaskedEqual}

// args reads a rule's conditions; again says that two are on the same argument.
func (p *parser) args(at string, tree any) (out []seccomp.Arg, again bool) {
	for i, one := range p.array(at, tree) {
		at := element(at, i)
		m := p.object(at, one, "index", "value", "valueTwo", "op")
		if m == nil {
			continue
		}
		var a seccomp.Arg
		a.Index = int(p.number(member(at, "index"), m["index"], 5))
		if v, ok := m["value"]; ok {
			a.Value = p.number(member(at, "value"), v, 1<<64-1)
		} else {
			p.wrong(at, "value is missing")
		}
		if v, ok := m["valueTwo"]; ok {
			a.ValueTwo = p.number(member(at, "valueTwo"), v, 1<<64-1)
		}
		op, ok := ops[p.text(member(at, "op"), m["op"])]
		if text, isText := m["op"].(string); isText && !ok {
			p.unknown(member(at, "op"), "operator", text, slices.Sorted(maps.Keys(ops)), true)
		}
		a.Op = op
		again = again || slices.ContainsFunc(out, func(b seccomp.Arg) bool { return b.Index == a.Index })
		out = append(out, a)
	}
	return out, again
}

// filter reads the conditions under which a rule is one.
func (p *parser) filter(at string, tree any) seccomp.Filter {
	var f seccomp.Filter
	if tree == nil {
		return f
	}
	m := p.object(at, tree, "caps", "arches", "minKernel")
	if m == nil {
		return f
	}
	f.Caps, f.Arches = p.texts(member(at, "caps"), m["caps"]), p.texts(member(at, "arches"), m["arches"])
	for i, name := range f.Caps {
		if c := strings.TrimPrefix(name, "CAP_"); !slices.Contains(config.Capabilities, c) {
			var names []string
			for _, c := range config.Capabilities {
				names = append(names, "CAP_"+c)
			}
			p.unknown(element(member(at, "caps"), i), "capability", name, names, false)
		} else {
			f.Caps[i] = "CAP_" + c
		}
	}
	if v := m["minKernel"]; v != nil {
		at := member(at, "minKernel")
		text := p.text(at, v)
		major, minor, ok := strings.Cut(text, ".")
		a, err := strconv.ParseUint(major, 10, 8)
		b, err2 := strconv.ParseUint(minor, 10, 8)
		if text != "" && (!ok || err != nil || err2 != nil || a == 0 && b == 0) {
			p.wrong(at, "%s is not a kernel's version such as 5.12", strconv.QuoteToASCII(text))
		}
		f.MinKernel = seccomp.Version{int(a), int(b)}
	}
	return f
}
