package config

import (
	"math"
	"slices"
	"strings"
	"testing"
)

func TestParsePublish(t *testing.T) {
	for text, want := range map[string]string{
		"8080":                    "127.0.0.1:8080:8080/tcp",
		"8080:80":                 "127.0.0.1:8080:80/tcp",
		"53/udp":                  "127.0.0.1:53:53/udp",
		"127.0.0.1:5432:5432/tcp": "127.0.0.1:5432:5432/tcp",
		"0.0.0.0:1:65535":         "0.0.0.0:1:65535/tcp",
		"[::1]:8080:80/udp":       "[::1]:8080:80/udp",
		"[0:0::1]:8080:80":        "[::1]:8080:80/tcp",
		"[::ffff:127.0.0.1]:1:2":  "127.0.0.1:1:2/tcp",
	} {
		p, err := ParsePublish(text)
		if err != nil || p.String() != want {
			t.Errorf("%q is %v (%v), want %s", text, p, err, want)
			continue
		}
		if again, err := ParsePublish(p.String()); err != nil || again != p {
			t.Errorf("%v read again is %v (%v)", p, again, err)
		}
	}
	for _, text := range []string{"", "0", "65536", "-1", "+1", " 80", "80 ", "0x50", "80/", "80/TCP", "80/tcp/udp", "a:80", "80:", ":80", "::80",
		"1.2.3.4:80", "1.2.3.4:80:", "host:80:80", "[::1]:80", "[::1]80:80", "[1.2.3.4]:80:80", "[]:80:80", "[::1", "::1:80:80", "[fe80::1%lo]:80:80", "1.2.3.4:1:2:3"} {
		if p, err := ParsePublish(text); err == nil {
			t.Errorf("%q is taken as %v", text, p)
		}
	}
}

func TestPublishConflicts(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"80", "80", true}, {"80", "80:81", true}, {"80", "81:80", false}, {"80", "80/udp", false},
		{"80", "0.0.0.0:80:80", true}, {"127.0.0.1:80:80", "127.0.0.2:80:80", false}, {"80", "[::]:80:80", false}, {"[::1]:80:1", "[::]:80:2", true},
	} {
		a, errA := ParsePublish(c.a)
		b, errB := ParsePublish(c.b)
		for _, order := range [][2]Publish{{a, b}, {b, a}} {
			taken := listeners{}
			if first, second := taken.add(order[0], 0), taken.add(order[1], 1); errA != nil || errB != nil || first != -1 || (second == 0) != c.want {
				t.Errorf("%s and %s: conflict is not %v (%v, %v)", c.a, c.b, c.want, errA, errB)
			}
		}
	}
	taken := listeners{}
	var got []int
	for i, text := range []string{"127.0.0.1:1:1", "127.0.0.2:1:1", "127.0.0.2:1:2", "0.0.0.0:1:1", "127.0.0.3:1:1", "127.0.0.1:1:1"} {
		p, err := ParsePublish(text)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, taken.add(p, i))
	}
	if want := []int{-1, -1, 1, 0, 3, 0}; !slices.Equal(got, want) {
		t.Errorf("in the way are %v, want %v", got, want)
	}
}

// A few bytes can ask for every port there is. Nobody waits minutes for the question that follows, nor gives all memory for it.
func TestPublishAll(t *testing.T) {
	r := newRoom(t)
	trust := OpenTrust(r.home + "/trust")
	p := r.profile(reaching("publish = ['1-65535']"))
	d, err := trust.Check(p)
	if err != nil || d.Trusted || len(d.New) != 65536 {
		t.Fatalf("%v, %d grants, %v", d.Trusted, len(d.New), err)
	}
	if pairs, gone := d.Changes(); len(pairs) != len(d.New) || len(gone) != 0 {
		t.Errorf("%d, %d", len(pairs), len(gone))
	}
	r.write(FileName, reaching("publish = ['1-65535', '1-2/udp', '"+strings.Repeat("1-65535/udp', '", 1000)+"3/udp']"))
	if _, _, err := Load(r.opts()); err == nil || !strings.Contains(err.Error(), "more than 65535 ports") || strings.Count(err.Error(), "\n") > 0 {
		t.Errorf("%.300v", err)
	}
}

