package cli

import (
	"bytes"
	"cove/sandbox"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"cove/config"
	"cove/fetch"
	"cove/fetch/oci"
	"cove/sandbox/host"
	"cove/sandbox/network"
	"cove/sandbox/start"
	"cove/userns"

	"golang.org/x/sys/unix"
)

func TestEscape(t *testing.T) {
	for text, want := range map[string]string{
		"plain text, ünïcode: 漢字": "plain text, ünïcode: 漢字",
		"\x1b]0;x\a":              `\x1b]0;x\a`,
		"a\nb\rc\td":              `a\nb\rc\td`,
		"\xff\xc3":                `\xff\xc3`,
		"�":                       "�",
		"\u202edrow":              `\u202edrow`,
		"\u009b31m":               `\u009b31m`,
		"zero\u200bwidth":         `zero\u200bwidth`,
	} {
		if got := escape(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("\x1b[31m\u202e\xff")
	f.Fuzz(func(t *testing.T, s string) {
		got := escape(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) && r != utf8.RuneError }) {
			t.Errorf("%q: %q could surprise a terminal", s, got)
		}
		if escape(got) != got {
			t.Errorf("%q: escaped twice is not escaped once", s)
		}
	})
}

// printed is what an error looks like to the user.
func printed(t *testing.T, a *app, err error) (text string, code int) {
	t.Helper()
	f, ferr := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if ferr != nil {
		t.Fatal(ferr)
	}
	defer f.Close()
	a.Stderr, a.Ctx = f, t.Context()
	code = a.finish(err)
	b, ferr := os.ReadFile(f.Name())
	if ferr != nil {
		t.Fatal(ferr)
	}
	return string(b), code
}

func TestFinish(t *testing.T) {
	mistakes := &config.ProfileError{Mistakes: []config.Mistake{{File: "a\x1b.toml", Line: 1, Col: 2, Text: "x"}, {Flag: "--env", Text: "y"}}}
	for _, c := range []struct {
		command, text string
		err           error
		code          int
	}{
		{"run", "", nil, 0},
		{"run", "", exitStatus(42), 42},
		{"run", "cove: broken\n", errors.New("broken"), 125},
		{"images", "cove: broken\n", errors.New("broken"), 1},
		{"images", "cove: images: bad\ncove: hint: see `cove help images`\n", start.Usagef("bad"), 2},
		{"run", "cove: run: bad\ncove: hint: see `cove help run`\n", fmt.Errorf("x: %w", start.Usagef("bad")), 2},
		{"run", "cove: \"a\\x1b.toml\":1:2: x\ncove: --env: y\n", fmt.Errorf("load: %w", mistakes), 2},
		{"pull", "cove: first\n      second\n", errors.Join(errors.New("first"), errors.New("second")), 1},
		{"pull", "cove: \\x1b[31mred\\a\n", errors.New("\x1b[31mred\a"), 1},
		{"run", "cove: profile \"/p\" is not trusted: nobody agreed to what it grants\ncove: hint: `cove trust` shows what it grants and asks; there is no terminal here to ask on\n", &errUntrusted{file: "/p"}, 125},
	} {
		if text, code := printed(t, &app{Call: &start.Call{Command: c.command}}, c.err); text != c.text || code != c.code {
			t.Errorf("%s, %v: %q and %d, want %q and %d", c.command, c.err, text, code, c.text, c.code)
		}
	}
}

// The hints of a machine without user namespaces cite what was seen there.
func TestUserNSHint(t *testing.T) {
	a := &app{place: &place{family: debian}, Call: &start.Call{Command: "run", Known: &host.Host{
		Tried:   host.Tried{UserNS: host.Fact{Why: "create user namespace: operation not permitted"}},
		Sysctls: host.Sysctls{AppArmorRestrict: "1", MaxUserNS: "100"},
	}}}
	text, code := printed(t, a, sandbox.ErrNoUserNS)
	for _, want := range []string{"operation not permitted", "kernel.apparmor_restrict_unprivileged_userns=1", "apparmor_parser -r", "userns,"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the hint:\n%s", want, text)
		}
	}
	if code != 125 {
		t.Errorf("exit code %d", code)
	}
	a.Known.Sysctls = host.Sysctls{UserNSClone: "0"}
	if text, _ = printed(t, a, sandbox.ErrNoUserNS); !strings.Contains(text, "echo kernel.unprivileged_userns_clone=1 | sudo tee") {
		t.Errorf("%s", text)
	}
}

