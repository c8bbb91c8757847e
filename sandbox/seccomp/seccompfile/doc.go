// Package seccompfile reads a system call policy from JSON: docker's seccomp profile, or the linux.seccomp of the OCI runtime
// specification (config-linux.md), which has other architectures and no conditions. It is for the side that reads what
// people write; what the policy means is package seccomp's.
package seccompfile