func TestParseImage(t *testing.T) {
	for text, want := range map[string]string{
		"host": "host", "debian": "debian", "debian:12": "debian:12", "docker://quay.io/a/b": "quay.io/a/b",
		"localhost:5000/a/b_c--d.e:T.a-g": "localhost:5000/a/b_c--d.e:T.a-g", "[::1]:5000/x": "[::1]:5000/x",
		"a@sha256:" + strings.Repeat("0", 64): "a@sha256:" + strings.Repeat("0", 64),
		"oci:img:latest":                      "oci:/p/img:latest", "oci:./a b,c\\d:e:f": "oci:/p/a b,c\\d:e:f", "oci-archive:/x/y.tar": "oci-archive:/x/y.tar",
		"docker-archive:~/x.tar:a:b": "docker-archive:/h/x.tar:a:b", "dir:../r/": "dir:/r", "dir:/": "dir:/", "dir:.": "dir:/p", "dir:~": "dir:/h",
	} {
		if got, err := parseImage(text, "/p", "/h"); err != nil || got != want {
			t.Errorf("%q is %q (%v), want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", "a b", "A", "a:", "a:-x", "a@", "a@sha256:12", "/a", "a/", "a//b", "-a", "a-", "oci:", "dir:", "docker://", "a\x00",
		"docker-daemon:x", "https://x.y/z", "x.y:port/z", "x.y:/z", "a:" + strings.Repeat("x", 129), strings.Repeat("a/", 200) + "a", "é", "host:", "x.y/é"} {
		if got, err := parseImage(text, "/p", "/h"); err == nil {
			t.Errorf("%q is taken as %q", text, got)
		}
	}
	for _, text := range []string{"oci:x", "dir:./x"} {
		if got, err := parseImage(text, "", "/h"); err == nil {
			t.Errorf("%q without a base is taken as %q", text, got)
		}
	}
	for ref, want := range map[string]string{"debian": "docker.io", "library/debian": "docker.io", "ghcr.io/a": "ghcr.io", "localhost/a": "localhost",
		"h:1/a": "h:1", "[::1]:5/a": "[::1]:5"} {
		if got := registryOf(ref); got != want {
			t.Errorf("registry of %q is %q, want %q", ref, got, want)
		}
	}
}

func TestTargets(t *testing.T) {
	for text, want := range map[string]string{"/a": "/a", "/a/": "/a", "~": "~", "~/": "~", "~/.cache/x/": "~/.cache/x", "/devel": "/devel", "/a b:c,d\\e\n": "/a b:c,d\\e\n"} {
		if got, err := parseTarget(text); err != nil || got != want {
			t.Errorf("%q is %q (%v), want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", "a", "./a", "/", "//", "/a/../b", "/a//b", "/proc", "/proc/self", "/sys/fs", "/dev", "/dev/", "/dev/null", "/./dev", "~x", "~/../x", "~/a//b", "/a\x00"} {
		if got, err := parseTarget(text); err == nil {
			t.Errorf("%q is taken as %q", text, got)
		}
	}
}

func TestCaps(t *testing.T) {
	for text, want := range map[string]string{"chown": "CHOWN", "CAP_sys_Admin": "SYS_ADMIN", "ALL": "all", "default": "default"} {
		if got, err := parseCap(text); err != nil || got != want {
			t.Errorf("%q is %q (%v), want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", "CAP_", "CAP_CAP_CHOWN", "-CHOWN", "CHOWN ", "cap_all"} {
		if got, err := parseCap(text); err == nil {
			t.Errorf("%q is taken as %q", text, got)
		}
	}
	if len(Capabilities) != 41 || Capabilities[12] != "NET_ADMIN" || Capabilities[21] != "SYS_ADMIN" || Capabilities[40] != "CHECKPOINT_RESTORE" {
		t.Error("the numbers of the capabilities are wrong")
	}
	if got := ExpandCaps([]string{"default", "NET_RAW", "CHOWN"}); len(got) != 12 || !slices.Contains(got, "NET_RAW") {
		t.Errorf("expanded to %v", got)
	}
	if got := ExpandCaps(nil); got == nil || len(got) != 0 {
		t.Errorf("none expanded to %#v", got)
	}
	got, err := ChangeCaps([]string{"default"}, []string{"cap_net_raw"}, []string{"all"})
	if err != nil || !slices.Equal(got, []string{"NET_RAW"}) {
		t.Errorf("changed to %v (%v)", got, err)
	}
	if _, err := ChangeCaps(nil, []string{"X"}, nil); err == nil {
		t.Error("an unknown capability was added")
	}
}

func TestNearest(t *testing.T) {
	words := []string{"none", "user", "host"}
	for word, want := range map[string]string{"usre": "user", "USER": "user", "hots": "host", "nnoe": "none", "x": "", "": "", "bridge": "", strings.Repeat("u", 1<<20): ""} {
		if got := nearest(word, words); got != want {
			t.Errorf("nearest to %.10q is %q, want %q", word, got, want)
		}
	}
}

func TestLimits(t *testing.T) {
	typed := Origin{Kind: FromFlag, Flag: "--x"}
	for _, c := range []struct {
		key   string
		value any
		want  string // what `config show` has; "" is a mistake
	}{
		{"limits.memory", "2GiB", `"2GiB"`}, {"limits.memory", "2g", `"2GiB"`}, {"limits.memory", "512M", `"512MiB"`},
		{"limits.memory", "1.5g", `"1536MiB"`}, {"limits.memory", "16777216", `"16MiB"`}, {"limits.memory", "20000001b", `"20000001"`},
		{"limits.memory", "1ti", `"1TiB"`}, {"limits.memory", "0", `"0"`}, {"limits.memory", "40960KiB", `"40MiB"`},
		{"limits.memory", "", ""}, {"limits.memory", "g", ""}, {"limits.memory", "2GB", ""}, {"limits.memory", "-1", ""}, {"limits.memory", "1e9", ""},
		{"limits.memory", "0x10000000", ""}, {"limits.memory", "infm", ""}, {"limits.memory", "nanb", ""}, {"limits.memory", "8m", ""}, {"limits.memory", "2 GiB", ""},
		{"limits.memory", "99999999999t", ""}, {"limits.memory", "1..5g", ""}, {"limits.memory", int64(1 << 30), ""}, {"limits.memory", "2ib", ""},
		{"limits.cpus", 2.0, "2"}, {"limits.cpus", int64(3), "3"}, {"limits.cpus", "1.5", "1.5"}, {"limits.cpus", "0", "0"}, {"limits.cpus", 0.01, "0.01"},
		{"limits.cpus", 0.001, ""}, {"limits.cpus", -1.0, ""}, {"limits.cpus", math.NaN(), ""}, {"limits.cpus", math.Inf(1), ""}, {"limits.cpus", "1e1", ""},
		{"limits.cpus", "two", ""}, {"limits.cpus", true, ""},
		{"limits.pids", int64(512), "512"}, {"limits.pids", "-1", "0"}, {"limits.pids", int64(-1), "0"}, {"limits.pids", "0", "0"}, {"limits.pids", 64.0, "64"},
		{"limits.pids", 1.5, ""}, {"limits.pids", int64(-2), ""}, {"limits.pids", int64(1), ""}, {"limits.pids", int64(1 << 30), ""}, {"limits.pids", math.NaN(), ""},
		{"limits.timeout", "10m", `"10m"`}, {"limits.timeout", "1h", `"1h"`}, {"limits.timeout", "1h30m", `"1h30m"`}, {"limits.timeout", "90", `"1m30s"`},
		{"limits.timeout", "0.5", `"500ms"`}, {"limits.timeout", "20s", `"20s"`}, {"limits.timeout", "0", `"0"`}, {"limits.timeout", "10h0m20s", `"10h0m20s"`},
		{"limits.timeout", "", ""}, {"limits.timeout", "-1s", ""}, {"limits.timeout", "10 m", ""}, {"limits.timeout", "ten", ""}, {"limits.timeout", int64(10), ""},
		{"limits.timeout", "999999999h", ""},
	} {
		p := defaults()
		err := p.Set(c.key, c.value, typed)
		if (err == nil) != (c.want != "") {
			t.Errorf("%s = %v: %v", c.key, c.value, err)
			continue
		}
		for _, s := range p.Show() {
			if got := s.String(); s.Key == c.key && err == nil && got != c.key+" = "+c.want {
				t.Errorf("%v is shown as %s, want %s", c.value, got, c.want)
			}
			// What is shown can be written into a profile, and is the same there.
			if s.Key == c.key && err == nil {
				again := defaults()
				if err := again.Set(c.key, s.Value, typed); err != nil || again.Limits != p.Limits {
					t.Errorf("%s read again is %+v (%v), was %+v", s, again.Limits, err, p.Limits)
				}
			}
		}
	}
}

// A number is text only where a flag brings it.
func TestLimitIsNoText(t *testing.T) {
	p := defaults()
	if err := p.Set("limits.cpus", "1.5", Origin{Kind: FromProfile}); err == nil {
		t.Error("a profile may write numbers as strings")
	}
}

// A project's profile cannot lift its user's own limits, nor the default one, without being asked about.
func TestLimitGrants(t *testing.T) {
	for _, c := range []struct{ own, project, want string }{
		{"", "memory = \"64GiB\"\ncpus = 8\ntimeout = \"9h\"\npids = 2048", ""},
		{"", "pids = 2049", "raise the limit on processes from 2048 to 2049"},
		{"", "pids = -1", "lift the limit on processes, which is 2048"},
		{"pids = 100", "pids = 101", "raise the limit on processes from 100 to 101"},
		{"memory = \"2g\"", "memory = \"0\"", "lift the limit on memory, which is 2GiB"},
		{"memory = \"2g\"", "memory = \"1g\"", ""},
		{"cpus = 1.5\ntimeout = \"10m\"", "cpus = 2\ntimeout = \"20m\"", "raise the limit on processors from 1.5 to 2; raise the limit on time from 10m to 20m"},
		{"cpus = 2", "", ""},
	} {
		r := newRoom(t)
		r.write(r.home+"/.config/cove/config.toml", "[limits]\n"+c.own)
		p := r.profile("[limits]\n" + c.project)
		var got []string
		for _, g := range p.Grants() {
			got = append(got, g.Text)
		}
		if text := strings.Join(got, "; "); text != c.want {
			t.Errorf("%q over %q asks %q, want %q", c.project, c.own, text, c.want)
		}
	}
}

func TestParsePublishes(t *testing.T) {
	for text, want := range map[string]string{
		"8080":                        "127.0.0.1:8080:8080/tcp",
		"8000-8001":                   "127.0.0.1:8000:8000/tcp 127.0.0.1:8001:8001/tcp",
		"9000-9001:8000-8001/udp":     "127.0.0.1:9000:8000/udp 127.0.0.1:9001:8001/udp",
		"0.0.0.0:9000-9001:8000-8001": "0.0.0.0:9000:8000/tcp 0.0.0.0:9001:8001/tcp",
		"[::1]:9000-9000:8000-8000":   "[::1]:9000:8000/tcp",
		"65534-65535":                 "127.0.0.1:65534:65534/tcp 127.0.0.1:65535:65535/tcp",
	} {
		all, err := ParsePublishes(text)
		var got []string
		for _, p := range all {
			got = append(got, p.String())
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"8001-8000", "1-2:1-3", "1-2:1", "0-1", "1-65536", "-1", "1-", "a-b", "1.2.3.4:1-2", "1-2/sctp", ""} {
		if all, err := ParsePublishes(text); err == nil {
			t.Errorf("%s: %v", text, all)
		}
	}
}