// In a container /proc is covered in part, and then no other can be mounted.
func TestProcHint(t *testing.T) {
	a := &app{place: &place{around: host.Podman}, Call: &start.Call{Command: "run", Known: &host.Host{Tried: host.Tried{ProcMount: host.Fact{Why: "operation not permitted"}}}}}
	text, code := printed(t, a, start.ErrNoProc)
	if !strings.Contains(text, "mount proc: operation not permitted") || !strings.Contains(text, "--security-opt unmask=ALL") || code != 125 {
		t.Errorf("%d\n%s", code, text)
	}
}

// What fails for a reason that doctor knows is told with doctor's words.
func TestMachineHints(t *testing.T) {
	good := host.Fact{OK: true}
	h := &host.Host{UID: 1000, Tried: host.Tried{UserNS: good, MapRange: good}, Store: host.Store{Dir: "/home/me/.local/share/cove", FSType: "nfs", Remote: true}}
	h.DevNetTun = host.Fact{Why: "open /dev/net/tun: permission denied", Errno: int(unix.EACCES)}
	a := &app{place: &place{family: debian}, Call: &start.Call{Command: "run", Known: h}}
	for _, c := range []struct {
		err  error
		want []string
	}{
		{fmt.Errorf("unpack layer: chown x: %w", unix.EPERM), []string{"on nfs", "no subordinate owners", "export COVE_STORE=/var/tmp/cove-1000"}},
		{fmt.Errorf("set up network: packet filter: %s: %w", network.NoFilter, unix.EINVAL), []string{"sudo modprobe nf_tables"}},
		{fmt.Errorf("attach network: open(\"/dev/net/tun\"): permission denied"), []string{"sudo chmod 0666 /dev/net/tun"}},
	} {
		text, _ := printed(t, a, c.err)
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("%v: %q is not in\n%s", c.err, want, text)
			}
		}
	}
	// On a disk of one's own the same error has another reason.
	h.Store = host.Store{FSType: "ext4"}
	if text, _ := printed(t, a, fmt.Errorf("unpack layer: chown x: %w", unix.EPERM)); strings.Contains(text, "hint") {
		t.Error(text)
	}
}

// What a security module forbids, no sysctl mends: the profile is named.
func TestUserNSLabel(t *testing.T) {
	a := &app{place: &place{family: debian}, Call: &start.Call{Command: "run", Known: &host.Host{
		Tried: host.Tried{UserNS: host.Fact{Why: "create user namespace: permission denied"}}, Label: "strict\x1b (enforce)",
	}}}
	text, _ := printed(t, a, &userns.NamespaceError{Err: unix.EACCES})
	if want := `hint: user namespaces: create user namespace: permission denied (cove runs under the AppArmor profile "strict\x1b (enforce)")`; !strings.Contains(text, want) {
		t.Errorf("%q is not in\n%s", want, text)
	}
	a.Known.Label = "unconfined"
	if text, _ = printed(t, a, sandbox.ErrNoUserNS); strings.Contains(text, "AppArmor") {
		t.Errorf("%s", text)
	}
}

