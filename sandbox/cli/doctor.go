package cli

import (
	"fmt"
	"os"
	"strings"

	"cove/config"
	"cove/sandbox/host"

	"github.com/urfave/cli/v2"
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
		return usagef("takes no arguments")
	}
	h, err := a.probe(true)
	if err != nil {
		return err
	}
	checks := diagnose(h)
	if _, err := config.RuntimeDir(os.Getenv); err != nil {
		checks = append(checks, check{Name: "runtime folder", Found: err.Error(), Lost: "run, shell, exec, ps and stop", Vital: true})
	}
	healthy := true
	for _, k := range checks {
		healthy = healthy && (k.OK || !k.Vital)
	}
	if c.Bool("json") {
		err = writeJSON(a.stdout, struct {
			OK     bool       `json:"ok"`
			Checks []check    `json:"checks"`
			Host   *host.Host `json:"host"`
		}{healthy, checks, h})
	} else {
		_, err = a.stdout.WriteString(printChecks(checks))
	}
	if err == nil && !healthy {
		err = exitStatus(1)
	}
	return err
}

// diagnose turns the facts into findings; what is said here is what hints say too.
func diagnose(h *host.Host) []check {
	checks := []check{usernsCheck(h), idsCheck(h)}
	if h.UserNS.OK {
		checks = append(checks, overlayCheck(h), fuseCheck(h), networkCheck(h))
	}
	return append(checks, storeCheck(h), hostNetworkCheck(h))
}

func usernsCheck(h *host.Host) check {
	k := check{Name: "user namespaces", OK: h.UserNS.OK, Vital: true, Found: "a process started in one"}
	if !k.OK {
		k.Found = h.UserNS.Why
		if r := h.UserNSReason(); r != "" {
			k.Found += " (" + r + ")"
		} else if strings.HasSuffix(h.Label, "(enforce)") {
			k.Found += fmt.Sprintf(" (cove runs under the AppArmor profile %q)", h.Label)
		}
		k.Lost = "everything: a sandbox is made of them"
		k.Fix = usernsFix(h)
	}
	return k
}

func idsCheck(h *host.Host) check {
	k := check{Name: "ids", OK: h.MapRange.OK}
	n := uint64(0)
	for _, r := range h.SubIDs.UIDs {
		n += uint64(r.Count)
	}
	switch {
	case k.OK && h.SubIDsOf == "":
		k.Found = fmt.Sprintf("%d ids of the built-in range mapped (/etc/subuid has none for root or containers)", n)
	case k.OK:
		k.Found = fmt.Sprintf("%d subordinate ids of %s mapped", n, h.SubIDsOf)
	default:
		k.Found, k.Fix = idsProblem(h)
		k.Lost = "all ids but one: everything inside is you; setgid, chown to others and apt's _apt user fail"
	}
	return k
}

// idsProblem says why only one id can be mapped, and what mends it.
func idsProblem(h *host.Host) (found, fix string) {
	noRanges := len(h.SubIDs.UIDs) == 0 || len(h.SubIDs.GIDs) == 0
	switch {
	case h.SubIDsError != "":
		return h.SubIDsError, "mend that line of the file"
	case h.Helpers.NewUIDMap == "" || h.Helpers.NewGIDMap == "":
		found, fix = "newuidmap and newgidmap are not on PATH", install("newuidmap")
		if noRanges {
			found += ", and /etc/subuid and /etc/subgid grant you nothing"
			fix += " && " + subidsFix(h.Name)
		}
		return found, fix
	case noRanges:
		return "/etc/subuid and /etc/subgid grant you nothing", subidsFix(h.Name)
	case h.Helpers.Weak != "":
		return h.Helpers.Weak + " is not setuid root", "sudo chmod u+s " + shellWord(h.Helpers.NewUIDMap) + " " + shellWord(h.Helpers.NewGIDMap)
	}
	return h.MapRange.Why, ""
}

func overlayCheck(h *host.Host) check {
	k := check{Name: "native overlay", OK: h.NativeOverlay.OK, Found: "mounted on " + h.Store.FSType}
	if !k.OK {
		k.Found = h.NativeOverlay.Why + " (store on " + h.Store.FSType + ")"
		k.Lost = "speed: each start copies the image"
		if h.Fuse() {
			k.Lost = "speed: fuse-overlayfs is used"
		}
		k.Fix = "a kernel of 5.11 or newer, and the store (COVE_STORE) on ext4, xfs, btrfs or tmpfs"
	}
	return k
}

func fuseCheck(h *host.Host) check {
	k := check{Name: "fuse-overlayfs", OK: h.Fuse(), Found: h.Helpers.FuseOverlayfs}
	if !k.OK {
		k.Found, k.Fix = fuseProblem(h)
		k.Lost = "nothing: the native overlay is used"
		if !h.NativeOverlay.OK {
			k.Lost = "speed and disk: each start copies the image"
		}
	}
	return k
}

func fuseProblem(h *host.Host) (found, fix string) {
	if h.Helpers.FuseOverlayfs == "" {
		return "not on PATH", install("fuse-overlayfs")
	}
	return h.FuseMount.Why, "sudo modprobe fuse && sudo chmod 0666 /dev/fuse"
}

func networkCheck(h *host.Host) check {
	var have []string
	for _, p := range []string{h.Helpers.Slirp4netns, h.Helpers.Pasta} {
		if p != "" {
			have = append(have, p)
		}
	}
	k := check{Name: "user network", OK: len(have) > 0 && h.DevNetTun.OK, Found: strings.Join(have, ", ")}
	if !k.OK {
		k.Found, k.Fix = networkProblem(h)
		k.Lost = `network.mode = "user"`
	}
	return k
}

func networkProblem(h *host.Host) (found, fix string) {
	if h.Helpers.Slirp4netns == "" && h.Helpers.Pasta == "" {
		return "neither slirp4netns nor pasta is on PATH", install("slirp4netns")
	}
	return h.DevNetTun.Why, "sudo modprobe tun && sudo chmod 0666 /dev/net/tun"
}

func storeCheck(h *host.Host) check {
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
	if len(bad) > 0 {
		k.OK, k.Lost = false, strings.Join(bad, "; ")
		k.Fix = "export COVE_STORE=DIR, with DIR on a local disk that is mounted without these options"
	}
	return k
}

func hostNetworkCheck(h *host.Host) check {
	k := check{Name: "host network", OK: h.LandlockScope, Found: fmt.Sprintf("landlock ABI %d", h.LandlockABI)}
	if !k.OK {
		if h.LandlockABI == 0 {
			k.Found = "no landlock"
		}
		k.Lost = `network.mode = "host" is refused without --best-effort: abstract sockets could not be closed`
		k.Fix = "a kernel of 6.12 or newer with landlock among its LSMs (cat /sys/kernel/security/lsm)"
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

// probe asks the machine, once in a call of cove.
func (a *app) probe(fresh bool) (*host.Host, error) {
	if a.machine != nil {
		return a.machine, nil
	}
	dir, err := config.StoreDir(a.storeDir, os.Getenv)
	if err != nil {
		return nil, err
	}
	runtimeDir, err := config.RuntimeDir(os.Getenv)
	if err != nil {
		runtimeDir = "" // nothing is kept then; who needs the folder says what is wrong with it
	}
	a.machine, err = host.Probe(a.ctx, host.Options{StoreDir: dir, RuntimeDir: runtimeDir, Fresh: fresh})
	return a.machine, err
}
