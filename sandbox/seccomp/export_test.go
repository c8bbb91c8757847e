package seccomp

// For the tests that need package seccompfile, which imports this one.
var (
	Run          = run
	Valid        = valid
	Docker       = &docker
	EachEdge     = edges
	Conditional  = conditional
	PreparedCaps = preparedCaps
	AllCaps      = allCaps
	Needed       = needed
)

// Usable is what Prepare asks of a policy.
func Usable(p *Policy) error { return p.usable() }
