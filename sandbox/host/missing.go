package host

import "strings"

// MissingError says that no program that could carry the network is installed.
type MissingError struct {
	Programs []string // what was looked for
	Packages []string // Debian's packages that have them, of which one is enough when Any
	Any      bool
}

func (e *MissingError) Error() string {
	if e.Any {
		return "no user-mode network: neither " + strings.Join(e.Programs, " nor ") + " is installed"
	}
	return "no user-mode network: not installed: " + strings.Join(e.Programs, ", ")
}
