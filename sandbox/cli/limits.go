package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"cove/sandbox"
	"cove/sandbox/cgroup"
	"cove/sandbox/host"
)

// limitsCheck makes a control group with every limit, for a process that does nothing.
func (a *app) limitsCheck(h *host.Host) check {
	k := check{Name: "limits", Found: "memory, cpus and pids held by a control group"}
	err := sandbox.TryLimits(a.Ctx, h)
	if k.OK = err == nil; k.OK {
		if h.Cgroup.Systemd != "" {
			k.Found += " of systemd's"
		}
		return k
	}
	k.Found, k.Fix = limitsProblem(h, err)
	k.Lost = "limits on memory, cpus and pids; asking for one is an error (timeout works)"
	var missing *cgroup.ControllerError
	if errors.As(err, &missing) {
		k.Lost = "the limit that it holds; asking for that is an error"
	}
	return k
}

// limitsProblem says what keeps a limit from being held, and what mends it.
func limitsProblem(h *host.Host, err error) (found, fix string) {
	var missing *cgroup.ControllerError
	switch {
	case errors.As(err, &missing):
		return missing.Error(), controllerFix(missing.Name, h)
	case !errors.Is(err, sandbox.ErrNoCgroup):
		return err.Error(), ""
	case !h.Cgroup.V2:
		return "limits need control groups of version 2, and at /sys/fs/cgroup there is " + h.Cgroup.Mounted, unifiedFix(underSystemd(), os.Getenv("WSL_DISTRO_NAME"))
	case underSystemd() && h.UID != 0:
		return "no systemd of yours runs, which would make the control group", "sudo loginctl enable-linger " + shellWord(h.Name)
	}
	return fmt.Sprintf("the control group %s, in which cove runs, was not delegated to you", h.Cgroup.Path),
		"start cove where it was (in a container: with /sys/fs/cgroup writable and a cgroup namespace of its own), or under systemd"
}

func underSystemd() bool {
	info, err := os.Stat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// unifiedFix is how a machine comes to control groups of version 2 alone.
func unifiedFix(systemd bool, wsl string) string {
	switch {
	case wsl != "":
		return "in %UserProfile%\\.wslconfig, below [wsl2]: kernelCommandLine = cgroup_no_v1=all; then `wsl --shutdown`"
	case systemd:
		return `sudo sed -i 's/^GRUB_CMDLINE_LINUX="/&systemd.unified_cgroup_hierarchy=1 /' /etc/default/grub && sudo update-grub && sudo reboot`
	}
	return "start the kernel with cgroup_no_v1=all and have cgroup2 mounted at /sys/fs/cgroup; inside a container, that is the host's to do"
}

func controllerFix(name string, h *host.Host) string {
	kernel, _ := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	for _, c := range strings.Fields(string(kernel)) {
		if c == name && h.Cgroup.Systemd != "" && h.UID != 0 {
			return `sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\nDelegate=cpu cpuset io memory pids\n' | sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload && sudo systemctl restart user@$(id -u).service`
		}
	}
	if name == "memory" {
		return "start the kernel with cgroup_enable=memory (a Raspberry Pi: in /boot/firmware/cmdline.txt)"
	}
	return "have the controller delegated to the control group in which cove runs: cgroups(7)"
}
