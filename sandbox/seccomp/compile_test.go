package seccomp

import (
	"math/rand/v2"
	"slices"
	"testing"
)

var allCaps = append([]string{"CAP_DAC_READ_SEARCH", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_MODULE", "CAP_SYS_PACCT", "CAP_SYS_PTRACE",
	"CAP_SYS_RAWIO", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_SYS_NICE", "CAP_SYSLOG", "CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN",
	"CAP_NET_RAW"}, preparedCaps...)

// policies are those that cove makes by itself, and docker's bare one with its 32-bit half.
func policies() map[string]Policy {
	out := map[string]Policy{}
	for _, native := range []Arch{AMD64, ARM64} {
		c := Conditions{Native: native, Kernel: Version{6, 1}, Caps: preparedCaps}
		out["default "+native.String()] = New(nil, c)
		out["docker's file "+native.String()] = New(&docker, c)
		c.Nested = true
		out["nested "+native.String()] = New(nil, c)
		c.Nested, c.Caps = false, allCaps
		out["all caps "+native.String()] = New(nil, c)
		c.Caps = nil
		out["no caps "+native.String()] = New(nil, c)
		out["docker alone "+native.String()] = Policy{Default: docker.Default, Rules: docker.rules(&c),
			Arches: append([]Arch{native}, map[Arch]Arch{AMD64: I386, ARM64: ARM}[native])}
	}
	return out
}

// numbers are every number that a call has anywhere, those around them, and those at the ends.
func numbers() []uint32 {
	out := []uint32{x32Bit - 1, 1<<31 - 1, 1 << 31, 1<<32 - 2, 1<<32 - 1}
	for n := range uint32(600) {
		out = append(out, n, n|x32Bit)
	}
	for n := range uint32(16) {
		out = append(out, armPrivate-4+n)
	}
	return out
}

// edges are values that a policy compares arguments with, and their neighbours in both halves.
func edges(p *Policy) []uint64 {
	out := []uint64{0, 1, 1<<32 - 1, 1 << 32, 1<<63 - 1, 1 << 63, 1<<64 - 1}
	for _, rules := range [][]Rule{p.Deny, p.Rules} {
		for _, r := range rules {
			for _, a := range r.Args {
				for _, v := range []uint64{a.Value, a.ValueTwo} {
					out = append(out, v, v-1, v+1, v^1<<32, v|1<<63, v<<32, ^v)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// conditional are the numbers of the calls of which arguments are looked at.
func conditional(p *Policy, a Arch) []uint32 {
	var out []uint32
	for _, rules := range [][]Rule{p.Deny, p.Rules} {
		for _, r := range rules {
			for _, name := range r.Names {
				if n, ok := a.Number(name); ok && len(r.Args) > 0 && !slices.Contains(out, n) {
					out = append(out, n)
				}
			}
		}
	}
	return out
}

// eachCall goes through every number of every architecture, and for those whose arguments count through edge values of each
// argument, alone and together with others.
func eachCall(p *Policy, do func(Arch, uint32, [6]uint64)) {
	random := rand.New(rand.NewPCG(1, 2))
	values := edges(p)
	for a := range Arch(arches) {
		for _, nr := range numbers() {
			do(a, nr, [6]uint64{})
		}
		for _, nr := range conditional(p, a) {
			for i := range 6 {
				for _, v := range values {
					var args [6]uint64
					args[i] = v
					do(a, nr, args)
				}
			}
			for range 400 {
				var args [6]uint64
				for i := range args {
					args[i] = values[random.IntN(len(values))]
				}
				do(a, nr, args)
			}
		}
	}
}

// The program says what the rules say.
func TestCompile(t *testing.T) {
	for name, p := range policies() {
		program, err := p.Compile()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := valid(program); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		t.Logf("%s: %d instructions", name, len(program))
		eachCall(&p, func(a Arch, nr uint32, args [6]uint64) {
			got, err := run(program, a, nr, args)
			if want := p.Eval(a, nr, args); err != nil || got != want {
				t.Fatalf("%s: %s call %d %#x: %#x, %v, want %#x", name, a, nr, args, got, err, want)
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		p := New(nil, Conditions{Native: AMD64, Kernel: Version{6, 1}, Caps: preparedCaps})
		if _, err := p.Compile(); err != nil {
			b.Fatal(err)
		}
	}
}
