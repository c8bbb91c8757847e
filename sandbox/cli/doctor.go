package cli

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"cove/config"
	"cove/sandbox"
	"cove/sandbox/host"
	"cove/sandbox/network"
	"cove/sandbox/network/driver"
	"cove/sandbox/start"
	"cove/userns"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

func (a *app) doctorCommand() *cli.Command {
	return &cli.Command{
		Name:      "doctor",
		Usage:     "what this machine allows, tried for real, and the command that mends it",
		UsageText: "cove doctor [--json]",
		Flags:     []cli.Flag{jsonFlag()},
		Action:    a.action(a.doctor),
	}
}

func jsonFlag() cli.Flag { return &cli.BoolFlag{Name: "json", Usage: "print JSON"} }

// check is one line of the doctor's findings.
type check struct {
	Name  string `json:"name"`
	OK    bool   `json:"ok"`
	Found string `json:"found"`          // what was seen
	Lost  string `json:"lost,omitempty"` // what does not work because of it
	Fix   string `json:"fix,omitempty"`  // commands, or what else to do
	Vital bool   `json:"vital,omitempty"`
}

func (a *app) doctor(c *cli.Context) error {
	if c.Args().Present() {
		return start.Usagef("takes no arguments")
	}
	h, err := a.examine()
	if err != nil {
		return err
	}
	checks := a.here().diagnose(h)
	checks = append(checks, a.networkChecks(h)...)
	checks = append(checks, a.limitsCheck(h))
	if _, err := config.RuntimeDir(os.Getenv); err != nil {
		checks = append(checks, check{Name: "runtime folder", Found: err.Error(), Lost: "run, shell, exec, ps and stop", Vital: true})
	}
	healthy := true
	for _, k := range checks {
		healthy = healthy && (k.OK || !k.Vital)
	}
	if c.Bool("json") {
		err = writeJSON(a.Stdout, struct {
			OK     bool       `json:"ok"`
			Checks []check    `json:"checks"`
			Host   *host.Host `json:"host"`
		}{healthy, checks, h})
	} else {
		_, err = a.Stdout.WriteString(printChecks(checks))
	}
	if err == nil && !healthy {
		err = exitStatus(1)
	}
	return err
}

// diagnose turns the facts into findings; what is said here is what hints say too.
func (p place) diagnose(h *host.Host) []check {
	checks := []check{p.usernsCheck(h)}
	if h.UserNS.OK {
		checks = append(checks, p.procCheck(h), p.mountCheck(h), p.hostnameCheck(h), p.idsCheck(h), p.foreignIDsCheck(h), p.overlayCheck(h), p.fuseCheck(h))
	}
	checks = append(checks, p.storeCheck(h), p.hostNetworkCheck(h))
	if h.Deep != nil {
		checks = append(checks, p.seccompCheck(h), p.bestEffortCheck(h))
	}
	return checks
}

func (p place) usernsCheck(h *host.Host) check {
	k := check{Name: "user namespaces", OK: h.UserNS.OK, Vital: true, Found: "a process started in one"}
	if p.around != host.Machine {
		k.Found += fmt.Sprintf(" (inside: %s)", p.around)
	}
	if !k.OK {
		k.Found = h.UserNS.Why
		if r := h.UserNSReason(); r != "" {
			k.Found += " (" + r + ")"
		} else if strings.HasSuffix(h.Label, "(enforce)") {
			k.Found += fmt.Sprintf(" (cove runs under the AppArmor profile %q)", h.Label)
		} else if p.around != host.Machine {
			k.Found += fmt.Sprintf(" (this is the inside of: %s)", p.around)
		}
		k.Lost = "everything: a sandbox is made of them; `cove run --best-effort` holds a command of this machine without"
		k.Fix = p.usernsFix(h)
	}
	return k
}

// procCheck is about a /proc of the sandbox's own. Where parts of the one around us are covered by mounts, the kernel
// allows no other to whoever has no right to uncover them (mount_too_revealing in its fs/namespace.c).
func (p place) procCheck(h *host.Host) check {
	k := check{Name: "proc", OK: h.ProcMount.OK, Vital: true, Found: "mounted for a pid namespace"}
	if !k.OK {
		k.Found, k.Lost = "mount proc: "+h.ProcMount.Why, "everything: a sandbox has a /proc of its own"
		if k.Fix = p.container(); k.Fix == "" {
			k.Fix = "take away what is mounted below /proc: findmnt -R /proc"
		}
	}
	return k
}

func (p place) mountCheck(h *host.Host) check {
	k := check{Name: "mount_setattr", OK: h.MountSetattr.OK, Vital: true, Found: "a mount was made read-only with all below it"}
	if !k.OK {
		k.Found, k.Lost, k.Fix = h.MountSetattr.Why, "everything: no mount could be made read-only for sure", "a kernel of 5.12 or newer"
		if outer := p.container(); outer != "" && h.MountSetattr.Errno != int(unix.ENOSYS) {
			k.Fix = outer
		}
	}
	return k
}

func (p place) hostnameCheck(h *host.Host) check {
	k := check{Name: "hostname", OK: h.Hostname.OK, Vital: true, Found: "set in a namespace of its own"}
	if !k.OK {
		k.Found, k.Lost, k.Fix = h.Hostname.Why, "everything: a sandbox has a hostname of its own", p.container()
	}
	return k
}

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

