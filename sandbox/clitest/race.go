//go:build race

package clitest

// Race tells that this program has the race detector: it takes memory by the terabyte, and libraries that are in no image.
const Race = true
