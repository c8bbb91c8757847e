package cli

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"cove/sandbox/host"
	"cove/userns"
)

// imageIDs is how many ids images use: nobody is 65534.
const imageIDs = 65535

func (p place) idsCheck(h *host.Host) check {
	k := check{Name: "ids", OK: h.MapRange.OK}
	uids, gids := count(h.SubIDs.UIDs), count(h.SubIDs.GIDs)
	n := min(uids, gids)
	if h.UID != 0 {
		n++ // our own
	}
	switch {
	case k.OK && n < imageIDs:
		k.OK = false
		k.Found = fmt.Sprintf("%d ids of %s mapped, and images use %d", n, h.SubIDsOf, imageIDs)
		k.Lost = "images with files of a user or group above that, such as nobody's (65534), cannot be unpacked"
		k.Fix = p.subidsFix(h.SubIDsOf, uids < imageIDs-1, gids < imageIDs-1)
		if h.SubIDsOf == "" {
			k.Found = fmt.Sprintf("%d ids mapped, all that this container has, and images use %d", n, imageIDs)
			k.Fix = "start the container with more ids: podman run --uidmap 0:0:131072 ... as root, or a larger range in /etc/subuid outside"
		}
	case k.OK && h.SubIDsOf == "" && h.SubIDs.UIDs[0].Start == 1:
		k.Found = fmt.Sprintf("%d ids mapped: all of this container's but root's", n)
	case k.OK && h.SubIDsOf == "":
		k.Found = fmt.Sprintf("%d ids of the built-in range mapped (/etc/subuid has none for root or containers)", n)
	case k.OK:
		k.Found = fmt.Sprintf("%d subordinate ids of %s mapped", min(uids, gids), h.SubIDsOf)
	default:
		k.Found, k.Fix = p.idsProblem(h)
		k.Lost = "all ids but one: everything inside is you; setgid, chown to others and apt's _apt user fail"
		if h.UID == 0 {
			k.Lost, k.Vital = "everything: root inside would be root here", true
		}
	}
	return k
}

func count(ranges []userns.SubRange) (n uint64) {
	for _, r := range ranges {
		n += uint64(r.Count)
	}
	return n
}

// idsProblem says why only one id can be mapped, and what mends it.
func (p place) idsProblem(h *host.Host) (found, fix string) {
	noUIDs, noGIDs := len(h.SubIDs.UIDs) == 0, len(h.SubIDs.GIDs) == 0
	ranges := func() string {
		what := "/etc/subuid and /etc/subgid grant you nothing"
		if noUIDs != noGIDs {
			what = map[bool]string{true: "/etc/subuid grants you nothing", false: "/etc/subgid grants you nothing"}[noUIDs]
		}
		return what
	}
	switch {
	case h.SubIDsForeign:
		return h.SubIDsError, "grant ranges in /etc/subuid and /etc/subgid that /proc/self/uid_map has, or start the container with more ids"
	case h.SubIDsError != "":
		return h.SubIDsError, "mend that line of the file"
	case h.MayMap || h.UID == 0: // no helper is needed
	case h.Helpers.NewUIDMap == "" || h.Helpers.NewGIDMap == "":
		found, fix = "newuidmap and newgidmap are not on PATH", p.install("newuidmap")
		if noUIDs || noGIDs {
			found += ", and " + ranges()
			fix += " && " + p.subidsFix(h.Name, noUIDs, noGIDs)
		}
		return found, fix
	}
	switch {
	case h.UID == 0 && (noUIDs || noGIDs):
		return "this container has no ids besides root's own", "start the container with a range of ids"
	case h.UID == 0 && !h.MayMap:
		return "root here is without CAP_SETUID or CAP_SETGID: " + h.MapRange.Why, "start the container without --cap-drop, or with --cap-add SETUID --cap-add SETGID"
	case noUIDs || noGIDs:
		return ranges(), p.subidsFix(h.Name, noUIDs, noGIDs)
	case h.MayMap || h.UID == 0:
	case host.NoNewPrivs():
		return "this shell runs with no_new_privs, under which newuidmap is not setuid root: " + h.MapRange.Why, "start cove from a shell without (a systemd unit: NoNewPrivileges=no)"
	case h.Helpers.Weak != "":
		return h.Helpers.Weak + " is neither setuid root nor has file capabilities", p.sudo("chmod u+s " + shellWord(h.Helpers.NewUIDMap) + " " + shellWord(h.Helpers.NewGIDMap))
	}
	return h.MapRange.Why, ""
}

// foreignIDsCheck looks whether somebody else has the ids that sandboxes use: who gets out of one would be that user.
func (p place) foreignIDsCheck(h *host.Host) check {
	k := check{Name: "ids' owners", OK: true, Found: "nobody else has them"}
	if !h.MapRange.OK || h.SubIDsOf == "" {
		return k
	}
	for _, f := range []struct {
		path, accounts, flag string
		mine                 []userns.SubRange
	}{{"/etc/subuid", "/etc/passwd", "subuids", h.SubIDs.UIDs}, {"/etc/subgid", "/etc/group", "subgids", h.SubIDs.GIDs}} {
		for _, mine := range f.mine {
			if who := overlapping(mine, h.SubIDsOf, h.UID, grantsOf(f.path), accountsOf(f.accounts)); who != "" {
				k.OK, k.Found = false, fmt.Sprintf("%s: your range %d:%d overlaps that of %s", f.path, mine.Start, mine.Count, who)
				k.Lost = "the wall between you: who gets out of one's sandbox could reach into the other's"
				last := uint64(mine.Start) + uint64(mine.Count) - 1
				free := freeSubids("/etc/subuid", "/etc/subgid")
				k.Fix = p.sudo(fmt.Sprintf("usermod --del-%s %d-%d --add-%s %d-%d %s", f.flag, mine.Start, last, f.flag, free, free+uint64(mine.Count)-1, shellWord(h.SubIDsOf))) +
					"   # and `cove gc`: images are unpacked anew"
				return k
			}
		}
	}
	return k
}

// overlapping names who else has an id of the range: another grant, or an account of the machine.
func overlapping(mine userns.SubRange, name string, uid uint32, grants []userns.Grant, accounts []userns.Grant) string {
	for _, g := range grants {
		if g.Who != name && g.Who != strconv.FormatUint(uint64(uid), 10) && mine.Overlaps(g.SubRange) {
			return g.Who
		}
	}
	for _, g := range accounts {
		if mine.Overlaps(g.SubRange) {
			return fmt.Sprintf("the account %s (%d)", g.Who, g.Start)
		}
	}
	return ""
}

// accountsOf reads names and ids of passwd(5) or group(5).
func accountsOf(path string) (out []userns.Grant) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		parts := strings.Split(line, ":")
		if len(parts) < 3 {
			continue
		}
		if id, err := strconv.ParseUint(parts[2], 10, 32); err == nil {
			out = append(out, userns.Grant{Who: parts[0], SubRange: userns.SubRange{Start: uint32(id), Count: 1}})
		}
	}
	return out
}