// networkChecks start each driver of a user-mode network, side by side.
func (a *app) networkChecks(h *host.Host) []check {
	if !h.UserNS.OK {
		return nil
	}
	drivers := []struct{ name, path string }{{driver.Slirp, h.Helpers.Slirp4netns}, {driver.Pasta, h.Helpers.Pasta}}
	errs := make([]error, len(drivers))
	var all sync.WaitGroup
	for i, d := range drivers {
		if d.path == "" || !h.DevNetTun.OK {
			continue
		}
		all.Go(func() {
			m, err := start.IDMap(h, 0, 0)
			if err == nil {
				err = sandbox.TryNetwork(a.Ctx, m, a.Network, d.name)
			}
			errs[i] = err
		})
	}
	all.Wait()
	var checks []check
	works := 0
	for i, d := range drivers {
		k := check{Name: d.name, OK: d.path != "" && h.DevNetTun.OK && errs[i] == nil, Found: d.path + " carried a network, its filter in place"}
		if !k.OK {
			k.Found, k.Fix = a.here().networkProblem(h, d.name, d.path, errs[i])
		} else {
			works++
		}
		checks = append(checks, k)
	}
	for i := range checks {
		switch {
		case checks[i].OK:
		case works == 0:
			checks[i].Lost = `network.mode = "user"`
		default:
			checks[i].Lost = fmt.Sprintf("nothing: another driver is used, unless network.driver = %q", checks[i].Name)
		}
	}
	return checks
}

func (p place) networkProblem(h *host.Host, name, path string, err error) (found, fix string) {
	switch {
	case path == "":
		return "not on PATH", p.install(name)
	case !h.DevNetTun.OK:
		return h.DevNetTun.Why, p.deviceFix("/dev/net/tun", "tun", h.DevNetTun)
	case strings.Contains(err.Error(), network.NoFilter):
		return err.Error(), p.filterFix()
	}
	return err.Error(), p.install(name) + "   # a newer one, or the other driver"
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

// landlockFix is for kernels that have landlock and leave it out at boot.
const landlockFix = "with landlock among its LSMs (cat /sys/kernel/security/lsm; the kernel's parameter lsm=landlock,... adds it)"

func (p place) hostNetworkCheck(h *host.Host) check {
	k := check{Name: "host network", OK: h.LandlockScope, Found: fmt.Sprintf("landlock ABI %d", h.LandlockABI)}
	if h.Deep != nil && k.OK {
		k.OK, k.Found = h.Deep.Scope.OK, "an abstract socket was out of reach for a landlock domain"
	}
	if !k.OK {
		k.Found = fmt.Sprintf("landlock ABI %d has no scope", h.LandlockABI)
		switch {
		case h.LandlockABI == 0:
			k.Found = "no landlock"
		case h.LandlockScope:
			k.Found = h.Deep.Scope.Why
		}
		k.Lost = `network.mode = "host" is refused without --best-effort: abstract sockets could not be closed`
		k.Fix = "a kernel of 6.12 or newer " + landlockFix
	}
	return k
}

func (p place) seccompCheck(h *host.Host) check {
	k := check{Name: "seccomp", OK: h.Deep.Seccomp.OK, Vital: true, Found: "a filter took hold"}
	if !k.OK {
		k.Found, k.Lost, k.Fix = h.Deep.Seccomp.Why, "everything: no system call could be kept from a command", "a kernel with CONFIG_SECCOMP_FILTER"
		if outer := p.container(); outer != "" {
			k.Fix = outer
		}
	}
	return k
}

// bestEffortCheck is about `run --best-effort` where there are no user namespaces.
func (p place) bestEffortCheck(h *host.Host) check {
	k := check{Name: "best effort", OK: h.Deep.Landlock.OK && h.Deep.Seccomp.OK && h.LandlockABI > 0, Found: fmt.Sprintf("landlock (ABI %d) kept a file from being read", h.LandlockABI)}
	if !k.OK {
		k.Found, k.Lost = h.Deep.Landlock.Why, "`cove run --best-effort` without user namespaces"
		k.Fix = "a kernel of 5.13 or newer " + landlockFix
	}
	return k
}

func printChecks(checks []check) string {
	var b strings.Builder
	for _, k := range checks {
		state := "ok  "
		switch {
		case !k.OK && k.Vital:
			state = "FAIL"
		case !k.OK:
			state = "less"
		}
		fmt.Fprintf(&b, "%s  %-16s %s\n", state, k.Name, escape(k.Found))
		if !k.OK && k.Lost != "" {
			fmt.Fprintf(&b, "      lost: %s\n", escape(k.Lost))
		}
		if !k.OK && k.Fix != "" {
			// Not indented: a here-document must be possible to paste.
			fix := escapeLines(k.Fix)
			if len(fix) == 1 {
				fmt.Fprintf(&b, "      fix:  %s\n", fix[0])
			} else {
				fmt.Fprintf(&b, "      fix:\n%s\n", strings.Join(fix, "\n"))
			}
		}
	}
	return b.String()
}

// examine asks the machine everything.
func (a *app) examine() (*host.Host, error) { return a.Inspect(host.Options{Fresh: true, Deep: true}) }

// here is where advice is to be followed.
func (a *app) here() place {
	if a.place == nil {
		p := here()
		a.place = &p
	}
	return *a.place
}
