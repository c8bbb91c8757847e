package seccomp_test

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"cove/sandbox/seccomp"
	"cove/sandbox/seccomp/seccompfile"

	moby "github.com/moby/profiles/seccomp"
)

// Docker's own file is read as what was generated from the same data.
func TestDockersFile(t *testing.T) {
	text, err := json.Marshal(moby.DefaultProfile())
	if err != nil {
		t.Fatal(err)
	}
	p, err := seccompfile.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	for i := range p.Calls {
		slices.Sort(p.Calls[i].Names)
	}
	for _, c := range []seccomp.Conditions{
		{Native: seccomp.AMD64, Caps: seccomp.PreparedCaps, Kernel: seccomp.Version{6, 1}},
		{Native: seccomp.ARM64, Caps: seccomp.AllCaps, Kernel: seccomp.Version{6, 1}},
		{Native: seccomp.ARM64, Kernel: seccomp.Version{4, 7}},
	} {
		got, want := seccomp.New(p, c), seccomp.New(seccomp.Docker, c)
		if a, b := compiled(t, got), compiled(t, want); !slices.Equal(a, b) {
			t.Errorf("%+v:\n%+v\nwant\n%+v", c, got, want)
		}
	}
}

func compiled(t *testing.T, p seccomp.Policy) seccomp.Program {
	t.Helper()
	program, err := p.Compile()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// Podman's file (github.com/containers/common v0.50) is understood too: its errors have names.
func TestPodmansFile(t *testing.T) {
	text, err := os.ReadFile("testdata/podman.json")
	if err != nil {
		t.Fatal(err)
	}
	base, err := seccompfile.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	p := seccomp.New(base, seccomp.Conditions{Native: seccomp.AMD64, Caps: seccomp.PreparedCaps, Kernel: seccomp.Version{6, 1}})
	if err := seccomp.Usable(&p); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]seccomp.Action{"read": seccomp.Allow, "bdflush": seccomp.Errno(1), "keyctl": seccomp.Errno(1), "openat": seccomp.Allow, "swapoff": seccomp.Errno(1)} {
		if nr, ok := seccomp.AMD64.Number(name); ok && p.Eval(seccomp.AMD64, nr, [6]uint64{}) != want {
			t.Errorf("%s: %#x", name, p.Eval(seccomp.AMD64, nr, [6]uint64{}))
		}
	}
}

// The shape of the OCI runtime specification: no archMap, no conditions.
func TestOCIFile(t *testing.T) {
	p, err := seccompfile.Parse([]byte(`{
		"defaultAction": "SCMP_ACT_ALLOW",
		"architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
		"flags": ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
		"syscalls": [
			{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
			{"names": ["kill"], "action": "SCMP_ACT_KILL_PROCESS", "args": [
				{"index": 0, "value": 18446744073709551615, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 240, "valueTwo": 16, "op": "SCMP_CMP_MASKED_EQ"}]},
			{"names": ["dup"], "action": "SCMP_ACT_ERRNO", "args": [
				{"index": 0, "value": 7, "op": "SCMP_CMP_LT"}, {"index": 0, "value": 9, "op": "SCMP_CMP_GE"}]}
		]}`))
	if err != nil {
		t.Fatal(err)
	}
	policy := seccomp.New(p, seccomp.Conditions{Native: seccomp.AMD64, Kernel: seccomp.Version{6, 1}})
	if want := []seccomp.Arch{seccomp.AMD64, seccomp.I386}; !slices.Equal(policy.Arches, want) {
		t.Errorf("%v, want %v", policy.Arches, want)
	}
	for _, c := range []struct {
		name string
		args [6]uint64
		want seccomp.Action
	}{
		{"mkdir", [6]uint64{}, seccomp.Errno(28)},
		{"kill", [6]uint64{1<<64 - 1, 0x1f}, seccomp.KillProcess},
		{"kill", [6]uint64{1<<64 - 1, 0x2f}, seccomp.Allow},
		{"kill", [6]uint64{1<<32 - 1, 0x1f}, seccomp.Allow},
		{"dup", [6]uint64{6}, seccomp.Errno(1)}, // two conditions on one argument: one is enough
		{"dup", [6]uint64{8}, seccomp.Allow},
		{"dup", [6]uint64{9}, seccomp.Errno(1)},
		{"mount", [6]uint64{}, seccomp.Errno(1)}, // cove's own denials hold over a file
		{"ioctl", [6]uint64{0, 0x5412}, seccomp.Errno(1)},
		{"clone3", [6]uint64{}, seccomp.Errno(38)},
	} {
		nr, _ := seccomp.AMD64.Number(c.name)
		if got := policy.Eval(seccomp.AMD64, nr, c.args); got != c.want {
			t.Errorf("%s%v: %#x, want %#x", c.name, c.args, got, c.want)
		}
	}
}

