package userns

import (
	"errors"
	"fmt"
)

// ErrNoSubids says that the user has no subordinate ids, so that only one id can be mapped.
var ErrNoSubids = errors.New("no subordinate ids")

// SubRange is a grant of Count consecutive host ids that start at Start (subuid(5)).
type SubRange struct {
	Start, Count uint32
}

// SubIDs is what /etc/subuid and /etc/subgid grant to one user, in the files' order.
type SubIDs struct {
	UIDs, GIDs []SubRange
}

// Allocate lays out a mapping in which the container ids asUID and asGID are the caller's own
// hostUID and hostGID, and every other container id, from 0 upwards without a gap, is a
// subordinate one, as far as the grants reach. Grants that overlap each other or the caller's own
// id are an error that names them. Without any grant of either kind it returns
// Single(...) and ErrNoSubids: usable, with one id.
func Allocate(sub SubIDs, hostUID, hostGID, asUID, asGID uint32) (IDMap, error) {
	if countIDs(sub.UIDs) == 0 || countIDs(sub.GIDs) == 0 {
		return Single(hostUID, hostGID, asUID, asGID), ErrNoSubids
	}
	uids, err := layOut(sub.UIDs, hostUID, asUID)
	if err != nil {
		return IDMap{}, fmt.Errorf("subordinate uids: %w", err)
	}
	gids, err := layOut(sub.GIDs, hostGID, asGID)
	if err != nil {
		return IDMap{}, fmt.Errorf("subordinate gids: %w", err)
	}
	return IDMap{UIDs: uids, GIDs: gids}, nil
}

// Single maps the one container id asUID (asGID) to hostUID (hostGID).
func Single(hostUID, hostGID, asUID, asGID uint32) IDMap {
	return IDMap{UIDs: []Range{{asUID, hostUID, 1}}, GIDs: []Range{{asGID, hostGID, 1}}}
}

// AllocateRoot lays out a mapping for a caller who is root on the host: container ids from 0
// upwards are subordinate ids only, so that no id inside is host 0. A grant that holds 0 is an error.
func AllocateRoot(sub SubIDs) (IDMap, error) {
	if countIDs(sub.UIDs) == 0 || countIDs(sub.GIDs) == 0 {
		return IDMap{}, ErrNoSubids
	}
	uids, err := withoutOwn(sub.UIDs, 0)
	if err != nil {
		return IDMap{}, fmt.Errorf("subordinate uids: %w", err)
	}
	gids, err := withoutOwn(sub.GIDs, 0)
	if err != nil {
		return IDMap{}, fmt.Errorf("subordinate gids: %w", err)
	}
	return IDMap{UIDs: uids, GIDs: gids}, nil
}

// countIDs is how many ids are granted.
func countIDs(grants []SubRange) (n uint64) {
	for _, g := range grants {
		n += uint64(g.Count)
	}
	return n
}

// withoutOwn numbers the grants, none of which may hold the caller's own id.
func withoutOwn(grants []SubRange, own uint32) ([]Range, error) {
	for _, g := range grants {
		if own >= g.Start && own-g.Start < g.Count {
			return nil, fmt.Errorf("range %d:%d holds your own id %d", g.Start, g.Count, own)
		}
	}
	return consecutive(grants)
}

// layOut fills the container ids below `as` and above it with the grants, in order, and puts
// the caller's own id at `as`.
func layOut(grants []SubRange, own, as uint32) ([]Range, error) {
	sub, err := withoutOwn(grants, own)
	if err != nil {
		return nil, err
	}
	var out []Range
	for _, r := range sub {
		end := uint64(r.ContainerID) + uint64(r.Size)
		switch {
		case end <= uint64(as):
			out = append(out, r)
		case r.ContainerID >= as:
			out = append(out, Range{r.ContainerID + 1, r.HostID, r.Size})
		default:
			below := as - r.ContainerID
			out = append(out, Range{r.ContainerID, r.HostID, below})
			out = append(out, Range{as + 1, r.HostID + below, r.Size - below})
		}
	}
	at := len(out)
	for i, r := range out {
		if r.ContainerID > as {
			at = i
			break
		}
	}
	out = append(out, Range{})
	copy(out[at+1:], out[at:])
	out[at] = Range{as, own, 1}
	return out, checkExtents(out)
}

func checkExtents(ranges []Range) error {
	if len(ranges) > maxExtents {
		return fmt.Errorf("%d ranges: the kernel takes %d (Linux 4.15)", len(ranges), maxExtents)
	}
	return nil
}

// maxExtents is UID_GID_MAP_MAX_EXTENTS of user_namespaces(7), since Linux 4.15.
const maxExtents = 340

// consecutive numbers the grants from container id 0 on.
func consecutive(grants []SubRange) ([]Range, error) {
	var out []Range
	next := uint64(0)
	for i, g := range grants {
		if g.Count == 0 {
			continue
		}
		// 2^32-1 is (uid_t) -1, which no id may be; a single `as` in between needs one more.
		if uint64(g.Start)+uint64(g.Count) > 1<<32-1 || next+uint64(g.Count) >= 1<<32-2 {
			return nil, fmt.Errorf("range %d:%d reaches past the last id", g.Start, g.Count)
		}
		for _, o := range grants[:i] {
			if o.Count > 0 && g.Start < o.Start+o.Count && o.Start < g.Start+g.Count {
				return nil, fmt.Errorf("ranges %d:%d and %d:%d overlap", o.Start, o.Count, g.Start, g.Count)
			}
		}
		out = append(out, Range{uint32(next), g.Start, g.Count})
		next += uint64(g.Count)
	}
	return out, checkExtents(out)
}