func TestDiagnose(t *testing.T) {
	good := host.Fact{OK: true}
	h := &host.Host{UID: 1000, Name: "me", LandlockScope: true, Helpers: host.Helpers{Slirp4netns: "/s"}, Tried: host.Tried{UserNS: good, DevNetTun: good, NativeOverlay: good, ProcMount: good, MountSetattr: good}}
	p := place{family: debian}
	text := printChecks(p.diagnose(h))
	for _, want := range []string{"less  ids              newuidmap and newgidmap are not on PATH, and /etc/subuid", "usermod --add-subuids ", "ok    native overlay", "less  fuse-overlayfs   not on PATH\n      lost: nothing: the native overlay is used"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	h.Helpers.NewUIDMap, h.Helpers.NewGIDMap = "/bin/newuidmap", "/bin/newgidmap"
	if text := printChecks(p.diagnose(h)); !strings.Contains(text, "fix:  sudo usermod") {
		t.Errorf("no fix for missing ranges:\n%s", text)
	}
}

// What is found is said with what mends it there, whatever machine this test runs on.
func TestFixes(t *testing.T) {
	good, no := host.Fact{OK: true}, host.Fact{Why: "no", Errno: int(unix.ENOENT)}
	one := []userns.SubRange{{Start: 4000000, Count: 65536}}
	full := host.Host{UID: 1000, Name: "me", SubIDsOf: "me", SubIDs: userns.SubIDs{UIDs: one, GIDs: one}, LandlockABI: 7, LandlockScope: true,
		Helpers: host.Helpers{NewUIDMap: "/bin/newuidmap", NewGIDMap: "/bin/newgidmap", FuseOverlayfs: "/f"},
		Tried:   host.Tried{UserNS: good, MapRange: good, NativeOverlay: good, FuseMount: good, DevNetTun: good, MountSetattr: good, ProcMount: good, Hostname: good},
		Deep:    &host.Deep{FuseOverlayfs: good, Exec: good, Owners: good, Landlock: good, Scope: good, Seccomp: good}}
	for name, c := range map[string]struct {
		place  place
		change func(*host.Host)
		want   []string
	}{
		"complete": {place{}, func(*host.Host) {}, nil},
		"sysctl": {place{family: fedora}, func(h *host.Host) { h.UserNS, h.Sysctls.MaxUserNS = no, "0" },
			[]string{"FAIL  user namespaces  no (user.max_user_namespaces=0)", "echo user.max_user_namespaces=15000 | sudo tee -a /etc/sysctl.d/60-cove.conf && sudo sysctl -p"}},
		"sysctl, root in docker": {place{around: host.Docker, root: true}, func(h *host.Host) { h.UserNS, h.Sysctls.UserNSClone = no, "0" },
			[]string{"on the machine outside: echo kernel.unprivileged_userns_clone=1 | tee"}},
		"docker":                  {place{around: host.Docker}, func(h *host.Host) { h.UserNS = no }, []string{"this is the inside of: docker", "--security-opt seccomp=unconfined"}},
		"kubernetes":              {place{around: host.Kubernetes}, func(h *host.Host) { h.ProcMount = no }, []string{"FAIL  proc             mount proc: no", "procMount: Unmasked", "hostUsers: false"}},
		"podman":                  {place{around: host.Podman}, func(h *host.Host) { h.ProcMount = no }, []string{"--security-opt unmask=ALL"}},
		"cove":                    {place{around: host.Cove}, func(h *host.Host) { h.UserNS = no }, []string{"nested = true"}},
		"WSL 1":                   {place{around: host.WSL1}, func(h *host.Host) { h.UserNS = no }, []string{"wsl --set-version"}},
		"no userns in the kernel": {place{}, func(h *host.Host) { h.UserNS = host.Fact{Why: "x", Errno: int(unix.EINVAL)} }, []string{"CONFIG_USER_NS"}},
		"an AppArmor profile": {place{}, func(h *host.Host) {
			h.UserNS, h.Label = host.Fact{Why: "x", Errno: int(unix.EACCES)}, "strict (enforce)"
		}, []string{"`userns,` in that profile"}},
		"arch, no helpers":                 {place{family: arch}, func(h *host.Host) { h.MapRange, h.Helpers.NewUIDMap = no, "" }, []string{"less  ids              newuidmap", "sudo pacman -S shadow"}},
		"suse, no fuse":                    {place{family: suse}, func(h *host.Host) { h.Helpers.FuseOverlayfs = "" }, []string{"sudo zypper install fuse-overlayfs"}},
		"alpine, no fuse":                  {place{family: alpine}, func(h *host.Host) { h.Helpers.FuseOverlayfs = "" }, []string{"doas apk add fuse-overlayfs"}},
		"a distribution that nobody knows": {place{}, func(h *host.Host) { h.Helpers.FuseOverlayfs = "" }, []string{"install the package that has fuse-overlayfs"}},
		"no gids":                          {place{}, func(h *host.Host) { h.MapRange, h.SubIDs.GIDs = no, nil }, []string{"/etc/subgid grants you nothing", "usermod --add-subgids "}},
		"too few": {place{}, func(h *host.Host) { h.SubIDs.UIDs = []userns.SubRange{{Start: 4000000, Count: 1000}} },
			[]string{"less  ids              1001 ids of me mapped, and images use 65535", "fix:  sudo usermod --add-subuids "}},
		"weak":          {place{}, func(h *host.Host) { h.MapRange, h.Helpers.Weak = no, "/bin/newuidmap" }, []string{"/bin/newuidmap is neither setuid root", "chmod u+s /bin/newuidmap /bin/newgidmap"}},
		"a bad line":    {place{}, func(h *host.Host) { h.MapRange, h.SubIDsError = no, "/etc/subuid:3: x" }, []string{"/etc/subuid:3: x", "mend that line"}},
		"uncapped root": {place{root: true}, func(h *host.Host) { h.UID, h.MapRange = 0, no }, []string{"FAIL  ids              root here is without CAP_SETUID", "--cap-add SETUID"}},
		"root of a small container": {place{root: true}, func(h *host.Host) {
			h.UID, h.SubIDsOf, h.MayMap, h.SubIDs.UIDs = 0, "", true, []userns.SubRange{{Start: 1, Count: 999}}
		},
			[]string{"999 ids mapped, all that this container has"}},
		"no /dev/fuse":            {place{root: true}, func(h *host.Host) { h.FuseMount = no }, []string{"fix:  modprobe fuse && echo fuse | tee -a /etc/modules-load.d/cove.conf && chmod 0666 /dev/fuse"}},
		"a closed /dev/fuse":      {place{}, func(h *host.Host) { h.FuseMount = host.Fact{Why: "x", Errno: int(unix.EACCES)} }, []string{"fix:  sudo chmod 0666 /dev/fuse"}},
		"podman without fuse":     {place{around: host.Podman}, func(h *host.Host) { h.FuseMount = no }, []string{"--device /dev/fuse"}},
		"a broken fuse-overlayfs": {place{family: debian}, func(h *host.Host) { h.Deep.FuseOverlayfs = no }, []string{"less  fuse-overlayfs   no\n", "apt-get install -y fuse-overlayfs"}},
		"noexec":                  {place{}, func(h *host.Host) { h.Store.NoExec = true; h.Deep.Exec = no }, []string{"less  store", "mounted noexec: nothing of an image", "export COVE_STORE="}},
		"noexec, not by a flag":   {place{}, func(h *host.Host) { h.Deep.Exec = no }, []string{"a program there did not start (no)"}},
		"nfs":                     {place{}, func(h *host.Host) { h.Store.Remote = true; h.Deep.Owners = no }, []string{"a network file system", "sudo install -d -o 1000 -g 0 -m 0700 /var/tmp/cove-1000"}},
		"owners refused":          {place{}, func(h *host.Host) { h.Deep.Owners = no }, []string{"gives no file to a subordinate id (no): no image can be unpacked"}},
		"no landlock":             {place{}, func(h *host.Host) { h.LandlockABI, h.LandlockScope, h.Deep.Landlock, h.Deep.Scope = 0, false, no, no }, []string{"less  host network     no landlock", "less  best effort", "lsm=landlock"}},
		"a scope that fails":      {place{}, func(h *host.Host) { h.Deep.Scope = host.Fact{Why: "reached"} }, []string{"less  host network     reached"}},
		"no seccomp":              {place{}, func(h *host.Host) { h.Deep.Seccomp = no }, []string{"FAIL  seccomp", "CONFIG_SECCOMP_FILTER"}},
		"an old kernel":           {place{}, func(h *host.Host) { h.MountSetattr = host.Fact{Why: "x", Errno: int(unix.ENOSYS)} }, []string{"FAIL  mount_setattr", "5.12 or newer"}},
	} {
		h := full
		deep := *full.Deep
		h.Deep = &deep
		c.change(&h)
		text := printChecks(c.place.diagnose(&h))
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q is not in\n%s", name, want, text)
			}
		}
		if len(c.want) == 0 && strings.Contains(text, "fix:") {
			t.Errorf("%s:\n%s", name, text)
		}
	}
}

