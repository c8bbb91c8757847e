package seccomp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// needs skips a test where a tool is missing, unless everything has to be there.
func needs(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("COVE_TEST_REQUIRE") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// build compiles a C program.
func build(t *testing.T, source string, flags ...string) string {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		needs(t, "needs gcc (Debian: gcc libc6-dev)")
	}
	program := filepath.Join(t.TempDir(), strings.TrimSuffix(filepath.Base(source), ".c"))
	args := append([]string{"-O1", "-Wall", "-Werror", "-o", program, source}, flags...)
	if out, err := exec.Command(gcc, args...).CombinedOutput(); err != nil {
		needs(t, fmt.Sprintf("needs what %s includes (Debian: libseccomp-dev): %v\n%s", source, err, out))
	}
	return program
}

// libseccompOps are the numbers of enum scmp_compare.
var libseccompOps = map[Op]int{NotEqual: 1, Less: 2, LessEqual: 3, Equal: 4, GreaterEqual: 5, Greater: 6, MaskedEqual: 7}

// theirs is the program that libseccomp makes of a policy without denials, and the policy without the names that it does not know.
func theirs(t *testing.T, program string, p Policy) (Program, Policy) {
	t.Helper()
	if len(p.Deny) > 0 {
		t.Fatal("libseccomp has no denials that come first")
	}
	for {
		var in strings.Builder
		fmt.Fprintf(&in, "default %x\n", uint32(p.Default))
		for _, a := range p.Arches {
			fmt.Fprintf(&in, "arch %x\n", auditArch[a])
		}
		in.WriteString("native\n")
		for _, r := range p.Rules {
			for _, name := range r.Names {
				fmt.Fprintf(&in, "rule %x %s %d", uint32(r.Action), name, len(r.Args))
				for _, a := range r.Args {
					fmt.Fprintf(&in, " %d %d %d %d", a.Index, libseccompOps[a.Op], a.Value, a.ValueTwo)
				}
				in.WriteString("\n")
			}
		}
		cmd := exec.Command(program)
		var stdout, stderr bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in.String()), &stdout, &stderr
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v: %s\n%s", err, stderr.String(), in.String())
		}
		if stderr.Len() == 0 {
			return decode(t, stdout.Bytes()), p
		}
		unknown := strings.Fields(stderr.String())
		t.Logf("libseccomp does not know: %s", strings.ReplaceAll(stderr.String(), "\nunknown", ""))
		p.Rules = slices.Clone(p.Rules)
		for i := range p.Rules {
			p.Rules[i].Names = slices.DeleteFunc(slices.Clone(p.Rules[i].Names), func(name string) bool { return slices.Contains(unknown, name) })
		}
	}
}

func decode(t *testing.T, b []byte) Program {
	t.Helper()
	if len(b) == 0 || len(b)%8 != 0 {
		t.Fatalf("%d bytes are no program", len(b))
	}
	var p Program
	for ; len(b) > 0; b = b[8:] {
		p = append(p, Instruction{binary.LittleEndian.Uint16(b), b[2], b[3], binary.LittleEndian.Uint32(b[4:])})
	}
	return p
}

// agree holds our program against libseccomp's, over every call.
func agree(t *testing.T, exporter string, p Policy) {
	t.Helper()
	reference, p := theirs(t, exporter, p)
	ours, err := p.Compile()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d instructions, libseccomp's %d", len(ours), len(reference))
	eachCall(&p, func(a Arch, nr uint32, args [6]uint64) {
		if a == I386 || a == ARM { // the kernel clears what a 32-bit program cannot say
			for i := range args {
				args[i] &= 1<<32 - 1
			}
		}
		want, err := run(reference, a, nr, args)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(p.Arches, a) && nr > p.newest(a) && nr < armPrivate {
			if want != p.Default {
				t.Fatalf("%s call %d: libseccomp knows about it: %#x", a, nr, want)
			}
			want = p.unknown() // which runc puts before libseccomp's
		}
		if got, err := run(ours, a, nr, args); err != nil || got != want {
			t.Fatalf("%s call %d %#x: %#x, %v; libseccomp: %#x\n%+v", a, nr, args, got, err, want, p)
		}
	})
}

// Docker's profile means the same in our hands as in libseccomp's, for every set of capabilities that changes it.
func TestLibseccompDocker(t *testing.T) {
	exporter := build(t, "testdata/libseccomp.c", "-lseccomp")
	for _, native := range []Arch{AMD64, ARM64} {
		for _, caps := range [][]string{nil, preparedCaps, allCaps} {
			c := Conditions{Native: native, Kernel: Version{6, 1}, Caps: caps}
			sub := map[Arch]Arch{AMD64: I386, ARM64: ARM}[native]
			for _, list := range [][]Arch{{native}, {native, sub}} {
				agree(t, exporter, Policy{Default: docker.Default, Rules: docker.rules(&c), Arches: list})
			}
		}
	}
}

// And so do policies that nobody wrote, with every operator.
func TestLibseccompRandom(t *testing.T) {
	exporter := build(t, "testdata/libseccomp.c", "-lseccomp")
	random := rand.New(rand.NewPCG(3, 4))
	names := []string{"read", "write", "openat", "dup", "fcntl", "prctl", "getpid", "splice", "futex", "sendto", "lseek", "exit_group"}
	values := []uint64{0, 1, 2, 3, 1<<31 - 1, 1 << 31, 1<<32 - 1}
	wide := append([]uint64{1 << 32, 1<<32 + 1, 1<<33 - 1, 1 << 63, 1<<64 - 1, 1<<64 - 2}, values...)
	rounds := 60
	if testing.Short() {
		rounds = 20
	}
	for range rounds {
		p := Policy{Default: Errno(1), Arches: [][]Arch{{AMD64}, {ARM64}, {AMD64, I386}, {ARM64, ARM}}[random.IntN(4)]}
		action := Allow
		if random.IntN(3) == 0 {
			p.Default, action = Allow, Errno(uint16(2+random.IntN(100)))
		}
		from := wide
		if len(p.Arches) > 1 {
			from = values // libseccomp compares no more than a 32-bit program can say, with no more than that
		}
		arg := func(index int) Arg {
			return Arg{index, Op(random.IntN(int(MaskedEqual) + 1)), from[random.IntN(len(from))], from[random.IntN(len(from))]}
		}
		for _, name := range names[:1+random.IntN(len(names))] {
			// Either one rule with several conditions or several that want a value: of more libseccomp 2.5.4 can make a tree
			// that forgets a rule (write with arg2 < 0xffffffff, < 1 or < 0x1ffffffff refuses 0xffffffff).
			indexes := random.Perm(6)
			r := Rule{Names: []string{name}, Action: action}
			if random.IntN(2) == 0 {
				for _, index := range indexes[:random.IntN(5)] {
					r.Args = append(r.Args, arg(index))
				}
				p.Rules = append(p.Rules, r)
				continue
			}
			for range 1 + random.IntN(4) {
				r.Args = []Arg{{Index: indexes[0], Op: Equal, Value: from[random.IntN(len(from))]}}
				p.Rules = append(p.Rules, r)
			}
		}
		agree(t, exporter, p)
		if t.Failed() {
			return
		}
	}
}
