//go:build race

package early

import "syscall"

// raceEnv has the settings of the race detector, of which init's races are told, too.
func raceEnv() []string {
	value, ok := syscall.Getenv("GORACE")
	if !ok {
		return nil
	}
	return []string{"GORACE=" + value}
}
