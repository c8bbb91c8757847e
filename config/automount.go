package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// automounts are the places of this machine where something is mounted only when it is asked for: /net/HOST, say, is looked up in
// the DNS and mounted over the network when a name below it is looked at (autofs(8)). A profile that nobody has agreed to must
// not have it done by naming a path.
type automounts struct {
	waits map[string]bool // mount points on which autofs lies, and nothing on top of it
	all   map[string]bool // every mount point
}

// ownAutomounts is what this machine has when it is first asked for.
var ownAutomounts = sync.OnceValue(func() automounts {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return automounts{}
	}
	return parseAutomounts(string(data))
})

// parseAutomounts reads proc_pid_mountinfo(5). A later mount lies on top of an earlier one at the same place.
func parseAutomounts(mountinfo string) automounts {
	a := automounts{waits: map[string]bool{}, all: map[string]bool{}}
	if !strings.Contains(mountinfo, " - autofs ") {
		return a
	}
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		at := slices.Index(fields, "-")
		if at < 6 || at+1 >= len(fields) {
			continue
		}
		point := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(fields[4])
		a.all[point] = true
		delete(a.waits, point)
		if fields[at+1] == "autofs" {
			a.waits[point] = true
		}
	}
	return a
}

// maxLinks is how many links are followed, as the kernel does (path_resolution(7)).
const maxLinks = 40

// reached says whether looking at an absolute path would have something mounted. It goes the way that the kernel goes, and stops
// before the step that would.
func (a automounts) reached(path string) bool {
	if len(a.waits) == 0 {
		return false
	}
	left := strings.Split(filepath.Clean(path), "/")
	at := "/"
	for links := 0; len(left) > 0; {
		part := left[0]
		left = left[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, part)
		if a.waits[at] && !a.all[next] {
			return true
		}
		to, err := os.Readlink(next)
		if err != nil { // no link, or nothing
			at = next
			continue
		}
		if links++; links > maxLinks {
			return false
		}
		if filepath.IsAbs(to) {
			at = "/"
		}
		left = append(strings.Split(to, "/"), left...) // not cleaned: what .. means depends on the links before it
	}
	return a.waits[at]
}

// quietPath is realPath for a path that a project's profile names: it is false, too, where something would have to be mounted to
// tell where the path leads.
func quietPath(path string) (string, bool) {
	if ownAutomounts().reached(path) {
		return path, false
	}
	return realPath(path)
}

// pathFor is a path as whoever names it may have it looked at.
func pathFor(kind, path string) (string, bool) {
	if kind == FromProfile {
		return quietPath(path)
	}
	return realPath(path)
}

// readNamed reads a file that somebody has named in a value.
func readNamed(path string, by Origin) ([]byte, error) {
	if by.Kind == FromProfile && ownAutomounts().reached(path) {
		return nil, refuse("it lies where something would be mounted to read it, which no project's profile has done; name it in your own config.toml or by hand")
	}
	return readOwned(path, true)
}