func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		``:                                     "line 1, column 0: the JSON ends too early",
		"{\n  nope":                            "line 2, column 3: invalid character 'n' looking for beginning of object key string",
		`[]`:                                   "the file: want an object, not an array",
		`{}`:                                   "defaultAction is missing",
		`{} {}`:                                "something follows the JSON value",
		`{"defaultAction": "SCMP_ACT_ALOW"}`:   `defaultAction: unknown action "SCMP_ACT_ALOW"; did you mean "SCMP_ACT_ALLOW"?`,
		`{"defaultAction": "SCMP_ACT_NOTIFY"}`: "there is nobody in a sandbox to ask",
		`{"defaultAction": 1}`:                 "defaultAction: want a string, not a number",
		`{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}`:                        "defaultErrnoRet: 4096 is not a whole number from 0 to 4095",
		`{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "EPERN"}`:                        `defaultErrno: unknown error "EPERN"`,
		`{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "EPERM", "defaultErrnoRet": 38}`: "defaultErrno: EPERM is 1, and defaultErrnoRet is 38",
		`{"defaultAction": "SCMP_ACT_ALLOW", "syscall": []}`:                                  `unknown member "syscall"; did you mean "syscalls"?`,
		`{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_63"]}`:          `architectures[0]: unknown architecture "SCMP_ARCH_X86_63"; did you mean "SCMP_ARCH_X86_64"?`,
		`{"defaultAction": "SCMP_ACT_ALLOW", "architectures": [], "archMap": []}`:             "two ways to say the same",
		`{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}`:                           "listenerPath: there is no listener",
		`{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}`:           "flags[0]: \"SECCOMP_FILTER_FLAG_LOG\" is not supported",
		rules(`{"names": ["opnat"], "action": "SCMP_ACT_ALLOW"}`):                             `syscalls[0].names: unknown system call "opnat"; did you mean "openat"?`,
		rules(`{"names": [], "action": "SCMP_ACT_ALLOW"}`):                                    "syscalls[0]: names no system call",
		rules(`{"names": ["read"], "name": "write", "action": "SCMP_ACT_ALLOW"}`):             "two ways to say the same",
		rules(`{"names": ["read"]}`):                                                          "syscalls[0]: action is missing",
		rules(`{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "value": -1, "op": "SCMP_CMP_QE"}]}`): "syscalls[0].args[0].index: 6 is not a whole number from 0 to 5\n" +
			"syscalls[0].args[0].value: -1 is not a whole number from 0 to 18446744073709551615\n" +
			`syscalls[0].args[0].op: unknown operator "SCMP_CMP_QE"; did you mean "SCMP_CMP_EQ"?`,
		rules(`{"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMN"], "minKernel": "five"}}`): `syscalls[0].includes.caps[0]: unknown capability "CAP_SYS_ADMN"; did you mean "CAP_SYS_ADMIN"?` +
			"\nsyscalls[0].includes.minKernel: \"five\" is not a kernel's version such as 5.12",
	} {
		_, err := seccompfile.Parse([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n%v\nwant\n%s", text, err, want)
		}
	}
}

// A file of nothing but mistakes is read in no time, though each word is like another one.
func TestManyMistakes(t *testing.T) {
	names := strings.Repeat(`"opnat", `, 10_000) + `"read"`
	_, err := seccompfile.Parse([]byte(rules(`{"names": [` + names + `], "action": "SCMP_ACT_ALLOW"}`)))
	var e *seccompfile.Error
	if !errors.As(err, &e) || len(e.Mistakes) != 10_000 || strings.Count(strings.Join(e.Mistakes, " "), "did you mean") != 20 {
		t.Errorf("%.300v", err)
	}
}

func rules(list string) string {
	return `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [` + list + `]}`
}

// A policy under which no command could be started is told before anything is.
func TestUsable(t *testing.T) {
	p, err := seccompfile.Parse([]byte(`{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = seccomp.Prepare(p, seccomp.Conditions{Native: seccomp.AMD64}); err == nil || !strings.Contains(err.Error(), "refuses what starting a command takes: brk, chdir, clock_gettime, clone, close,") {
		t.Error(err)
	}
}

// Whatever a file says that is understood: the program decides about every call as the rules do, the kernel would take it,
// and cove's own denials hold.
func FuzzFile(f *testing.F) {
	if text, err := json.Marshal(moby.DefaultProfile()); err == nil {
		f.Add(text)
	}
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"syscalls":[{"name":"ioctl","action":"SCMP_ACT_KILL"}]}`))
	f.Add([]byte(rules(`{"names":["dup","fcntl"],"action":"SCMP_ACT_ERRNO","errnoRet":5,"args":[{"index":0,"value":4294967296,"valueTwo":1,"op":"SCMP_CMP_MASKED_EQ"},` +
		`{"index":2,"value":3,"op":"SCMP_CMP_LT"}]},{"names":["dup"],"action":"SCMP_ACT_TRAP","includes":{"caps":["SYS_ADMIN"],"minKernel":"5.12"},"excludes":{"arches":["arm64"]}}`)))
	f.Fuzz(func(t *testing.T, text []byte) {
		base, err := seccompfile.Parse(text)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\x1b\a") {
				t.Errorf("a raw escape sequence: %q", err)
			}
			return
		}
		for _, c := range []seccomp.Conditions{
			{Native: seccomp.AMD64, Kernel: seccomp.Version{6, 1}},
			{Native: seccomp.ARM64, Kernel: seccomp.Version{5, 12}, Caps: []string{"CAP_SYS_ADMIN"}, Nested: true},
		} {
			law(t, seccomp.New(base, c))
		}
	})
}

