// Package clitest lets a test that runs cove as a program learn its exit code, which a shell or testscript turns into
// one bit. A test binary that is cove itself links it; cove does not.
//
// Its import path sorts before package quick's, whose init ends the process.
package clitest

import (
	"fmt"
	"os"
	"strconv"

	"cove/sandbox/start"
)

// StatusFile is the variable that names the file in which cove leaves its exit code.
const StatusFile = "COVE_TEST_STATUS"

var name = os.Getenv(StatusFile)

func init() {
	os.Unsetenv(StatusFile)
	start.Exit = Exit
}

// Exit ends the process, and leaves its code.
func Exit(code int) {
	if name != "" {
		if err := os.WriteFile(name, []byte(strconv.Itoa(code)), 0o600); err != nil {
			fmt.Fprintln(os.Stderr, "test:", err)
		}
	}
	os.Exit(code)
}
