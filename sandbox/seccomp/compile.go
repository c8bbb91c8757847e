package seccomp

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// Instruction is one of classic BPF: struct sock_filter of linux/filter.h.
type Instruction struct {
	Code   uint16
	Jt, Jf uint8
	K      uint32
}

// Program is a filter, ready for Load.
type Program []Instruction

// Bytes is the program as it lies in the kernel's memory, on a little-endian machine, as all of Arches are.
func (p Program) Bytes() []byte {
	out := make([]byte, 0, 8*len(p))
	for _, i := range p {
		out = binary.LittleEndian.AppendUint16(out, i.Code)
		out = append(out, i.Jt, i.Jf)
		out = binary.LittleEndian.AppendUint32(out, i.K)
	}
	return out
}

// What the compiler needs of linux/bpf_common.h, and of struct seccomp_data.
const (
	bpfLoad  = 0x20 // BPF_LD | BPF_W | BPF_ABS
	bpfAnd   = 0x54 // BPF_ALU | BPF_AND | BPF_K
	bpfJump  = 0x05 // BPF_JMP | BPF_JA
	bpfEqual = 0x15 // BPF_JMP | BPF_JEQ | BPF_K
	bpfAbove = 0x25 // BPF_JMP | BPF_JGT | BPF_K
	bpfAtLst = 0x35 // BPF_JMP | BPF_JGE | BPF_K
	bpfRet   = 0x06 // BPF_RET | BPF_K

	offNumber = 0
	offArch   = 4
	offArgs   = 16

	maxProgram = 4096 // BPF_MAXINSNS
	maxJump    = 255
)

// Compile makes the kernel's program of a policy.
func (p *Policy) Compile() (Program, error) {
	out := Program{{Code: bpfLoad, K: offArch}}
	for _, a := range p.Arches {
		section, err := p.section(a)
		if err != nil {
			return nil, fmt.Errorf("system calls of %s: %w", a, err)
		}
		// A section can be longer than a conditional jump reaches.
		out = append(out, Instruction{bpfEqual, 1, 0, auditArch[a]}, Instruction{Code: bpfJump, K: uint32(len(section))})
		out = append(out, section...)
	}
	out = append(out, ret(Errno(enosys)))
	if len(out) > maxProgram {
		return nil, fmt.Errorf("the filter has %d instructions, of which the kernel takes %d", len(out), maxProgram)
	}
	return out, nil
}

func ret(a Action) Instruction { return Instruction{Code: bpfRet, K: uint32(a)} }

// interval is what becomes of the calls from a number on, up to the next interval's.
type interval struct {
	from uint32
	body Program // ends in a return on every way: the register holds an argument after a check, and no number any more
}

// named is a rule under one of the numbers that it is about.
type named struct {
	nr    uint32
	place int // among all of these: denials first, then in the order of the policy
	deny  bool
	rule  *Rule
}

// section decides about the calls of one architecture.
func (p *Policy) section(a Arch) (Program, error) {
	byNumber, newest := p.byNumber(a)
	plain := func(nr uint32) Program {
		if nr > newest && nr < armPrivate {
			return Program{ret(p.unknown())}
		}
		return Program{ret(p.Default)}
	}
	var list []interval
	add := func(from uint32, body Program) {
		if n := len(list); n > 0 && slices.Equal(list[n-1].body, body) {
			return
		}
		list = append(list, interval{from, body})
	}
	next := uint32(0) // the first number that nothing was said about
	for len(byNumber) > 0 {
		nr, n := byNumber[0].nr, 1
		for n < len(byNumber) && byNumber[n].nr == nr {
			n++
		}
		body, err := p.decide(byNumber[:n])
		if err != nil {
			return nil, fmt.Errorf("number %d: %w", nr, err)
		}
		if nr > next {
			p.gap(next, nr, newest, add, plain)
		}
		add(nr, body)
		byNumber, next = byNumber[n:], nr+1
	}
	p.gap(next, 1<<32-1, newest, add, plain)
	if a == AMD64 {
		list = slices.DeleteFunc(list, func(i interval) bool { return i.from >= x32Bit })
		add(x32Bit, Program{ret(Errno(enosys))})
		add(skipped, Program{ret(p.Default)})
	}
	return append(Program{{Code: bpfLoad, K: offNumber}}, search(list)...), nil
}

