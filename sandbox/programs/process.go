package programs

import (
	"os"
	"slices"
	"sync"
)

// process is what this process's PATH was made of.
var process struct {
	sync.Mutex
	caller string    // PATH as it was given
	own    *Programs // with PATH as it is; nil: it is as it was given
	given  []string  // what Guard was told of
}

// Guard takes out of this process's PATH what is not absolute, and what lies in one of these folders or in one that it was told of before.
func Guard(writable ...string) {
	process.Lock()
	defer process.Unlock()
	news := false
	for _, dir := range writable {
		if dir != "" && !slices.Contains(process.given, dir) {
			process.given, news = append(process.given, dir), true
		}
	}
	path, _ := os.LookupEnv("PATH")
	made := process.own != nil && process.own.path == path
	if made && !news {
		return
	}
	if !made {
		process.caller = path
	}
	if process.own = New(process.given); process.own.set && process.own.path != path {
		_ = os.Setenv("PATH", process.own.path) // a part of the value that it has
	}
}

// Find finds a program in this process's PATH, and refuses one that lies, or through a link leads, where Guard was told of.
func Find(name string) (string, error) {
	process.Lock()
	p := process.own
	if path, set := os.LookupEnv("PATH"); p == nil || p.path != path || p.set != set {
		p = New(process.given)
	}
	process.Unlock()
	return p.Find(name)
}

// LookupEnv is os.LookupEnv with PATH as the caller gave it: a sandbox to which it passes has theirs.
func LookupEnv(name string) (string, bool) {
	value, set := os.LookupEnv(name)
	if name != "PATH" {
		return value, set
	}
	process.Lock()
	defer process.Unlock()
	if process.own != nil && process.own.path == value {
		return process.caller, set
	}
	return value, set
}

// Restore gives PATH back, for a command of the caller's own that runs outside.
func Restore() {
	if path, set := LookupEnv("PATH"); set {
		_ = os.Setenv("PATH", path)
	}
}
