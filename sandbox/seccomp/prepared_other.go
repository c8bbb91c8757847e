//go:build !amd64 && !arm64

package seccomp

// prepared is empty where there is no policy.
const prepared = ""
