// Package seccomp decides which system calls a sandbox may make, as a program for the kernel (seccomp(2), classic BPF).
//
//	docker's profile (data) or a file's    -> Profile.Policy(Conditions) -> Rules
//	what no sandbox may, whatever they say -> Denials(Conditions)        -> Deny
//	Policy{Default, Arches, Deny, Rules}   -> Compile()                  -> Program -> Load (in init)
//
// A Policy is plain data; Eval says what it means for one call, and the program that Compile makes says the same for
// every call. The program looks for a call's number by halving, so that the kernel, which runs the program once for
// each number when it is loaded (to remember the calls that are always allowed, Linux 5.11), is soon done.
//
// docker.go and calls.go are generated: docker's default profile out of github.com/moby/profiles/seccomp, and the
// numbers of system calls out of golang.org/x/sys/unix; prepared_*.go are the programs for the usual sandbox. `go generate`
// makes them anew, and a test fails when they differ from what these modules hold, which are not linked into cove.
//
// What a JSON file holds is read by package seccompfile.
package seccomp

// The second time for the programs, which are compiled from what the first one wrote.
//
//go:generate go test -run ^TestGenerated$ -update
//go:generate go test -run ^TestGenerated$ -update
