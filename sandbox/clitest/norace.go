//go:build !race

package clitest

// Race tells that this program has the race detector.
const Race = false
