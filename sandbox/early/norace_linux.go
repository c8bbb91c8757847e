//go:build !race

package early

func raceEnv() []string { return nil }
