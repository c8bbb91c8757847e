package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cove/sandbox/spec"
)

// repository makes the job's project one with hooks and a config.
func repository(t *testing.T, j *job) {
	t.Helper()
	for _, dir := range []string{".git/hooks", ".git/objects"} {
		if err := os.MkdirAll(filepath.Join(string(j.Project), dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{".git/config", ".git/hooks/pre-commit", "cove.toml"} {
		if err := os.WriteFile(filepath.Join(string(j.Project), name), []byte("mine"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Every way around a read-only bind that is known. Whatever each does, what is protected stays.
func TestProtectCannotBeWalkedAround(t *testing.T) {
	j := newJob(t)
	repository(t, j)
	intact := func(attack string) {
		t.Helper()
		for _, name := range []string{".git/config", ".git/hooks/pre-commit", "cove.toml"} {
			if b, err := os.ReadFile(filepath.Join(string(j.Project), name)); err != nil || string(b) != "mine" {
				t.Errorf("%s: %s is %q, %v", attack, name, b, err)
			}
		}
		if left := strings.Join(leftovers(t, string(j.Project)), " "); left != ".git cove.toml" {
			t.Errorf("%s: left %s", attack, left)
		}
	}
	for _, attack := range []string{
		"mv .git old && cp -r old .git && echo x >.git/config",
		"mv .git/hooks .git/x; mkdir .git/hooks && echo x >.git/hooks/pre-commit",
		"mv .git/config .git/c; echo x >.git/config",
		"rm -rf .git/hooks; rm -rf .git/config; rm -f cove.toml",
		"echo x >new && mv -f new .git/config; rm -f new",
		"echo x >new && ln -f new .git/config; rm -f new",
		"ln -sfn /tmp .git/hooks; rm -f .git/hooks/hooks",
		"ln cove.toml hard && echo x >hard; rm -f hard",
		"chmod 777 .git/hooks .git/hooks/pre-commit && echo x >.git/hooks/pre-commit",
		"umount .git/hooks; umount -l .git; echo x >.git/config",
		"unshare -Ur sh -c 'umount .git/config; mount -o remount,rw,bind .git/config; echo x >.git/config'",
		"unshare -Urm sh -c 'umount -l .git; umount .git/config; mount -o remount,rw,bind .git/config; echo x >.git/config'",
		"cd .. && mv \"$OLDPWD\" x; echo x >\"$OLDPWD/cove.toml\"",
		"echo x >cove.lock; mkdir cove.lock; ln -s x cove.lock",
		"cd .git && (cd hooks && echo x >pre-commit); echo x >./config; echo x >../cove.toml",
		"for f in /proc/self/cwd/.git/config /proc/1/cwd/x /proc/self/root$PWD/cove.toml; do echo x >$f; done",
		"touch -m -d 2001-01-01 .git/config; truncate -s 0 .git/config; dd if=/dev/zero of=cove.toml count=1",
	} {
		if r := j.again().sh("exec 2>/dev/null; " + attack + "; true").run(t); r.code != 0 {
			t.Errorf("%s: exit code %d, %s", attack, r.code, r.err)
		}
		intact(attack)
	}
	// What is not protected can be written.
	j.again().sh("echo x >.git/objects/x && echo x >.git/HEAD && rm .git/objects/x .git/HEAD").ok(t)
	intact("ordinary work")
}

// The same paths by another way: the workspace mounted once more, a folder above it.
func TestProtectElsewhere(t *testing.T) {
	j := newJob(t)
	repository(t, j)
	base := filepath.Base(string(j.Project))
	for _, m := range []mountJob{
		{Source: j.Project, Target: "/mnt/w", Mode: "rw"},
		{Source: spec.Path(filepath.Dir(string(j.Project))), Target: "/mnt", Mode: "rw"},
		{Source: j.Project + "/.git", Target: "/mnt/w/.git", Mode: "rw"},
	} {
		dir := "/mnt/w"
		if m.Target == "/mnt" {
			dir = "/mnt/" + base
		}
		k := j.again()
		k.Mounts = []mountJob{m}
		k.sh("cd " + dir + `; exec 2>/dev/null
			for f in cove.toml .git/config .git/hooks/pre-commit .git/hooks/new cove.lock; do echo x >$f; mv $f moved; rm -f $f moved; done
			mv .git/hooks .git/moved; mv .git moved; mv ` + dir + ` /mnt/moved; rm -f moved; echo x >.git/index`).run(t)
		for _, name := range []string{".git/config", ".git/hooks/pre-commit"} {
			if b, err := os.ReadFile(filepath.Join(string(j.Project), name)); err != nil || string(b) != "mine" {
				t.Errorf("%s at %s: %s is %q, %v", m.Source, m.Target, name, b, err)
			}
		}
		if left := strings.Join(leftovers(t, string(j.Project)), " "); left != ".git cove.toml" {
			t.Errorf("%s at %s: left %s", m.Source, m.Target, left)
		}
		if b, err := os.ReadFile(filepath.Join(string(j.Project), ".git/index")); err != nil || string(b) != "x\n" {
			t.Errorf("%s at %s: what is not protected: %q, %v", m.Source, m.Target, b, err)
		}
		_ = os.Remove(filepath.Join(string(j.Project), ".git/index"))
	}
	// What was asked for by name is given.
	j.Mounts = []mountJob{{Source: j.Project + "/.git/hooks", Target: "/mnt/hooks", Mode: "rw"}}
	j.sh("echo x >/mnt/hooks/new").ok(t)
}

// Cove's own folders, which lie in a workspace of /tmp or ~/.local, are not there, and none can be put in their place.
func TestHide(t *testing.T) {
	j := newJob(t)
	secret := filepath.Join(string(j.Project), "a", "own")
	if err := os.MkdirAll(secret, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(secret, "f"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(string(j.Project), link); err != nil {
		t.Fatal(err)
	}
	j.Hide = []string{filepath.Join(link, "a/own"), filepath.Join(string(j.Project), "not/there/yet"), "/nonexistent/x"}
	for _, mode := range []string{"rw", "ro", "none"} {
		k := j.again()
		k.Mode = mode
		k.Mounts = []mountJob{{Source: j.Project, Target: "/mnt/again", Mode: "rw"}, {Source: spec.Path(filepath.Dir(string(j.Project))), Target: "/mnt/above", Mode: "ro"}}
		out := k.sh(`exec 2>/dev/null; for d in ` + string(j.Project) + ` /mnt/again /mnt/above/*; do
			cd $d && ls -A a/own not/there/yet | grep -v :; echo x >a/own/f; echo x >not/there/yet/f; umount a/own
			mv a b && mkdir -p a/own; mv not b; rmdir a/own not/there/yet; done; true`).ok(t)
		if strings.TrimSpace(out) != "" {
			t.Errorf("%s: seen inside: %q", mode, out)
		}
		if b, err := os.ReadFile(filepath.Join(secret, "f")); err != nil || string(b) != "mine" {
			t.Errorf("%s: %q, %v", mode, b, err)
		}
		if left := leftovers(t, filepath.Join(string(j.Project), "not/there/yet")); len(left) != 0 {
			t.Errorf("%s: left %q", mode, left)
		}
	}
	// Mounted by name it is there.
	j.Mounts = []mountJob{{Source: spec.Path(secret), Target: "/mnt/own", Mode: "rw"}}
	if out := j.sh("cat /mnt/own/f").ok(t); out != "mine" {
		t.Errorf("%q", out)
	}
}

// Who runs cove from the folder that it was built in does not give it away with the folder.
func TestOwnProgram(t *testing.T) {
	j := newJob(t)
	content, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(string(j.Project), "out", "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "cove")
	if err := os.WriteFile(program, content, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, protect := range [][]string{nil, {"cove.toml"}, {"out"}} {
		j := j.again()
		j.Protect = protect
		j.Mounts = []mountJob{{Source: j.Project, Target: "/mnt/again", Mode: "rw"}, {Source: spec.Path(filepath.Dir(string(j.Project))), Target: "/mnt/above", Mode: "rw"},
			{Source: spec.Path(dir), Target: "/mnt/bin", Mode: "rw"}}
		cmd := j.sh(`exec 2>/dev/null; for d in ` + string(j.Project) + ` /mnt/again /mnt/above/*; do
			cd $d && mv out/bin/cove out/bin/other && echo moved; unlink out/bin/cove && echo removed; cp /bin/sh out/bin/cove && echo copied
			touch new && mv -f new out/bin/cove && echo replaced; mv out/bin x && echo folder; mv out x && echo above; echo x >>out/bin/cove && echo written
			rm -f new; done; cd /mnt/bin && mv cove x && echo by its own folder; true`).cmd(t)
		cmd.Path = program
		if r := finish(t, cmd); r.code != 0 || r.out != "" {
			t.Errorf("%v: %d, %q, %q", protect, r.code, r.out, r.err)
		}
	}
	if now, err := os.ReadFile(program); err != nil || !bytes.Equal(now, content) {
		t.Errorf("it is another file now: %v", err)
	}
}

func TestProtectAbsent(t *testing.T) {
	j := newJob(t)
	j.Protect = []string{".git/hooks", "deep/er/file.txt", "cove.lock", "a b\n", "\xff"}
	j.again().sh(`for f in .git/hooks .git .git/x deep deep/er deep/x cove.lock "a b
"; do
		mkdir -p "$f" 2>/dev/null; echo x 2>/dev/null >"$f"; rm -rf "$f" 2>/dev/null; mv "$f" other 2>/dev/null; ln -sfn /tmp "$f" 2>/dev/null
		done; true`).ok(t)
	if left := leftovers(t, string(j.Project)); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
	// A start that fails leaves nothing either.
	j.Mounts = []mountJob{{Source: "/nonexistent", Target: "/x", Mode: "ro"}}
	if r := j.again().sh("true").run(t); r.code != 125 || !strings.Contains(r.err, "/nonexistent") {
		t.Errorf("exit code %d, %q", r.code, r.err)
	}
	if left := leftovers(t, string(j.Project)); len(left) != 0 {
		t.Errorf("left after a failed start: %q", left)
	}
}

// A link on the way could be pointed elsewhere: refused, and nothing was made before it was seen.
func TestProtectRefusesLinks(t *testing.T) {
	for _, link := range []string{".git", "cove.toml", "x"} {
		j := newJob(t)
		j.Protect = []string{"cove.lock", link + "/y", link}
		if err := os.Symlink(t.TempDir(), filepath.Join(string(j.Project), link)); err != nil {
			t.Fatal(err)
		}
		if r := j.sh("true").run(t); r.code != 125 || !strings.Contains(r.err, "is a link") {
			t.Errorf("%s: exit code %d, %q", link, r.code, r.err)
		}
		if left := leftovers(t, string(j.Project)); strings.Join(left, " ") != link {
			t.Errorf("%s: left %v", link, left)
		}
	}
	j := newJob(t)
	j.Protect = []string{"../outside"}
	if r := j.sh("true").run(t); r.code != 125 {
		t.Errorf("a path that leaves the workspace: exit code %d", r.code)
	}
}

// After a kill -9 the placeholders go with the next start, also on another workspace; what somebody put
// in their place meanwhile stays.
func TestPlaceholdersAfterKill(t *testing.T) {
	j := newJob(t)
	kill := func() {
		t.Helper()
		s := j.again().sh("echo; sleep 1000").background(t)
		below := descendants(t, s.Process.Pid)
		if left := leftovers(t, string(j.Project)); len(left) == 0 {
			t.Error("no placeholder while it runs")
		}
		_ = s.Process.Kill()
		_ = s.Wait()
		gone(t, below)
	}
	kill()
	if err := os.WriteFile(filepath.Join(string(j.Project), ".git", "config"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(string(j.Project), "cove.toml")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(string(j.Project), "cove.toml"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := j.again().sh("true")
	other.Project = spec.Path(t.TempDir())
	other.Cwd = other.Project
	other.ok(t)
	if left := leftovers(t, string(j.Project)); strings.Join(left, " ") != ".git cove.toml" {
		t.Errorf("left: %v", left)
	}
	for _, name := range []string{".git/config", "cove.toml"} {
		if b, err := os.ReadFile(filepath.Join(string(j.Project), name)); err != nil || string(b) != "mine" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

// A journal that cannot be read keeps nobody out.
func TestJournalCorrupted(t *testing.T) {
	j := newJob(t).sh("true")
	j.Project += "/a/b" // so that what a journal may lead to is this test's own
	j.Cwd = j.Project
	if err := os.MkdirAll(string(j.Project), 0o755); err != nil {
		t.Fatal(err)
	}
	file := workspaceFile(string(j.Runtime), string(j.Project))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"{", "null", "[]", "\x00\x00", `{"made":[{"path":"../../outside","dir":true}]}`, `{"made":[{"path":{"bytes":"Lw=="}}]}`, `{"workspace":"/","made":[{"path":"usr","dir":true}]}`} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		outside := filepath.Join(filepath.Dir(filepath.Dir(string(j.Project))), "outside")
		if err := os.MkdirAll(outside, 0o700); err != nil {
			t.Fatal(err)
		}
		j.again().ok(t)
		if _, err := os.Stat(outside); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		_ = os.Remove(outside)
		if left := leftovers(t, string(j.Project)); len(left) != 0 {
			t.Errorf("%s: left %v", text, left)
		}
	}
}

// A bind that was granted because it lies in the project is refused when a link leads it elsewhere.
func TestBeneath(t *testing.T) {
	j := newJob(t).sh("cat /mnt/data/file")
	j.Mode = "none"
	secret := t.TempDir()
	for _, dir := range []string{secret, filepath.Join(string(j.Project), "data")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "file"), []byte(dir), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	j.Mounts = []mountJob{{Source: j.Project + "/data", Target: "/mnt/data", Mode: "ro", Within: true}}
	if out := j.again().ok(t); out != string(j.Project)+"/data" {
		t.Errorf("%q", out)
	}
	if err := os.Rename(filepath.Join(string(j.Project), "data"), filepath.Join(string(j.Project), "moved")); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{secret, "../../../../../../../../.." + secret, "/proc/self/root" + secret} {
		if err := os.Symlink(to, filepath.Join(string(j.Project), "data")); err != nil {
			t.Fatal(err)
		}
		if r := j.again().run(t); r.code != 125 || strings.Contains(r.out, secret) {
			t.Errorf("to %s: exit code %d, %q, %q", to, r.code, r.out, r.err)
		}
		if err := os.Remove(filepath.Join(string(j.Project), "data")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("moved", filepath.Join(string(j.Project), "data")); err != nil {
		t.Fatal(err)
	}
	if out := j.again().ok(t); out != string(j.Project)+"/data" {
		t.Errorf("a link that stays: %q", out)
	}
}

// What was agreed to is a path of which links were followed; one that somebody put there since leads nowhere.
func TestAgreedWithoutLinks(t *testing.T) {
	j := newJob(t).sh("cat /mnt/data/file")
	j.Mode = "none"
	secret, granted := t.TempDir(), filepath.Join(t.TempDir(), "granted")
	for _, dir := range []string{secret, granted, granted + "/data"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "file"), []byte(dir), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	j.Mounts = []mountJob{{Source: spec.Path(granted + "/data"), Target: "/mnt/data", Mode: "ro"}}
	if out := j.again().ok(t); out != granted+"/data" {
		t.Errorf("%q", out)
	}
	turn := func(path string) {
		t.Helper()
		if err := os.Rename(path, path+".moved"); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(secret, path); err != nil {
			t.Fatal(err)
		}
	}
	turn(granted + "/data")
	if r := j.again().run(t); r.code != 125 || strings.Contains(r.out, secret) || !strings.Contains(r.err, "a link was put on its way") {
		t.Errorf("exit code %d, %q, %q", r.code, r.out, r.err)
	}
	turn(granted)
	if err := os.Mkdir(secret+"/data", 0o755); err != nil {
		t.Fatal(err)
	}
	if r := j.again().run(t); r.code != 125 || strings.Contains(r.out, secret) {
		t.Errorf("above: exit code %d, %q, %q", r.code, r.out, r.err)
	}
}

// A project that lies in the workspace of another sandbox can be turned into a link there while somebody looks at its profile.
func TestWorkspaceWithoutLinks(t *testing.T) {
	for _, mode := range []string{"rw", "ro", "none"} {
		j := newJob(t).sh("cat file /mnt/file")
		j.Mode, j.Project = mode, j.Project+"/below"
		j.Cwd = j.Project
		secret := t.TempDir()
		for _, dir := range []string{secret, string(j.Project)} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "file"), []byte(dir), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if mode == "none" { // what is in it is mounted all the same
			j.Mounts = []mountJob{{Source: j.Project, Target: "/mnt", Mode: "ro", Within: true}}
		}
		if r := j.again().run(t); !strings.Contains(r.out, string(j.Project)) {
			t.Errorf("%s: %q, %q", mode, r.out, r.err)
		}
		if err := os.RemoveAll(string(j.Project)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(secret, string(j.Project)); err != nil {
			t.Fatal(err)
		}
		if r := j.again().run(t); r.code != 125 || strings.Contains(r.out, secret) || !strings.Contains(r.err, "a link was put on its way") {
			t.Errorf("%s: exit code %d, %q, %q", mode, r.code, r.out, r.err)
		}
	}
}

// Names with every byte that means something to somebody.
func TestOddNames(t *testing.T) {
	j := newJob(t)
	j.Mode = "none"
	script := ""
	for i, name := range []string{"a b", "a,b", "a:b", `a\b`, `a\040b`, "a\nb", "\xff\xfe", "'\"$(id)", "-rf", "ü"} {
		dir := filepath.Join(string(j.Project), name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "f"), []byte(fmt.Sprint(i)), 0o644); err != nil {
			t.Fatal(err)
		}
		j.Mounts = append(j.Mounts, mountJob{Source: spec.Path(dir), Target: spec.Path("/mnt/" + name), Mode: "ro"},
			mountJob{Source: spec.Path(dir + "/f"), Target: spec.Path("/srv/" + name), Mode: "rw"})
		script += fmt.Sprintf("cat /mnt/%s/f; cat /srv/%[1]s; echo %d >>/srv/%[1]s\n", quoted(name), i)
	}
	if out := j.sh(script).ok(t); out != "00112233445566778899" {
		t.Errorf("%q", out)
	}
	// A workspace with such a name, and a shell of that.
	w := newJob(t)
	w.Project += "/a:b,c\\d\n\xff e"
	w.Cwd = w.Project
	if err := os.Mkdir(string(w.Project), 0o755); err != nil {
		t.Fatal(err)
	}
	if out := w.sh("pwd; echo x >file; mkdir .git 2>/dev/null && echo made; true").ok(t); out != string(w.Project)+"\n" {
		t.Errorf("%q", out)
	}
	if left := leftovers(t, string(w.Project)); strings.Join(left, " ") != "file" {
		t.Errorf("left: %q", left)
	}
}

func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// What is mounted is as it was promised.
func TestMountFlags(t *testing.T) {
	j := newJob(t).sh("cat /proc/self/mountinfo; echo; cat /proc/mounts >/dev/null")
	opts := map[string][]string{}
	for _, line := range strings.Split(j.ok(t), "\n") {
		f := strings.Fields(line)
		if len(f) > 5 {
			opts[f[4]] = strings.Split(f[5], ",")
		}
	}
	has := func(at, opt string) bool {
		for _, o := range opts[at] {
			if o == opt {
				return true
			}
		}
		return false
	}
	for at, want := range map[string]string{
		"/": "ro nosuid nodev", "/usr": "ro nosuid nodev", "/etc": "ro nosuid nodev", "/tmp": "rw nosuid nodev",
		"/proc": "nosuid nodev noexec", "/proc/sys": "ro nosuid nodev noexec", "/proc/fs": "ro nosuid nodev noexec", "/proc/irq": "ro nosuid nodev noexec", "/proc/bus": "ro nosuid nodev noexec",
		"/sys": "ro nosuid nodev noexec", "/dev": "nosuid noexec", "/dev/shm": "nosuid nodev noexec", "/dev/pts": "nosuid noexec",
		"/dev/mqueue": "nosuid nodev noexec", "/root": "nosuid nodev", string(j.Project): "rw nosuid nodev", string(j.Project) + "/cove.toml": "ro nosuid nodev",
	} {
		if _, ok := opts[at]; !ok && !strings.HasPrefix(at, "/proc/") {
			t.Errorf("%s is no mount", at)
			continue
		}
		for _, opt := range strings.Fields(want) {
			if _, ok := opts[at]; ok && !has(at, opt) {
				t.Errorf("%s has %v, not %s", at, opts[at], opt)
			}
		}
	}
	for at := range opts {
		for _, prefix := range []string{"/home", "/mnt", "/boot", "/lost+found", "/run/user"} {
			if at == prefix || strings.HasPrefix(at, prefix+"/") && !strings.HasPrefix(string(j.Project), prefix) {
				t.Errorf("%s is there", at)
			}
		}
	}
	out := j.again().sh(`for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/sys/vm/drop_caches /sys/kernel/uevent_helper /usr/x /etc/x /x; do
		(echo x >$f) 2>/dev/null && echo "wrote $f"; done
		for f in /proc/kcore /proc/keys /proc/kmsg /proc/timer_list /proc/interrupts; do [ -s $f ] || [ -n "$(head -c1 $f 2>/dev/null)" ] && echo "read $f"; done
		for d in /proc/acpi /proc/scsi /sys/firmware /sys/kernel/debug; do [ -z "$(ls -A $d 2>/dev/null)" ] || echo "list $d"; done
		ls /dev | sort | tr '\n' ' '; ls /home /root /mnt; mknod /tmp/x b 8 0 2>/dev/null && echo made; true`).ok(t)
	if want := "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero "; !strings.HasPrefix(out, want) || strings.Contains(out, "made") {
		t.Errorf("%s", out)
	}
}