func TestOverlapping(t *testing.T) {
	r := func(start, n uint32) userns.SubRange { return userns.SubRange{Start: start, Count: n} }
	grants := []userns.Grant{{Who: "me", SubRange: r(100000, 65536)}, {Who: "1000", SubRange: r(100000, 65536)}, {Who: "other", SubRange: r(165535, 10)}, {Who: "far", SubRange: r(300000, 65536)}}
	accounts := []userns.Grant{{Who: "daemon", SubRange: r(1, 1)}, {Who: "anna", SubRange: r(200000, 1)}}
	for mine, want := range map[userns.SubRange]string{
		r(100000, 65536):     "other",
		r(100000, 65535):     "",
		r(165545, 100):       "",
		r(199990, 11):        "the account anna (200000)",
		r(0, 2):              "the account daemon (1)",
		r(299999, 1):         "",
		r(4294901760, 65535): "",
	} {
		if got := overlapping(mine, "me", 1000, grants, accounts); got != want {
			t.Errorf("%v: %q, want %q", mine, got, want)
		}
	}
}

func TestFreeSubids(t *testing.T) {
	file := filepath.Join(t.TempDir(), "subuid")
	if err := os.WriteFile(file, []byte("a:100000:65536\nb:231072:65536\nbad\nc:4294901760:65535\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := freeSubids(file, "/nonexistent"); got != 296608 {
		t.Errorf("%d", got)
	}
	if got := freeSubids("/nonexistent"); got != 100000 {
		t.Errorf("%d", got)
	}
}

func TestFamily(t *testing.T) {
	for text, want := range map[string]family{
		"ID=debian\n":                                  debian,
		"NAME=x\nID=ubuntu\nID_LIKE=debian\n":          debian,
		"ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"": fedora,
		"ID=manjaro\nID_LIKE=arch\n":                   arch,
		"ID='opensuse-leap'\nID_LIKE='suse opensuse'":  suse,
		"ID=alpine\n":                                  alpine,
		"ID=other\n":                                   unknown,
		"":                                             unknown,
	} {
		if got := familyOf(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestAppArmorPath(t *testing.T) {
	if got := appArmorPath(`/home/a b/{x}*"\co`); got != `"/home/a b/\{x\}\*\"\\co"` {
		t.Errorf("%s", got)
	}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	if err := writeTable(&b, []string{"A", "BB"}, [][]string{{"long\x1b", "x"}, {"ü", ""}}); err != nil {
		t.Fatal(err)
	}
	if want := "A          BB\nlong\\x1b   x\nü\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

func TestJSON(t *testing.T) {
	text := "\x1b\x7f\u009b31m\u202e\U000e0001<&>\"\\ü"
	var b bytes.Buffer
	if err := writeJSON(&b, map[string]any{"a": text, "raw": json.RawMessage(`{"x": "\u0080"}`)}); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsFunc(b.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
		t.Errorf("not safe for a terminal: %q", b.String())
	}
	var back map[string]any
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || back["a"] != text {
		t.Errorf("%q came back as %q, %v", text, back["a"], err)
	}
}

func TestSizeAndAgo(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 1500: "1.5 kB", 9950: "10 kB", 999_499: "999 kB", 999_500: "1.0 MB", 204_000_000: "204 MB", 5e12: "5.0 TB"} {
		want = strings.ToUpper(want[:len(want)-2]) + strings.ToUpper(want[len(want)-2:])
		if got := size(n); strings.ToUpper(got) != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	now := time.Now()
	for d, want := range map[time.Duration]string{0: "just now", -time.Hour: "just now", time.Minute: "1 minute ago", 90 * time.Minute: "1 hour ago", 49 * time.Hour: "2 days ago", 800 * 24 * time.Hour: "2 years ago"} {
		if got := ago(now.Add(-d), now); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

// pull plays a pull of n layers, the first of which is there already.
func pull(p *progress, n int) {
	p.event(fetch.Event{Kind: fetch.Resolved, Ref: "r/\x1bx:1", Digest: oci.FromString("m"), Layers: n})
	for i := range n {
		p.event(fetch.Event{Kind: fetch.LayerStart, Layer: i, Digest: oci.FromString("l"), Total: 2000})
		p.event(fetch.Event{Kind: fetch.LayerBytes, Layer: i, Bytes: 1000, Total: 2000})
	}
	for i := range n {
		p.event(fetch.Event{Kind: fetch.LayerDone, Layer: i, Present: i == 0})
	}
	p.event(fetch.Event{Kind: fetch.Finished})
	p.finish()
}

func TestProgressPlain(t *testing.T) {
	var b bytes.Buffer
	pull(&progress{w: &b, now: time.Now, verb: "pull"}, 3)
	if strings.Contains(b.String(), "\x1b") || strings.Count(b.String(), "\n") != 3 {
		t.Errorf("want three plain lines, have %q", b.String())
	}
	for _, line := range strings.SplitAfter(strings.TrimSuffix(b.String(), "\n"), "\n") {
		if !strings.HasPrefix(line, `cove: pull r/\x1bx:1: `) {
			t.Errorf("%q", line)
		}
	}
}

// What a locked image is called is longer than most windows are wide; how far its pull is can be read all the same.
func TestProgressLongRef(t *testing.T) {
	var b bytes.Buffer
	p := &progress{w: &b, rows: 24, cols: 80, verb: "pull", now: time.Now}
	p.event(fetch.Event{Kind: fetch.Resolved, Ref: "docker.io/library/golang@" + oci.FromString("m").String(), Layers: 1})
	p.event(fetch.Event{Kind: fetch.LayerStart, Digest: oci.FromString("l"), Total: 2000})
	p.event(fetch.Event{Kind: fetch.LayerDone})
	p.finish()
	if !strings.HasSuffix(b.String(), "...: 1 of 1 layers, 2.0 KB of 2.0 KB\n") {
		t.Errorf("%q", b.String())
	}
}

// On a terminal, whatever is drawn fits: no line is wider than the window, no drawing higher.
func TestProgressTerminal(t *testing.T) {
	for _, layers := range []int{2, 5, 22, 23, 100} {
		var b bytes.Buffer
		clock := time.Now()
		p := &progress{w: &b, rows: 24, cols: 40, verb: "pull", now: func() time.Time { clock = clock.Add(time.Second); return clock }}
		pull(p, layers)
		cursor, lowest := 0, 0
		for _, line := range strings.SplitAfter(b.String(), "\n") {
			line = strings.TrimPrefix(line, "\x1b[J")
			if up, rest, ok := strings.Cut(line, "A\r"); ok && strings.HasPrefix(up, "\x1b[") {
				var n int
				fmt.Sscanf(up, "\x1b[%d", &n)
				cursor -= n
				line = "\r" + rest
			}
			text := strings.TrimSuffix(strings.NewReplacer("\r", "", "\x1b[2K", "", "\x1b[J", "").Replace(line), "\n")
			if n := utf8.RuneCountInString(text); n >= 40 {
				t.Errorf("%d layers: a line of %d in a window of 40: %q", layers, n, text)
			}
			if strings.HasSuffix(line, "\n") {
				cursor++
			}
			lowest = max(lowest, cursor)
			if cursor < 0 {
				t.Fatalf("%d layers: the cursor went above the drawing", layers)
			}
		}
		if lowest >= 24 {
			t.Errorf("%d layers: drawn over %d lines in a window of 24", layers, lowest)
		}
		if !strings.Contains(b.String(), fmt.Sprintf("%d of %d", layers, layers)) {
			t.Errorf("%d layers: the end is not drawn", layers)
		}
	}
}
