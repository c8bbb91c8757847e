package cli

import (
	"fmt"
	"os"
	"strings"

	"cove/config"
	"cove/sandbox/host"
	"cove/sandbox/start"

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
	a.addStoreUse(checks)
	checks = append(checks, a.networkChecks(h)...)
	checks = append(checks, a.limitsCheck(h), sessionCheck())
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

// landlockFix is for kernels that have landlock and leave it out at boot.
const landlockFix = "with landlock among its LSMs (cat /sys/kernel/security/lsm; the kernel's parameter lsm=landlock,... adds it)"

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
