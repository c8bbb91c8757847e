package userns

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Range maps Size consecutive ids that start at ContainerID inside to those that start at
// HostID outside, as one line of /proc/PID/uid_map does (user_namespaces(7)).
type Range struct {
	ContainerID uint32 `json:"container"`
	HostID      uint32 `json:"host"`
	Size        uint32 `json:"size"`
}

// IDMap is the whole mapping of a user namespace: what uid_map and gid_map say.
// The ranges are ordered by ContainerID and overlap on neither side.
type IDMap struct {
	UIDs []Range `json:"uids"`
	GIDs []Range `json:"gids"`
}

// HostUID returns the uid outside that containerID is inside, and whether it is mapped.
func (m IDMap) HostUID(containerID uint32) (uint32, bool) { return toHost(m.UIDs, containerID) }

// HostGID returns the gid outside that containerID is inside, and whether it is mapped.
func (m IDMap) HostGID(containerID uint32) (uint32, bool) { return toHost(m.GIDs, containerID) }

// ContainerUID returns the uid inside that hostID is outside, and whether it is mapped.
func (m IDMap) ContainerUID(hostID uint32) (uint32, bool) { return toContainer(m.UIDs, hostID) }

// ContainerGID returns the gid inside that hostID is outside, and whether it is mapped.
func (m IDMap) ContainerGID(hostID uint32) (uint32, bool) { return toContainer(m.GIDs, hostID) }

// Single reports whether one id alone is mapped, so that everything inside is one user.
func (m IDMap) Single() bool {
	return len(m.UIDs) == 1 && m.UIDs[0].Size == 1 && len(m.GIDs) == 1 && m.GIDs[0].Size == 1
}

// Root is id 0 inside, or the one id there is.
func (m IDMap) Root() (uid, gid uint32) { return lowest(m.UIDs), lowest(m.GIDs) }

func lowest(rs []Range) uint32 {
	if len(rs) == 0 {
		return 0
	}
	low := rs[0].ContainerID
	for _, r := range rs {
		low = min(low, r.ContainerID)
	}
	return low
}

// Key names the mapping: the same for equal mappings, different for others, and fit for a file
// name. The store keeps one directory per layer and key, since a layer's files are owned by host ids.
func (m IDMap) Key() string {
	sum := sha256.Sum256([]byte(m.String()))
	return hex.EncodeToString(sum[:8])
}

// String writes the mapping as "uid 0:1000:1 1:100000:65536 gid 0:1000:1 ...", container first.
func (m IDMap) String() string {
	var b strings.Builder
	b.WriteString("uid")
	for _, r := range m.UIDs {
		fmt.Fprintf(&b, " %d:%d:%d", r.ContainerID, r.HostID, r.Size)
	}
	b.WriteString(" gid")
	for _, r := range m.GIDs {
		fmt.Fprintf(&b, " %d:%d:%d", r.ContainerID, r.HostID, r.Size)
	}
	return b.String()
}

func toHost(ranges []Range, id uint32) (uint32, bool) {
	for _, r := range ranges {
		if id >= r.ContainerID && id-r.ContainerID < r.Size {
			return r.HostID + (id - r.ContainerID), true
		}
	}
	return 0, false
}

func toContainer(ranges []Range, id uint32) (uint32, bool) {
	for _, r := range ranges {
		if id >= r.HostID && id-r.HostID < r.Size {
			return r.ContainerID + (id - r.HostID), true
		}
	}
	return 0, false
}
