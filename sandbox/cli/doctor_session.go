package cli

import (
	"os"
	"path/filepath"
	"strings"

	"cove/sandbox/programs"
)

// sessionCheck says what there is here of what [host] can grant. None of it is missed by who does not ask for it.
func sessionCheck() check {
	runtime := os.Getenv("XDG_RUNTIME_DIR")
	wayland := os.Getenv("WAYLAND_DISPLAY")
	if wayland != "" && !filepath.IsAbs(wayland) {
		wayland = filepath.Join(runtime, wayland)
	}
	sound := strings.TrimPrefix(os.Getenv("PULSE_SERVER"), "unix:")
	if sound == "" && runtime != "" {
		sound = filepath.Join(runtime, "pulse/native")
	}
	x11 := ""
	if display, ok := strings.CutPrefix(strings.TrimPrefix(os.Getenv("DISPLAY"), "unix"), ":"); ok {
		number, _, _ := strings.Cut(display, ".")
		x11 = "/tmp/.X11-unix/X" + number
	}
	var here, not []string
	for _, one := range []struct {
		name  string
		there bool
	}{
		{"ssh agent", isSocket(os.Getenv("SSH_AUTH_SOCK"))}, {"git", isProgram("git")}, {"browser (xdg-open)", isProgram("xdg-open")},
		{"notifications (notify-send)", isProgram("notify-send")}, {"Wayland", isSocket(wayland)}, {"X11", isSocket(x11)}, {"sound", isSocket(sound)},
		{"GPU", anyFile("/dev/dri/renderD*", "/dev/nvidiactl", "/etc/cdi/*", "/var/run/cdi/*")},
	} {
		if one.there {
			here = append(here, one.name)
		} else {
			not = append(not, one.name)
		}
	}
	k := check{Name: "your session", OK: true, Found: "for [host] there are: " + strings.Join(here, ", ")}
	if here == nil {
		k.Found = "for [host] there is nothing"
	}
	if not != nil {
		k.Found += "; not here: " + strings.Join(not, ", ")
	}
	return k
}

func isSocket(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode()&os.ModeSocket != 0
}

func isProgram(name string) bool {
	_, err := programs.Find(name)
	return err == nil
}

func anyFile(patterns ...string) bool {
	for _, p := range patterns {
		if found, err := filepath.Glob(p); err == nil && len(found) > 0 {
			return true
		}
	}
	return false
}