// law holds a policy against its program, and against what cove promises whatever the policy says.
func law(t *testing.T, p seccomp.Policy) {
	t.Helper()
	program, err := p.Compile()
	if err != nil {
		return // too long for the kernel
	}
	if err := seccomp.Valid(program); err != nil {
		t.Fatal(err)
	}
	values := seccomp.EachEdge(&p)
	values = values[:min(len(values), 24)]
	try := func(a seccomp.Arch, nr uint32, args [6]uint64) {
		got, err := seccomp.Run(program, a, nr, args)
		if want := p.Eval(a, nr, args); err != nil || got != want {
			t.Fatalf("%s call %d %#x: %#x, %v, want %#x of %+v", a, nr, args, got, err, want, p)
		}
	}
	for _, a := range []seccomp.Arch{seccomp.AMD64, seccomp.I386, seccomp.ARM64, seccomp.ARM} {
		for nr := uint32(0); nr < 480; nr += 7 {
			try(a, nr, [6]uint64{})
		}
		for _, nr := range append(seccomp.Conditional(&p, a), 0x40000000, 1<<32-1) {
			for i, v := range values {
				args := [6]uint64{v, values[len(values)-1-i], v, values[0], v, v}
				try(a, nr, args)
				args[i%6] = 0
				try(a, nr, args)
			}
		}
		for _, name := range []string{"keyctl", "bpf", "io_uring_setup", "userfaultfd", "kexec_load", "init_module", "open_by_handle_at"} {
			if nr, ok := a.Number(name); ok {
				if got, err := seccomp.Run(program, a, nr, [6]uint64{}); err != nil || got != seccomp.Errno(1) && got != seccomp.Errno(38) {
					t.Fatalf("%s %s: %#x, %v", a, name, got, err)
				}
			}
		}
	}
}

// Policies out of nothing: of a few calls, every operator and any value.
func FuzzCompile(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	f.Add([]byte("\x00\x07\x01\x02\xff\xff\xff\xff\x03\x04\x00\x01\x01"))
	names := []string{"read", "socket", "ioctl", "clone", "splice", "breakpoint", "removexattrat", "_llseek"}
	bits := []uint64{0, 1, 2, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1<<32 + 1, 1<<63 - 1, 1 << 63, 1<<64 - 1, 0x5412, 0x7e020000}
	f.Fuzz(func(t *testing.T, b []byte) {
		next := func(n int) int {
			if len(b) == 0 {
				return 0
			}
			v := int(b[0]) % n
			b = b[1:]
			return v
		}
		actions := []seccomp.Action{seccomp.Allow, seccomp.Errno(1), seccomp.Errno(38), seccomp.KillProcess, seccomp.Log}
		p := seccomp.Policy{Default: actions[next(5)], Arches: [][]seccomp.Arch{{seccomp.AMD64}, {seccomp.ARM64, seccomp.ARM}, {seccomp.AMD64, seccomp.I386}}[next(3)]}
		for len(b) > 0 && len(p.Rules)+len(p.Deny) < 40 {
			r := seccomp.Rule{Action: actions[next(5)]}
			for range 1 + next(3) {
				r.Names = append(r.Names, names[next(len(names))])
			}
			for range next(8) {
				r.Args = append(r.Args, seccomp.Arg{Index: next(6), Op: seccomp.Op(next(int(seccomp.MaskedNotEqual) + 1)), Value: bits[next(len(bits))], ValueTwo: bits[next(len(bits))]})
			}
			if next(3) == 0 {
				p.Deny = append(p.Deny, r)
			} else {
				p.Rules = append(p.Rules, r)
			}
		}
		program, err := p.Compile()
		if err != nil && strings.Contains(err.Error(), "of which the kernel takes") {
			return
		}
		if err != nil {
			t.Fatalf("%v: %+v", err, p)
		}
		if err := seccomp.Valid(program); err != nil {
			t.Fatalf("%v: %+v", err, p)
		}
		for _, a := range []seccomp.Arch{seccomp.AMD64, seccomp.I386, seccomp.ARM64, seccomp.ARM} {
			for _, name := range names {
				nr, ok := a.Number(name)
				if !ok {
					continue
				}
				for i := range bits {
					for _, n := range []uint32{nr, nr + 1} {
						args := [6]uint64{bits[i], bits[(i*5+1)%len(bits)], bits[(i*7+3)%len(bits)], bits[len(bits)-1-i], bits[i] + 1, bits[i] - 1}
						got, err := seccomp.Run(program, a, n, args)
						if want := p.Eval(a, n, args); err != nil || got != want {
							t.Fatalf("%s call %d %#x: %#x, %v, want %#x of %+v", a, n, args, got, err, want, p)
						}
					}
				}
			}
		}
	})
}
