package seccomp

import (
	"runtime"
	"slices"
	"strings"
	"sync"
)

// Arch is one way into the kernel: a processor has a 64-bit one and often a 32-bit one, with other numbers.
type Arch uint8

const (
	AMD64 Arch = iota
	I386
	ARM64
	ARM
	arches = iota
)

var (
	// AUDIT_ARCH_* of linux/audit.h.
	auditArch = [arches]uint32{AMD64: 0xc000003e, I386: 0x40000003, ARM64: 0xc00000b7, ARM: 0x40000028}
	goArch    = [arches]string{AMD64: "amd64", I386: "386", ARM64: "arm64", ARM: "arm"}
)

const (
	// x32Bit marks the numbers of the third way into an amd64 kernel (__X32_SYSCALL_BIT). AUDIT_ARCH is the same for both.
	x32Bit = 0x4000_0000
	// skipped is no call at all: a tracer's word that the one which it has stopped is not to be made (ptrace(2)).
	skipped = 1<<32 - 1
	// armPrivate is where the numbers begin that ARM keeps for itself (__ARM_NR_BASE).
	armPrivate = 0x0f_0000
)

// String is the name that Go has for a: GOARCH.
func (a Arch) String() string { return goArch[a] }

// Native is the architecture that this program was built for. There is a policy for amd64 and arm64.
func Native() (Arch, bool) {
	i := slices.Index(goArch[:], runtime.GOARCH)
	return Arch(max(i, 0)), i == int(AMD64) || i == int(ARM64)
}

// Number is the number of a system call, by the name that libseccomp has for it.
func (a Arch) Number(name string) (uint32, bool) {
	nr, ok := byName()[name]
	if !ok || nr[a] < 0 {
		return 0, false
	}
	return uint32(nr[a]), true
}

// byName is made when a policy is compiled, which for the default one is not needed.
var byName = sync.OnceValue(func() map[string]*[arches]int32 {
	m := make(map[string]*[arches]int32, len(calls))
	for i := range calls {
		m[calls[i].name] = &calls[i].nr
	}
	return m
})

// Known says whether any architecture of Linux has a call of this name.
func Known(name string) bool {
	_, ok := byName()[name]
	return ok || slices.Contains(strings.Fields(foreign), name)
}

// Names are the names of all calls that Known knows.
func Names() []string {
	names := strings.Fields(foreign)
	for _, c := range calls {
		names = append(names, c.name)
	}
	return names
}

// call is one system call and its numbers; -1 where an architecture does not have it.
type call struct {
	name string
	nr   [arches]int32
}
