package host

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"

	"cove/sandbox/programs"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// Options say where cove keeps things, which is config's to know.
type Options struct {
	StoreDir   string // on whose file system the overlay is tried
	RuntimeDir string // where the tried facts are kept; "": nowhere
	Fresh      bool   // try everything again, whatever is kept
	Deep       bool   // try Host.Deep too; with Fresh
}

// rootRange is mapped for root where /etc/subuid grants nothing to "root" or "containers". It lies
// just above what systemd gives to its containers (524288-1879048191, systemd's UIDS-GIDS.md),
// where no id is a person's or a service's.
var rootRange = userns.SubRange{Start: 1879048192, Count: 65536}

// Probe finds out what this machine allows. That something is missing is a fact, not an error.
func Probe(ctx context.Context, opts Options) (*Host, error) {
	h := cheap(opts)
	h.Key = newKey(h, opts)
	kept, ok := Tried{}, false
	if !opts.Fresh {
		kept, ok = readCache(opts.RuntimeDir, h.Key)
	}
	if !ok {
		found, err := try(ctx, h, opts)
		if err != nil {
			return nil, err
		}
		kept = found.Tried
		if kept.lasting(h) {
			writeCache(opts.RuntimeDir, h.Key, kept)
		}
		if opts.Deep {
			h.Deep = found.Deep
			h.Deep.Around = LookAround()
			h.Deep.confinement()
		}
	}
	h.Tried = kept
	hide(h, os.Getenv("COVE_HIDE"))
	return h, nil
}

// cheap gathers what a few system calls and small files tell.
func cheap(opts Options) *Host {
	h := &Host{
		UID:     uint32(os.Geteuid()),
		GID:     uint32(os.Getegid()),
		Kernel:  kernelRelease(),
		Boot:    sysctl("kernel/random/boot_id"),
		Helpers: findHelpers(),
		Cgroup:  readCgroup(),
		Store:   readStore(opts.StoreDir),
		Sysctls: Sysctls{
			AppArmorRestrict: sysctl("kernel/apparmor_restrict_unprivileged_userns"),
			UserNSClone:      sysctl("kernel/unprivileged_userns_clone"),
			MaxUserNS:        sysctl("user/max_user_namespaces"),
		},
		Label:       label(),
		MayMap:      userns.MayMap(),
		Openat2:     hasOpenat2(),
		LandlockABI: landlockABI(),
	}
	h.LandlockScope = h.LandlockABI >= 6
	h.Name, h.Home = whoami(h.UID)
	h.Groups = groups(h.GID)
	h.readSubIDs()
	return h
}

// whoami takes the name from /etc/passwd, else (a network account) from the environment, which can
// only lie about ourselves: newuidmap looks for itself. Home is $HOME, as for every other program.
func whoami(uid uint32) (name, home string) {
	home = os.Getenv("HOME")
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		if name = os.Getenv("USER"); name == "" {
			name = os.Getenv("LOGNAME")
		}
		return name, home
	}
	if !strings.HasPrefix(home, "/") {
		home = u.HomeDir
	}
	return u.Username, home
}

func groups(own uint32) []Group {
	gids, _ := os.Getgroups()
	var out []Group
	for _, gid := range gids {
		if uint32(gid) == own {
			continue
		}
		g := Group{GID: uint32(gid)}
		if found, err := user.LookupGroupId(strconv.Itoa(gid)); err == nil {
			g.Name = found.Name
		}
		out = append(out, g)
	}
	return out
}

// readSubIDs finds the ranges that are there to be mapped. In a container a range of /etc/subuid may be none of those that
// the container itself was given (/proc/self/uid_map).
func (h *Host) readSubIDs() {
	own, err := userns.OwnIDs()
	if err != nil {
		h.SubIDsError = err.Error()
		return
	}
	names := []string{h.Name}
	if h.UID == 0 {
		names = []string{"root", "containers"}
	}
	for _, name := range names {
		uid := h.UID
		if name == "containers" {
			uid = noUID
		}
		sub, err := userns.ReadSubIDs(name, uid)
		if err != nil {
			h.SubIDsError = err.Error()
			return
		}
		here := sub.Within(own)
		if len(here.UIDs) > 0 && len(here.GIDs) > 0 {
			h.SubIDs, h.SubIDsOf = here, name
			return
		}
		if h.UID != 0 && len(sub.UIDs) > 0 && len(sub.GIDs) > 0 {
			h.SubIDsForeign = true
			h.SubIDsError = fmt.Sprintf("the ranges of %s in /etc/subuid and /etc/subgid (from %d on) are not among the ids of this container (/proc/self/uid_map)", name, sub.UIDs[0].Start)
			return
		}
	}
	if h.UID == 0 {
		r := []userns.SubRange{rootRange}
		h.SubIDs = userns.SubIDs{UIDs: r, GIDs: r}.Within(own)
		if len(h.SubIDs.UIDs) == 0 || len(h.SubIDs.GIDs) == 0 {
			// Root of a container with few ids: all but its own.
			h.SubIDs = own.Without(0, 0)
		}
	}
}

// noUID is (uid_t) -1, which no user has: "containers" is to be matched by name only.
const noUID = 1<<32 - 1

func findHelpers() Helpers {
	var h Helpers
	h.NewUIDMap, h.NewGIDMap, _ = userns.Helpers()
	h.FuseOverlayfs, _ = programs.Find("fuse-overlayfs")
	h.Slirp4netns, _ = programs.Find("slirp4netns")
	h.Pasta, _ = programs.Find("pasta")
	for _, p := range []string{h.NewUIDMap, h.NewGIDMap} {
		if p != "" && !privileged(p) {
			h.Weak = p
		}
	}
	return h
}