// gap adds the numbers from first to before end, which no rule names.
func (p *Policy) gap(first, end, newest uint32, add func(uint32, Program), plain func(uint32) Program) {
	for _, from := range []uint32{first, max(first, newest+1), max(first, armPrivate)} {
		if from < end {
			add(from, plain(from))
		}
	}
}

// byNumber lists the rules by the number that they are about, each number's in the order in which they count.
func (p *Policy) byNumber(a Arch) (list []named, newest uint32) {
	list = make([]named, 0, 512)
	for i, rules := range [][]Rule{p.Deny, p.Rules} {
		for j := range rules {
			for _, name := range rules[j].Names {
				if nr, ok := a.Number(name); ok {
					list = append(list, named{nr, len(list), i == 0, &rules[j]})
				}
			}
		}
	}
	slices.SortFunc(list, func(a, b named) int { return cmp.Or(cmp.Compare(a.nr, b.nr), cmp.Compare(a.place, b.place)) })
	list = slices.CompactFunc(list, func(a, b named) bool { return a.nr == b.nr && a.rule == b.rule }) // a name may come twice
	for _, n := range list {
		if n.nr < armPrivate {
			newest = max(newest, n.nr)
		}
	}
	return list, newest
}

// decide is what becomes of one call that rules name.
func (p *Policy) decide(rules []named) (Program, error) {
	for i, n := range rules {
		if !n.deny && len(n.rule.Args) == 0 { // the only one of Rules that counts
			rules = append(slices.DeleteFunc(slices.Clone(rules[:i]), func(n named) bool { return !n.deny }), n)
			break
		}
	}
	var out Program
	for _, n := range rules {
		if len(n.rule.Args) == 0 {
			return append(out, ret(n.rule.Action)), nil
		}
		one, err := check(n.rule)
		if err != nil {
			return nil, err
		}
		out = append(out, one...)
	}
	return append(out, ret(p.Default)), nil
}

// Where the jumps of a condition lead, until all of a rule is known.
const (
	toNext = 0           // the instruction that follows
	toFail = maxJump     // past the rule
	toPass = maxJump - 1 // past the condition
)

// check is a rule with conditions: it returns the rule's action when all of them hold, and goes on behind itself when not.
func check(r *Rule) (Program, error) {
	var out Program
	for _, c := range r.Args {
		one := condition(c)
		for i := range one {
			for _, j := range []*uint8{&one[i].Jt, &one[i].Jf} {
				if *j == toPass {
					*j = uint8(len(one) - i - 1)
				}
			}
		}
		out = append(out, one...)
	}
	out = append(out, ret(r.Action))
	for i := range out {
		for _, j := range []*uint8{&out[i].Jt, &out[i].Jf} {
			if *j != toFail {
				continue
			}
			distance := len(out) - i - 1
			if distance >= toPass {
				return nil, fmt.Errorf("a rule with %d conditions is too long", len(r.Args))
			}
			*j = uint8(distance)
		}
	}
	return out, nil
}

// condition compares one argument, in two halves: the register has 32 bits.
func condition(c Arg) Program {
	at := uint32(offArgs + 8*c.Index)
	low, high := Instruction{Code: bpfLoad, K: at}, Instruction{Code: bpfLoad, K: at + 4}
	lo, hi := uint32(c.Value), uint32(c.Value>>32)
	switch c.Op {
	case Equal:
		return Program{high, {bpfEqual, toNext, toFail, hi}, low, {bpfEqual, toNext, toFail, lo}}
	case NotEqual:
		return Program{high, {bpfEqual, toNext, toPass, hi}, low, {bpfEqual, toFail, toNext, lo}}
	case Less:
		return Program{high, {bpfAbove, toFail, toNext, hi}, {bpfEqual, toNext, toPass, hi}, low, {bpfAtLst, toFail, toNext, lo}}
	case LessEqual:
		return Program{high, {bpfAbove, toFail, toNext, hi}, {bpfEqual, toNext, toPass, hi}, low, {bpfAbove, toFail, toNext, lo}}
	case Greater:
		return Program{high, {bpfAbove, toPass, toNext, hi}, {bpfEqual, toNext, toFail, hi}, low, {bpfAbove, toNext, toFail, lo}}
	case GreaterEqual:
		return Program{high, {bpfAbove, toPass, toNext, hi}, {bpfEqual, toNext, toFail, hi}, low, {bpfAtLst, toNext, toFail, lo}}
	}
	return masked(c, low, high)
}

