package userns

import (
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// OwnIDs are the ids that exist in the user namespace of this process: those that a mapping of a
// namespace below it can use. Outside of every container that is all of them.
func OwnIDs() (SubIDs, error) {
	uids, err := readOwn("/proc/self/uid_map")
	if err != nil {
		return SubIDs{}, err
	}
	gids, err := readOwn("/proc/self/gid_map")
	return SubIDs{UIDs: uids, GIDs: gids}, err
}

func readOwn(path string) ([]SubRange, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	out := parseOwn(string(b))
	if out == nil {
		return nil, &fs.PathError{Op: "parse", Path: path, Err: fs.ErrInvalid}
	}
	return out, nil
}

// parseOwn takes the first and the last column of a map file: an id inside, one outside, and how many.
func parseOwn(text string) (out []SubRange) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 {
			return nil
		}
		start, err1 := strconv.ParseUint(f[0], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		if err1 != nil || err2 != nil || count == 0 || start+count > 1<<32 {
			return nil
		}
		out = append(out, SubRange{uint32(start), uint32(count)})
	}
	slices.SortFunc(out, func(a, b SubRange) int { return int(int64(a.Start) - int64(b.Start)) })
	return out
}

// Within is what of the ids lies within the others.
func (s SubIDs) Within(o SubIDs) SubIDs {
	return SubIDs{UIDs: within(s.UIDs, o.UIDs), GIDs: within(s.GIDs, o.GIDs)}
}

func within(ranges, limits []SubRange) (out []SubRange) {
	for _, r := range ranges {
		for _, l := range limits {
			lo := max(uint64(r.Start), uint64(l.Start))
			hi := min(uint64(r.Start)+uint64(r.Count), uint64(l.Start)+uint64(l.Count))
			if lo < hi {
				out = append(out, SubRange{uint32(lo), uint32(hi - lo)})
			}
		}
	}
	return out
}

// Without is the ids but for one of each kind.
func (s SubIDs) Without(uid, gid uint32) SubIDs {
	around := func(id uint32) []SubRange {
		out := []SubRange{{0, id}, {id + 1, 1<<32 - 2 - id}}
		return slices.DeleteFunc(out, func(r SubRange) bool { return r.Count == 0 })
	}
	return s.Within(SubIDs{UIDs: around(uid), GIDs: around(gid)})
}
