package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cove/config"
	"cove/fetch/store"
	"cove/sandbox/host"
)

func (p place) overlayCheck(h *host.Host) check {
	k := check{Name: "native overlay", OK: h.NativeOverlay.OK, Found: "mounted on " + h.Store.FSType}
	if !k.OK {
		k.Found = h.NativeOverlay.Why + " (store on " + h.Store.FSType + ")"
		k.Lost = "speed: each start copies the image"
		if h.Fuse() {
			k.Lost = "speed: fuse-overlayfs is used"
		}
		if p.around != host.Machine && h.Store.FSType == "overlay" {
			k.Fix = "start the container with a volume for the store: -v cove:" + shellWord(h.Store.Dir)
			return k
		}
		k.Fix = "a kernel of 5.11 or newer, and the store (COVE_STORE) on ext4, xfs, btrfs or tmpfs"
	}
	return k
}

func (p place) fuseCheck(h *host.Host) check {
	k := check{Name: "fuse-overlayfs", OK: h.Fuse(), Found: h.Helpers.FuseOverlayfs}
	if k.OK && h.Deep != nil {
		k.OK, k.Found = h.Deep.FuseOverlayfs.OK, h.Helpers.FuseOverlayfs+" served a file system"
	}
	if !k.OK {
		k.Found, k.Fix = p.fuseProblem(h)
		k.Lost = "nothing: the native overlay is used"
		if !h.NativeOverlay.OK {
			k.Lost = "speed and disk: each start copies the image"
		}
	}
	return k
}

func (p place) fuseProblem(h *host.Host) (found, fix string) {
	switch {
	case h.Helpers.FuseOverlayfs == "":
		return "not on PATH", p.install("fuse-overlayfs")
	case !h.FuseMount.OK:
		return h.FuseMount.Why, p.deviceFix("/dev/fuse", "fuse", h.FuseMount)
	}
	return h.Deep.FuseOverlayfs.Why, p.install("fuse-overlayfs") + "   # 1.0 or newer"
}

func (p place) storeCheck(h *host.Host) check {
	k := check{Name: "store", OK: true, Found: h.Store.Dir + " on " + h.Store.FSType}
	var bad []string
	if h.Store.Remote {
		bad = append(bad, "a network file system keeps no subordinate owners and no overlay")
	}
	if h.Store.NoExec {
		bad = append(bad, "mounted noexec: nothing of an image could be started")
	}
	if h.Store.NoSuid {
		bad = append(bad, "mounted nosuid: setuid programs of an image have no effect")
	}
	if d := h.Deep; d != nil && h.UserNS.OK {
		if !d.Exec.OK && !h.Store.NoExec {
			bad = append(bad, "a program there did not start ("+d.Exec.Why+"): nothing of an image could be started")
		}
		if !d.Owners.OK && !h.Store.Remote && h.MapRange.OK {
			bad = append(bad, "its file system gives no file to a subordinate id ("+d.Owners.Why+"): no image can be unpacked")
		}
	}
	if len(bad) > 0 {
		k.OK, k.Lost = false, strings.Join(bad, "; ")
		k.Fix = "export COVE_STORE=DIR, with DIR on a local disk (ext4, xfs, btrfs) that is mounted without these options"
		if h.Store.Remote || h.Deep != nil && !h.Deep.Owners.OK {
			k.Fix = fmt.Sprintf("%s   # on a local disk\nexport COVE_STORE=/var/tmp/cove-%d", p.sudo(fmt.Sprintf("install -d -o %d -g %d -m 0700 /var/tmp/cove-%d", h.UID, h.GID, h.UID)), h.UID)
		}
	}
	return k
}

// addStoreUse adds to what was found of the store what it takes on the disk. A store that is not there yet is not made.
func (a *app) addStoreUse(checks []check) {
	i := slices.IndexFunc(checks, func(k check) bool { return k.Name == "store" })
	dir, err := config.StoreDir(a.StoreDir, os.Getenv)
	if i < 0 || err != nil {
		return
	}
	if _, err := os.Lstat(filepath.Join(dir, "version")); err != nil {
		return
	}
	k := &checks[i]
	s, err := store.Open(dir)
	if err == nil {
		s.SetupWanted = setupWanted
		var u *store.Usage
		if u, err = s.Usage(a.Ctx); err == nil {
			k.Found += fmt.Sprintf(": %d images, %s on disk, %s reclaimable (cove gc), %s free", len(u.Images), size(u.Disk), size(u.Reclaimable), size(u.Free)) + a.viewsFound(s)
			k.Found += persistSum(a, s)
			return
		}
	}
	k.OK, k.Lost = false, err.Error()
}

// persistSum says how much is kept by persist, which no collection takes by itself.
func persistSum(a *app, s *store.Store) string {
	kept, err := s.Persists(a.Ctx)
	if err != nil {
		return "; what persist has kept: " + err.Error()
	}
	if len(kept) == 0 {
		return ""
	}
	var sum int64
	for _, p := range kept {
		sum += p.Bytes
	}
	return fmt.Sprintf("; %s in %s kept by persist (cove gc --dry-run)", size(sum), plural(len(kept), "root file system"))
}
