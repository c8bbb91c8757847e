package seccomp

import "slices"

// Action is what becomes of a call: a filter's return value (seccomp(2)).
type Action uint32

const (
	KillProcess Action = 0x8000_0000
	KillThread  Action = 0x0000_0000
	Trap        Action = 0x0003_0000 // SIGSYS, which can be caught
	Log         Action = 0x7ffc_0000 // allow, and write it to the kernel's audit log
	Allow       Action = 0x7fff_0000
)

// Errno refuses a call with an error number.
func Errno(n uint16) Action { return errnoBase | Action(n) }

const errnoBase Action = 0x0005_0000

// allows says that the call is made.
func (a Action) allows() bool { return a == Allow || a == Log }

// The error numbers that the policy answers with, which are the same on all of Arches.
const (
	eperm           = 1
	enosys          = 38
	eprotonosupport = 93
)

// Op compares an argument, as 64 bits, with values.
type Op uint8

const (
	Equal          Op = iota // argument == Value
	NotEqual                 // argument != Value
	Less                     // argument < Value
	LessEqual                // argument <= Value
	Greater                  // argument > Value
	GreaterEqual             // argument >= Value
	MaskedEqual              // argument & Value == ValueTwo & Value
	MaskedNotEqual           // argument & Value != ValueTwo & Value; OCI has no name for it
)

// Arg is a condition on one of a call's six arguments. The kernel itself looks at no more than the type of the argument
// has: where that is an int, the upper half may hold anything, and a denial has to mask it.
type Arg struct {
	Index           int
	Op              Op
	Value, ValueTwo uint64
}

func (c Arg) holds(args *[6]uint64) bool {
	a := args[c.Index]
	switch c.Op {
	case Equal:
		return a == c.Value
	case NotEqual:
		return a != c.Value
	case Less:
		return a < c.Value
	case LessEqual:
		return a <= c.Value
	case Greater:
		return a > c.Value
	case GreaterEqual:
		return a >= c.Value
	case MaskedEqual:
		return a&c.Value == c.ValueTwo&c.Value
	}
	return a&c.Value != c.ValueTwo&c.Value
}

// Rule is what becomes of the calls with these names when all of Args hold.
type Rule struct {
	Names  []string // a name that an architecture does not have says nothing about it
	Action Action
	Args   []Arg
}

func (r *Rule) holds(args *[6]uint64) bool {
	for _, c := range r.Args {
		if !c.holds(args) {
			return false
		}
	}
	return true
}

// Policy is a whole decision: what becomes of every call. The first that says something counts:
//
//   - a call of an architecture that is not in Arches, x32 among them, fails with ENOSYS;
//   - the first rule of Deny that holds;
//   - of Rules that name the call, the first without Args; if there is none, the first that holds;
//   - where Default does not allow: a call with a number above all that the rules name fails with ENOSYS, as on the
//     older kernel that the policy was written for, so that programs fall back (runc does the same);
//   - Default.
type Policy struct {
	Default Action
	Arches  []Arch
	Deny    []Rule
	Rules   []Rule
}

// With is p with more denials.
func (p Policy) With(deny ...Rule) Policy {
	p.Deny = append(slices.Clone(p.Deny), deny...)
	return p
}

// unknown is what becomes of calls that only a newer kernel has.
func (p *Policy) unknown() Action {
	if p.Default.allows() {
		return p.Default
	}
	return Errno(enosys)
}

// Eval says what becomes of one call, by looking at the rules one after the other. nr is the number as the kernel sees it.
func (p *Policy) Eval(a Arch, nr uint32, args [6]uint64) Action {
	if !slices.Contains(p.Arches, a) || a == AMD64 && nr >= x32Bit && nr != skipped {
		return Errno(enosys)
	}
	for i := range p.Deny {
		if r := &p.Deny[i]; a.in(r.Names, nr) && r.holds(&args) {
			return r.Action
		}
	}
	var matching *Rule
	for i := range p.Rules {
		switch r := &p.Rules[i]; {
		case !a.in(r.Names, nr):
		case len(r.Args) == 0:
			return r.Action
		case matching == nil && r.holds(&args):
			matching = r
		}
	}
	switch {
	case matching != nil:
		return matching.Action
	case nr > p.newest(a) && nr < armPrivate:
		return p.unknown()
	}
	return p.Default
}

// newest is the highest number that the rules name.
func (p *Policy) newest(a Arch) uint32 {
	var newest uint32
	for _, rules := range [][]Rule{p.Deny, p.Rules} {
		for i := range rules {
			for _, name := range rules[i].Names {
				if n, ok := a.Number(name); ok && n < armPrivate {
					newest = max(newest, n)
				}
			}
		}
	}
	return newest
}

// in says whether a has one of the names for the number nr.
func (a Arch) in(names []string, nr uint32) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		n, ok := a.Number(name)
		return ok && n == nr
	})
}
