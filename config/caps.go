package config

import (
	"fmt"
	"slices"
	"strings"
)

// Capabilities are the names in capabilities(7) without CAP_, each at its own number, as of Linux 6.18.
var Capabilities = []string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
	"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
	"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
	"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
	"CHECKPOINT_RESTORE",
}

// capWords are the names that are shown to whoever writes a profile.
func capWords() []string { return append([]string{"default", "all"}, Capabilities...) }

// DefaultCaps are what "default" stands for: docker's set without NET_RAW, MKNOD and AUDIT_WRITE.
func DefaultCaps() []string {
	return []string{"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
		"NET_BIND_SERVICE", "SYS_CHROOT", "SETFCAP"}
}

// ExpandCaps replaces "default" and "all" by what they stand for; each capability comes once, in the kernel's order.
func ExpandCaps(caps []string) []string {
	var has []string
	for _, c := range caps {
		switch c {
		case "default":
			has = append(has, DefaultCaps()...)
		case "all":
			has = append(has, Capabilities...)
		default:
			has = append(has, c)
		}
	}
	out := []string{}
	for _, c := range Capabilities {
		if slices.Contains(has, c) {
			out = append(out, c)
		}
	}
	return out
}

// ChangeCaps is a list of capabilities as --cap-drop and then --cap-add change it, the names in any of the spellings
// that the profile knows. "all" may be dropped too.
func ChangeCaps(caps, add, drop []string) ([]string, error) {
	caps = ExpandCaps(caps)
	for _, name := range drop {
		c, err := parseCap(name)
		if err != nil {
			return nil, fmt.Errorf("drop capability %q: %w", name, err)
		}
		gone := ExpandCaps([]string{c})
		caps = slices.DeleteFunc(caps, func(c string) bool { return slices.Contains(gone, c) })
	}
	for _, name := range add {
		c, err := parseCap(name)
		if err != nil {
			return nil, fmt.Errorf("add capability %q: %w", name, err)
		}
		caps = append(caps, c)
	}
	return ExpandCaps(caps), nil
}

// parseCap reads the name of a capability in any case, with CAP_ or without.
func parseCap(name string) (string, error) {
	if lower := strings.ToLower(name); lower == "default" || lower == "all" {
		return lower, nil
	}
	c := strings.TrimPrefix(strings.ToUpper(name), "CAP_")
	if slices.Contains(Capabilities, c) {
		return c, nil
	}
	if near := nearest(c, Capabilities); near != "" {
		return "", fmt.Errorf("unknown capability; did you mean %q?", near)
	}
	return "", fmt.Errorf("unknown capability (default, all, or a name of capabilities(7))")
}
