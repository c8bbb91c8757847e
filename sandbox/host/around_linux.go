package host

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Around is what this process runs in, when that is no machine of its own: there other commands mend what is missing.
type Around string

// The surroundings that are told apart.
const (
	Machine    Around = "" // none of them
	Docker     Around = "docker"
	Podman     Around = "podman"
	Kubernetes Around = "kubernetes"
	Cove       Around = "cove"
	Container  Around = "container" // of another kind: lxc, systemd-nspawn
	WSL1       Around = "wsl1"
	WSL2       Around = "wsl2"
)

// LookAround says what this process runs in. What a container manager leaves behind is a custom, not a promise, and says
// nothing about what is allowed: it only chooses the words of advice.
func LookAround() Around { return lookAround(os.Getenv, fileText) }

func lookAround(getenv func(string) string, text func(path string) (string, bool)) Around {
	has := func(path string) bool { _, ok := text(path); return ok }
	kind, _ := text("/run/systemd/container") // systemd's container interface
	init, _ := text("/proc/1/cmdline")
	// The kernel's own threads are seen in the first pid namespace alone: a machine may be made of a container's image, with
	// all that marks one.
	second, _ := text("/proc/2/comm")
	machine := second == "kthreadd\n"
	switch {
	case strings.HasPrefix(init, "cove-init\x00"):
		return Cove
	case getenv("KUBERNETES_SERVICE_HOST") != "", has("/var/run/secrets/kubernetes.io"):
		return Kubernetes
	case machine:
	case has("/run/.containerenv"), getenv("container") == "podman", strings.TrimSpace(kind) == "podman":
		return Podman
	case has("/.dockerenv"), strings.TrimSpace(kind) == "docker":
		return Docker
	case kind != "", getenv("container") != "":
		return Container
	}
	// WSL 1 translates system calls and has no namespaces; WSL 2 is a Linux kernel (learn.microsoft.com/windows/wsl/compare-versions).
	release, _ := text("/proc/sys/kernel/osrelease")
	switch {
	case strings.Contains(release, "WSL2"), strings.Contains(release, "microsoft-standard"):
		return WSL2
	case strings.Contains(release, "Microsoft"):
		return WSL1
	}
	return Machine
}

// fileText is what a small file holds, and whether there is anything of that name: a folder holds "".
func fileText(path string) (string, bool) {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return "", false
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return "", true
	}
	b, _ := os.ReadFile(path)
	return string(b), true
}
