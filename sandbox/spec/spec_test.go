package spec

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"cove/userns"
)

var update = flag.Bool("update", false, "write the golden files anew")

// full has every field set, with odd bytes wherever a path or an argument may have them.
func full() Spec {
	return Spec{
		ID: "0123456789abcdef", Name: "web-012345", Hostname: "web",
		IDMap: userns.IDMap{UIDs: []userns.Range{{ContainerID: 0, HostID: 1000, Size: 1}, {ContainerID: 1, HostID: 100000, Size: 65536}},
			GIDs: []userns.Range{{ContainerID: 0, HostID: 1000, Size: 1}}},
		Root: Root{Kind: RootOverlay, Image: "debian:12", Digest: "sha256:00", Layers: []Path{"/store/a", "/store/\xff:b"},
			RunDir: "/run/dir", Prepared: "/store/prepared", Prepare: "/run/prepare", ReadOnly: true, Persist: true},
		Mounts: []Mount{
			{Kind: MountBind, Source: "/home/me/a b,c:d\\\n", Beneath: "/home/me", Target: "/work", Below: "/", ReadOnly: true, Idmapped: true},
			{Kind: MountTmpfs, Target: "/tmp", Size: 1 << 40, Mode: 0o1777, UID: 1, GID: 2},
			{Kind: MountView, Source: "/home/me/p/\xff", Target: "/work/p", View: &View{Kind: RootFuse, Dir: "/store/reviews/0/1", Path: "\xff"}},
		},
		Files: []File{{Target: "/etc/hosts", Kind: FileWrite, Content: "127.0.0.1\tlocalhost\n"}, {Target: "/etc/passwd", Kind: FileEntry, Content: "me:x:/home/\xff"}},
		Protect: &Protect{Workspace: "/work", Source: "/home/me/p", Paths: []Path{".git/hooks"},
			Git: "/home/me/\xff/.git", Elsewhere: []Below{{Target: "/mnt", Paths: []Path{"p/.git/hooks"}}}},
		Repository: &Protect{Workspace: "/r/worktrees/w", Source: "/r/worktrees/\xff", Paths: []Path{"gitdir"}, Git: "/r/worktrees/\xff",
			Elsewhere: []Below{{Target: "/m", Paths: []Path{"p"}}}},
		Hide:     []Path{"/home/me/p/.data/cove"},
		Hidden:   []Below{{Target: "/work", Paths: []Path{".data/cove"}}},
		Reviewed: []Below{{Target: "/mnt", Paths: []Path{"p"}}},
		Program:  []Below{{Target: "/work", Paths: []Path{"bin/cove"}}},
		Network: Network{Mode: "user", Driver: "pasta", PublishAuto: true, Publish: []Port{{HostIP: "::1", HostPort: 80, ContainerPort: 8080, Proto: "tcp"}},
			Egress: Egress{Listed: true, Proxy: true, Allow: []Reach{{Text: "*.a.example:1-2/udp", Name: "a.example", Below: true, FromPort: 1, ToPort: 2, Proto: "udp"}},
				Deny: []Reach{{Text: "10.0.0.0/8", Prefix: Prefix{IP: IP{10, 0, 0, 0}, Bits: 8}, Proto: "tcp"}}, HostPorts: []HostPort{5432}}},
		Limits: Limits{Cgroup: CgroupSystemd, MemoryBytes: 1 << 30, CPUs: 1.5, PIDs: 512, Default: true, Whole: true, TimeoutMS: 1000},
		Security: Security{Caps: []string{"CAP_CHOWN"}, NewPrivileges: true, ScopeAbstract: true, Nested: true,
			Seccomp: Seccomp{Policy: "/home/\xff.json", Digest: "sha256:00", Program: []byte{6, 0, 0, 0, 0, 0, 0xff, 0x7f}, Programs32: true}},
		Process: Process{Argv: []Arg{"sh", "-c", "\xfe\x80\ufffd<&>\u2028"}, Env: []Arg{"A=\xff", "B="}, Cwd: "/\xe9", MakeCwd: true,
			User: "0:0", Home: "/home/\xff"},
		Landlock: &Landlock{ABI: 7, Grants: []Grant{{Path: "/\xff", Beneath: "/", Write: true, Optional: true}}, HostNetwork: true, Private: "/store/\xff"},
		Lost:     []string{"two"},
		Warnings: []string{"one"},
		Integrations: &Integrations{SSHAgent: &SSHAgent{Socket: "/tmp/\xff", Keys: []SSHKey{{Fingerprint: "SHA256:x", Comment: "me"}}, Confirm: true, Askpass: "/ask/\xff"},
			Git: &Git{Identity: true, Credentials: []string{"example.com"}}, Browser: true, Notify: true, Wayland: &Wayland{Socket: "/run/\xff", Context: true}, X11: &X11{Display: 1, Trusted: true}, Audio: &Audio{Socket: "/run/\xff", Record: true}, Devices: []Device{{Source: "/dev/\xff", Target: "/dev/gpu"}}, Program: "/bin/\xff", Project: "/p/\xff",
			Files: []File{{Target: "/run/cove/gitconfig", Kind: FileWrite, Content: "[user]\xff"}}},
	}
}

