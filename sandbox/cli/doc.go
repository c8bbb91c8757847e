// Package cli is what the user types: one file per command. It reads the command line with
// urfave/cli, calls the packages that do the work, and prints. Errors are printed here and
// nowhere else, once, with the advice of hints.go; what an image, a registry or a profile put
// into them never reaches the terminal raw.
//
// Only main imports it. The texts of `cove help` are in help/, the shells' scripts in completion/.
package cli
