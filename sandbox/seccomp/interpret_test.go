package seccomp

import (
	"encoding/binary"
	"fmt"
)

// run is what the kernel does with a program: bpf_check_classic, seccomp_check_filter and the interpreter, for the
// instructions that our compiler or libseccomp's makes.
func run(p Program, arch Arch, nr uint32, args [6]uint64) (Action, error) {
	var data [64]byte // struct seccomp_data
	binary.LittleEndian.PutUint32(data[offNumber:], nr)
	binary.LittleEndian.PutUint32(data[offArch:], auditArch[arch])
	for i, a := range args {
		binary.LittleEndian.PutUint64(data[offArgs+8*i:], a)
	}
	var acc uint32
	for pc := 0; pc < len(p); pc++ {
		i := p[pc]
		var taken bool
		switch i.Code {
		case bpfLoad:
			if i.K%4 != 0 || i.K >= uint32(len(data)) {
				return 0, fmt.Errorf("%d: load of %d", pc, i.K)
			}
			acc = binary.LittleEndian.Uint32(data[i.K:])
			continue
		case bpfAnd:
			acc &= i.K
			continue
		case bpfJump:
			pc += int(i.K)
			continue
		case bpfRet:
			return Action(i.K), nil
		case bpfEqual:
			taken = acc == i.K
		case bpfAbove:
			taken = acc > i.K
		case bpfAtLst:
			taken = acc >= i.K
		default:
			return 0, fmt.Errorf("%d: unknown instruction %#x", pc, i.Code)
		}
		if taken {
			pc += int(i.Jt)
		} else {
			pc += int(i.Jf)
		}
	}
	return 0, fmt.Errorf("ran off the end")
}

// valid is what the kernel asks of a program before it takes it: no jump leads out, and it ends in a return.
func valid(p Program) error {
	if len(p) == 0 || len(p) > maxProgram {
		return fmt.Errorf("%d instructions", len(p))
	}
	for pc, i := range p {
		far := 0
		switch i.Code {
		case bpfJump:
			far = int(i.K)
		case bpfEqual, bpfAbove, bpfAtLst:
			far = int(max(i.Jt, i.Jf))
		}
		if pc+1+far >= len(p) && i.Code != bpfRet {
			return fmt.Errorf("%d: leads out", pc)
		}
	}
	if p[len(p)-1].Code != bpfRet {
		return fmt.Errorf("does not end in a return")
	}
	return nil
}
