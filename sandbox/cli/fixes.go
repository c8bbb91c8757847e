package cli

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"cove/sandbox/host"
)

// The commands that mend a machine, one place for doctor and for hints.

// family is the group of distributions that this one belongs to, which decides its packages' names.
type family string

const (
	debian  family = "debian"
	fedora  family = "fedora"
	arch    family = "arch"
	suse    family = "suse"
	alpine  family = "alpine"
	unknown family = ""
)

// thisFamily reads os-release(5).
func thisFamily() family {
	for _, path := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		if b, err := os.ReadFile(path); err == nil {
			return familyOf(string(b))
		}
	}
	return unknown
}

func familyOf(osRelease string) family {
	var ids []string
	for _, key := range []string{"ID=", "ID_LIKE="} { // its own name counts more than its relatives'
		for _, line := range strings.Split(osRelease, "\n") {
			if value, ok := strings.CutPrefix(line, key); ok {
				ids = append(ids, strings.Fields(strings.Trim(strings.TrimSpace(value), `"'`))...)
			}
		}
	}
	for _, id := range ids {
		switch id {
		case "debian", "ubuntu":
			return debian
		case "fedora", "rhel", "centos":
			return fedora
		case "arch", "archlinux":
			return arch
		case "suse", "opensuse", "sles":
			return suse
		case "alpine":
			return alpine
		}
	}
	return unknown
}

// packages are the names under which the distributions have a program.
var packages = map[string]map[family]string{
	"newuidmap":      {debian: "uidmap", fedora: "shadow-utils", arch: "shadow", suse: "shadow", alpine: "shadow-subids"},
	"fuse-overlayfs": {debian: "fuse-overlayfs", fedora: "fuse-overlayfs", arch: "fuse-overlayfs", suse: "fuse-overlayfs", alpine: "fuse-overlayfs"},
	"slirp4netns":    {debian: "slirp4netns", fedora: "slirp4netns", arch: "slirp4netns", suse: "slirp4netns", alpine: "slirp4netns"},
	"pasta":          {debian: "passt", fedora: "passt", arch: "passt", suse: "passt", alpine: "passt"},
}

var installers = map[family]string{
	debian: "sudo apt-get install -y", fedora: "sudo dnf install -y", arch: "sudo pacman -S", suse: "sudo zypper install", alpine: "doas apk add",
}

// install is the command that brings a program.
func install(program string) string {
	f := thisFamily()
	pkg, ok := packages[program][f]
	if !ok {
		return "install the package that has " + program
	}
	return installers[f] + " " + pkg
}

// subidsFix grants the user a range that nobody has.
func subidsFix(name string) string {
	who := `"$(id -un)"`
	if name != "" {
		who = shellWord(name)
	}
	first := freeSubids("/etc/subuid", "/etc/subgid")
	last := first + 65535
	return fmt.Sprintf("sudo usermod --add-subuids %d-%d --add-subgids %d-%d %s", first, last, first, last, who)
}

// freeSubids is the first id behind all ranges of the files, at least where useradd begins.
func freeSubids(files ...string) uint64 {
	free := uint64(100000)
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			parts := strings.Split(strings.TrimSpace(s.Text()), ":")
			if len(parts) != 3 {
				continue
			}
			start, err1 := strconv.ParseUint(parts[1], 10, 32)
			count, err2 := strconv.ParseUint(parts[2], 10, 32)
			if err1 == nil && err2 == nil && start+count < 1<<31 {
				free = max(free, start+count)
			}
		}
		f.Close()
	}
	return free
}

// usernsFix is the command for whatever keeps user namespaces away, and what is known of it.
func usernsFix(h *host.Host) string {
	switch reason := h.UserNSReason(); reason {
	case "":
		return ""
	case "kernel.apparmor_restrict_unprivileged_userns=1":
		exe, err := os.Executable()
		if err != nil {
			exe = "/usr/local/bin/cove"
		}
		return appArmorFix(exe)
	case "user.max_user_namespaces=0":
		return sysctlFix("user.max_user_namespaces", "15000")
	default:
		name, _, _ := strings.Cut(reason, "=")
		return sysctlFix(name, "1")
	}
}

func sysctlFix(name, value string) string {
	return fmt.Sprintf("echo %s=%s | sudo tee -a /etc/sysctl.d/60-cove.conf && sudo sysctl -p /etc/sysctl.d/60-cove.conf", name, value)
}

// appArmorFix installs a profile that allows user namespaces to this one program, which is what
// Ubuntu does for the programs that it ships.
func appArmorFix(exe string) string {
	return `sudo tee /etc/apparmor.d/cove >/dev/null <<'EOF'
abi <abi/4.0>,
include <tunables/global>
profile cove ` + appArmorPath(exe) + ` flags=(unconfined) {
  userns,
}
EOF
sudo apparmor_parser -r /etc/apparmor.d/cove`
}

// appArmorPath quotes a path for apparmor.d(5), where globs have a meaning.
func appArmorPath(path string) string {
	var b strings.Builder
	for _, r := range path {
		if strings.ContainsRune(`\"*?[]{}@^`, r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return `"` + b.String() + `"`
}

// shellWord quotes a word for a POSIX shell where it needs that.
func shellWord(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=@%+,"
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