// privileged reports whether the kernel would give the program at path more than its caller has.
func privileged(path string) bool {
	var st unix.Stat_t
	var fs unix.Statfs_t
	if unix.Stat(path, &st) != nil || unix.Statfs(path, &fs) != nil || fs.Flags&unix.ST_NOSUID != 0 {
		return false
	}
	if st.Mode&unix.S_ISUID != 0 && st.Uid == 0 {
		return true
	}
	n, err := unix.Getxattr(path, "security.capability", nil)
	return err == nil && n > 0
}

// fsNames are the magic numbers of statfs(2) that people meet; the second says that it is remote.
var fsNames = map[int64]struct {
	name   string
	remote bool
}{
	unix.EXT4_SUPER_MAGIC: {"ext4", false}, unix.XFS_SUPER_MAGIC: {"xfs", false},
	unix.BTRFS_SUPER_MAGIC: {"btrfs", false}, unix.TMPFS_MAGIC: {"tmpfs", false},
	unix.OVERLAYFS_SUPER_MAGIC: {"overlay", false}, unix.ECRYPTFS_SUPER_MAGIC: {"ecryptfs", false},
	unix.F2FS_SUPER_MAGIC: {"f2fs", false}, 0x2fc12fc1: {"zfs", false},
	unix.MSDOS_SUPER_MAGIC: {"vfat", false}, unix.EXFAT_SUPER_MAGIC: {"exfat", false},
	unix.FUSE_SUPER_MAGIC: {"fuse", false}, 0xca451a4e: {"bcachefs", false},
	unix.NFS_SUPER_MAGIC: {"nfs", true}, unix.V9FS_MAGIC: {"9p", true},
	unix.AFS_SUPER_MAGIC: {"afs", true}, unix.CEPH_SUPER_MAGIC: {"ceph", true},
	0xff534d42: {"cifs", true}, 0xfe534d42: {"smb", true}, 0x0bd00bd0: {"lustre", true},
}

// readStore looks at dir, or at the nearest folder above it that is there.
func readStore(dir string) Store {
	s := Store{Dir: dir}
	var fs unix.Statfs_t
	at := dir
	for ; ; at = at[:max(strings.LastIndexByte(at, '/'), 0)] {
		if at == "" {
			at = "/"
		}
		if unix.Statfs(at, &fs) == nil {
			break
		}
		if at == "/" {
			return s
		}
	}
	var st unix.Stat_t
	_ = unix.Stat(at, &st)
	s.dev = st.Dev
	known, ok := fsNames[int64(uint32(fs.Type))]
	if s.FSType, s.Remote = known.name, known.remote; !ok {
		s.FSType = "0x" + strconv.FormatUint(uint64(uint32(fs.Type)), 16)
	}
	s.NoExec = fs.Flags&unix.ST_NOEXEC != 0
	s.NoSuid = fs.Flags&unix.ST_NOSUID != 0
	s.NoDev = fs.Flags&unix.ST_NODEV != 0
	return s
}

// NoNewPrivs reports whether setuid programs have no effect for us (PR_SET_NO_NEW_PRIVS(2const)).
func NoNewPrivs() bool {
	on, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	return err == nil && on == 1
}

func sysctl(name string) string {
	b, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// label is "" where no security module keeps one; SELinux ends its own with a NUL.
func label() string {
	b, err := os.ReadFile("/proc/self/attr/current")
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(b), "\x00\n")
}

func kernelRelease() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	return unix.ByteSliceToString(u.Release[:])
}

func hasOpenat2() bool {
	fd, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC})
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// landlockABI asks for the version alone: landlock_create_ruleset(2).
func landlockABI() int {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(v)
}

// hide takes away what COVE_HIDE names.
func hide(h *Host, names string) {
	for _, name := range strings.Split(names, ",") {
		switch name {
		case "overlay":
			h.NativeOverlay = hidden
		case "fuse-overlayfs":
			h.Helpers.FuseOverlayfs, h.FuseMount = "", hidden
			if h.Deep != nil {
				h.Deep.FuseOverlayfs = hidden
			}
		case "newuidmap":
			h.Helpers.NewUIDMap, h.Helpers.NewGIDMap = "", ""
			if !h.MayMap { // root maps without it
				h.MapRange = hidden
			}
		case "slirp4netns":
			h.Helpers.Slirp4netns = ""
		case "pasta":
			h.Helpers.Pasta = ""
		case "userns":
			h.UserNS, h.MapRange, h.NativeOverlay, h.FuseMount = hidden, hidden, hidden, hidden
			h.DevNetTun, h.MountSetattr, h.ProcMount, h.Hostname = hidden, hidden, hidden, hidden
		case "landlock":
			h.LandlockABI, h.LandlockScope = 0, false
			if h.Deep != nil {
				h.Deep.Landlock, h.Deep.Scope = hidden, hidden
			}
		case "systemd":
			h.Cgroup.Systemd = ""
		case "cgroup":
			h.Cgroup = Cgroup{Mounted: "cgroup2 that COVE_HIDE hides"}
		case "landlock-scope":
			h.LandlockABI, h.LandlockScope = min(h.LandlockABI, 5), false
			if h.Deep != nil {
				h.Deep.Scope = hidden
			}
		}
	}
}