func TestGolden(t *testing.T) {
	got, err := json.MarshalIndent(full(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join("testdata", "full.json")
	if *update {
		if err := os.WriteFile(name, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(append(got, '\n'), want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var back Spec
	if err := json.Unmarshal(want, &back); err != nil || !reflect.DeepEqual(back, full()) {
		t.Errorf("came back as %+v, %v", back, err)
	}
}

// Every field is told, so that a new one cannot be left out of the golden file.
func TestGoldenIsFull(t *testing.T) {
	var walk func(name string, v reflect.Value)
	walk = func(name string, v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			walk(name, v.Elem())
		case reflect.Struct:
			for i := range v.NumField() {
				walk(name+"."+v.Type().Field(i).Name, v.Field(i))
			}
		case reflect.Invalid:
			t.Errorf("%s is not set", name)
		case reflect.Slice:
			if v.Len() == 0 {
				t.Errorf("%s is empty", name)
			}
		default:
			if v.IsZero() {
				t.Errorf("%s is not set", name)
			}
		}
	}
	walk("Spec", reflect.ValueOf(full()))
}

func TestPathIsReadable(t *testing.T) {
	for p, want := range map[Path]string{
		"/plain":    `"/plain"`,
		"":          `""`,
		"/ü":        `"/ü"`,
		"a\nb":      `"a\nb"`,
		"\xff":      `{"bytes":"/w=="}`,
		"\ufffd":    `{"bytes":"77+9"}`, // or it would be one with what is no UTF-8
		"\xed\xa0 ": `{"bytes":"7aAg"}`,
	} {
		if got, err := json.Marshal(p); err != nil || string(got) != want {
			t.Errorf("%q: %s, %v, want %s", string(p), got, err, want)
		}
	}
	for _, bad := range []string{`1`, `[]`, `true`, `{"bytes":"*"}`, `{"bytes":1}`} {
		p := Path("before")
		if err := json.Unmarshal([]byte(bad), &p); err == nil {
			t.Errorf("%s came in as %q", bad, string(p))
		}
	}
}

func FuzzPath(f *testing.F) {
	for _, seed := range []string{"", "/", "/a b", "\xff\xfe", "\ufffd", "{", `{"bytes":""}`, "\u2028<>&", "\xed\xa0\x80", "a\x01\x7f"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		type holder struct {
			P    Path
			List []Arg `json:",omitempty"`
		}
		in := holder{Path(b), []Arg{Arg(b), "x"}}
		text, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var out holder
		if err := json.Unmarshal(text, &out); err != nil || !reflect.DeepEqual(in, out) {
			t.Errorf("%q became %s and %q, %v", b, text, string(out.P), err)
		}
	})
}

func TestCapNumber(t *testing.T) {
	for name, want := range map[string]int{"CAP_CHOWN": 0, "chown": 0, "cap_Sys_Admin": 21, "CHECKPOINT_RESTORE": 40} {
		if got, ok := CapNumber(name); !ok || got != want {
			t.Errorf("%s: %d, %v, want %d", name, got, ok, want)
		}
	}
	for _, name := range []string{"", "CAP_", "CAP_CAP_CHOWN", "ALL", "CHOWN "} {
		if got, ok := CapNumber(name); ok {
			t.Errorf("%q is %d", name, got)
		}
	}
}

func TestSetEnv(t *testing.T) {
	for _, c := range []struct {
		env   string
		entry string
		want  string
	}{
		{"A=1 B=2", "A=3", "B=2 A=3"}, {"A=1 AB=2", "A=", "AB=2 A="}, {"", "X=y=z", "X=y=z"}, {"A=1 A=2", "A=3", "A=3"},
	} {
		var env []Arg
		for _, e := range strings.Fields(c.env) {
			env = append(env, Arg(e))
		}
		if got := words(setEnv(env, Arg(c.entry))); got != c.want {
			t.Errorf("%q with %q: %q", c.env, c.entry, got)
		}
	}
}

func words(list []Arg) string {
	var out []string
	for _, a := range list {
		out = append(out, string(a))
	}
	return strings.Join(out, " ")
}

// What a command that is added does not say for itself is the sandbox's, which stays as it is.
func TestWith(t *testing.T) {
	own := Process{Argv: []Arg{"sh"}, Env: []Arg{"A=1", "B=2"}, Cwd: "/work", MakeCwd: true, User: "dev", Home: "/home/dev"}
	same := own.With(&Changes{Argv: []Arg{"id", "-u"}})
	if want := (Process{Argv: []Arg{"id", "-u"}, Env: own.Env, Cwd: "/work", MakeCwd: true, User: "dev", Home: "/home/dev"}); !reflect.DeepEqual(same, want) {
		t.Errorf("with a command alone: %+v, want %+v", same, want)
	}
	all := own.With(&Changes{Argv: []Arg{"id"}, Env: []Arg{"A=3", "C=4"}, Cwd: "/tmp", User: "0"})
	if want := (Process{Argv: []Arg{"id"}, Env: []Arg{"B=2", "A=3", "C=4"}, Cwd: "/tmp", User: "0"}); !reflect.DeepEqual(all, want) {
		t.Errorf("with all: %+v, want %+v", all, want)
	}
	if words(own.Env) != "A=1 B=2" || words(own.Argv) != "sh" {
		t.Errorf("its own has become %+v", own)
	}
}
