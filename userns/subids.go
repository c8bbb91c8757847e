package userns

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// ReadSubIDs reads what /etc/subuid and /etc/subgid grant to the user of that name and uid. A
// file that is not there grants nothing. A line that makes no sense is an error that names it.
func ReadSubIDs(name string, uid uint32) (SubIDs, error) {
	uids, err := readSubFile("/etc/subuid", name, uid)
	if err != nil {
		return SubIDs{}, err
	}
	gids, err := readSubFile("/etc/subgid", name, uid)
	return SubIDs{UIDs: uids, GIDs: gids}, err
}

func readSubFile(path, name string, uid uint32) ([]SubRange, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	got, err := ParseSubIDs(f, name, uid)
	if err != nil {
		return nil, fmt.Errorf("%s:%w", path, err)
	}
	return got, nil
}

// ParseSubIDs reads the format of subuid(5): "name-or-uid:start:count" a line. Lines of other
// users are passed over, whatever they hold. Errors begin with the line number.
func ParseSubIDs(r io.Reader, name string, uid uint32) ([]SubRange, error) {
	var out []SubRange
	s := bufio.NewScanner(r)
	for n := 1; s.Scan(); n++ {
		line := strings.TrimSpace(s.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		who, rest, _ := strings.Cut(line, ":")
		if who == "" || (who != name && who != utoa(uid)) {
			continue
		}
		start, count, ok := strings.Cut(rest, ":")
		lo, err1 := strconv.ParseUint(start, 10, 32)
		size, err2 := strconv.ParseUint(count, 10, 32)
		if !ok || err1 != nil || err2 != nil {
			return nil, fmt.Errorf("%d: %q is not name:start:count", n, line)
		}
		if size == 0 {
			continue
		}
		if lo+size > 1<<32-1 {
			return nil, fmt.Errorf("%d: range %d:%d reaches past the last id", n, lo, size)
		}
		// A grant that stands there twice is one grant.
		if r := (SubRange{Start: uint32(lo), Count: uint32(size)}); !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out, s.Err()
}

// A Grant is one line of subuid(5).
type Grant struct {
	Who string // a name or a uid
	SubRange
}

// ParseGrants reads the grants of everybody, passing over every line that makes no sense: it is not the caller's to mend.
func ParseGrants(r io.Reader) []Grant {
	var out []Grant
	for s := bufio.NewScanner(r); s.Scan(); {
		parts := strings.Split(strings.TrimSpace(s.Text()), ":")
		if len(parts) != 3 || parts[0] == "" || strings.HasPrefix(parts[0], "#") {
			continue
		}
		start, err1 := strconv.ParseUint(parts[1], 10, 32)
		count, err2 := strconv.ParseUint(parts[2], 10, 32)
		if err1 == nil && err2 == nil && count > 0 && start+count <= 1<<32-1 {
			out = append(out, Grant{parts[0], SubRange{uint32(start), uint32(count)}})
		}
	}
	return out
}

// Overlaps reports whether the two have an id in common.
func (r SubRange) Overlaps(o SubRange) bool {
	return uint64(r.Start) < uint64(o.Start)+uint64(o.Count) && uint64(o.Start) < uint64(r.Start)+uint64(r.Count)
}

func utoa(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