// masked leaves out a half of which no bit counts.
func masked(c Arg, low, high Instruction) Program {
	type half struct {
		load        Instruction
		mask, value uint32
	}
	value := c.Value & c.ValueTwo
	halves := slices.DeleteFunc([]half{{high, uint32(c.Value >> 32), uint32(value >> 32)}, {low, uint32(c.Value), uint32(value)}},
		func(h half) bool { return h.mask == 0 })
	var out Program
	for i, h := range halves {
		out = append(out, h.load)
		if h.mask != 1<<32-1 {
			out = append(out, Instruction{Code: bpfAnd, K: h.mask})
		}
		switch {
		case c.Op == MaskedEqual:
			out = append(out, Instruction{bpfEqual, toNext, toFail, h.value})
		case i < len(halves)-1:
			out = append(out, Instruction{bpfEqual, toNext, toPass, h.value})
		default:
			out = append(out, Instruction{bpfEqual, toFail, toNext, h.value})
		}
	}
	if len(halves) == 0 && c.Op == MaskedNotEqual { // 0 != 0
		out = append(out, Instruction{bpfAtLst, toFail, toFail, 0})
	}
	return out
}

// search finds the interval of the number in the register by halving.
func search(list []interval) Program {
	e := &emitter{returns: map[uint32]int{}}
	first := e.tree(list)
	e.to(first)
	slices.Reverse(e.back)
	return e.back
}

// emitter writes a program from its end to its beginning, for jumps lead only forward. A place is an instruction,
// counted from the end, from 1 on.
type emitter struct {
	back    Program
	returns map[uint32]int // the last place that returns an action
}

func (e *emitter) emit(i Instruction) int {
	e.back = append(e.back, i)
	return len(e.back)
}

// distance is how far an instruction that is written now has to jump to get to a place.
func (e *emitter) distance(place int) int { return len(e.back) - place }

// to makes the next instruction one from which a place follows.
func (e *emitter) to(place int) int {
	if d := e.distance(place); d > 0 {
		return e.emit(Instruction{Code: bpfJump, K: uint32(d)})
	}
	return place
}

// near returns a place that does the same and can be reached by a conditional jump, with some to spare.
func (e *emitter) near(place, spare int) int {
	if e.distance(place)+spare <= maxJump {
		return place
	}
	if i := e.back[place-1]; i.Code == bpfRet {
		return e.ret(i)
	}
	return e.to(place)
}

// ret returns a place that returns an action: what many numbers have in common is there once, as far as jumps reach.
func (e *emitter) ret(i Instruction) int {
	place, ok := e.returns[i.K]
	if !ok || e.distance(place) > maxJump-2 {
		place = e.emit(i)
		e.returns[i.K] = place
	}
	return place
}

// tree writes the search among intervals, and returns where it begins.
func (e *emitter) tree(list []interval) int {
	if len(list) > 1 {
		half := len(list) / 2
		above, below := e.tree(list[half:]), e.tree(list[:half])
		above = e.near(above, 1) // to bring below near can take one more
		below = e.near(below, 0)
		return e.emit(Instruction{bpfAtLst, uint8(e.distance(above)), uint8(e.distance(below)), list[half].from})
	}
	body := list[0].body
	if len(body) == 1 {
		return e.ret(body[0])
	}
	for _, i := range slices.Backward(body) {
		e.emit(i)
	}
	return len(e.back)
}
