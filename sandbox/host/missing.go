package host

import "strings"

// MissingError says that the program that was to carry the network is not installed.
type MissingError struct {
	Programs []string // what was looked for
	Packages []string // Debian's packages that have them
}

func (e *MissingError) Error() string {
	return "no user-mode network: not installed: " + strings.Join(e.Programs, ", ")
}
