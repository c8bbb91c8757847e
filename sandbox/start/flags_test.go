package start

import (
	"reflect"
	"strings"
	"testing"

	"cove/config"
	"cove/sandbox"
)

func TestParseVolume(t *testing.T) {
	for text, want := range map[string]config.Mount{
		"/a:/b":              {Source: "/a", Target: "/b"},
		"/a:/b:ro":           {Source: "/a", Target: "/b", Mode: "ro"},
		"./a:/b:rw":          {Source: "./a", Target: "/b", Mode: "rw"},
		".:/b":               {Source: ".", Target: "/b"},
		"~/a:~/b":            {Source: "~/a", Target: "~/b"},
		`/a\:b:/c\:d`:        {Source: "/a:b", Target: "/c:d"},
		`/a\b:/c\\d`:         {Source: `/a\b`, Target: `/c\d`},
		"/a b,c:/d\ne":       {Source: "/a b,c", Target: "/d\ne"},
		"/\xff:/\xfe:ro":     {Source: "/\xff", Target: "/\xfe", Mode: "ro"},
		`/a\\:/b`:            {Source: `/a\`, Target: "/b"},
		"/a:/b:ro,ro":        {Source: "/a", Target: "/b", Mode: "ro"},
		`/trailing\:/x\:y:/`: {Source: "/trailing:/x:y", Target: "/"},
	} {
		if got, err := parseVolume(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "/a", "/a:", ":/b", "a:/b", "/a:/b:x", "/a:/b:ro,rw", "/a:/b:", "/a:/b:ro:rw", `/a\:/b`} {
		if got, err := parseVolume(text); err == nil {
			t.Errorf("%q: no error, %+v", text, got)
		}
	}
}

func TestParseMount(t *testing.T) {
	for text, want := range map[string]config.Mount{
		"type=bind,src=/a,dst=/b":                     {Source: "/a", Target: "/b"},
		"src=/a,target=/b,ro":                         {Source: "/a", Target: "/b", Mode: "ro"},
		"source=/a,destination=/b,readonly=true":      {Source: "/a", Target: "/b", Mode: "ro"},
		"source=/a,destination=/b,readonly=false":     {Source: "/a", Target: "/b", Mode: "rw"},
		"src=/a,dst=/b,rw":                            {Source: "/a", Target: "/b", Mode: "rw"},
		`"src=/a,""b""","dst=/c=d"`:                   {Source: `/a,"b"`, Target: "/c=d"},
		`src=/a:b,dst=/c\d`:                           {Source: "/a:b", Target: `/c\d`},
		"type=bind,src=/x y,dst=/z,ro=true,type=bind": {Source: "/x y", Target: "/z", Mode: "ro"},
	} {
		if got, tmp, err := parseMount(text); err != nil || tmp != nil || *got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	got, tmp, err := parseMount("type=tmpfs,dst=/t,size=64m,mode=700")
	if err != nil || got != nil || *tmp != (sandbox.Tmpfs{Target: "/t", SizeBytes: 64 << 20, Mode: 0o700}) {
		t.Errorf("%+v, %v", tmp, err)
	}
	for _, text := range []string{"", "type=bind", "src=/a", "dst=/b", "type=volume,src=a,dst=/b", "type=tmpfs,src=/a,dst=/b", "type=tmpfs,dst=/b,ro",
		"src=/a,dst=/b,size=1", "src=/a,dst=/b,ro=maybe", "scr=/a,dst=/b", `src="/a,dst=/b`} {
		if got, tmp, err := parseMount(text); err == nil {
			t.Errorf("%q: no error, %+v %+v", text, got, tmp)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"1": 1, "4096": 4096, "1k": 1 << 10, "64m": 64 << 20, "64M": 64 << 20, "2GiB": 2 << 30, "1gb": 1 << 30, "3t": 3 << 40} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0", "-1", "m", "1x", "1.5g", "9999999999t", "1kk", "0x10", " 1"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q: no error, %d", text, got)
		}
	}
}

func TestParseEntrypoint(t *testing.T) {
	for text, want := range map[string][]string{"": nil, "/bin/sh": {"/bin/sh"}, `["sh","-c"]`: {"sh", "-c"}, "a b": {"a b"}} {
		if got, err := parseEntrypoint(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	if _, err := parseEntrypoint("[sh"); err == nil || !strings.Contains(err.Error(), "JSON") {
		t.Errorf("%v", err)
	}
}

func FuzzParseVolume(f *testing.F) {
	for _, s := range []string{"/a:/b", `/a\:b:/c:ro`, `\`, `\\:`, "::"} {
		f.Add(s)
	}
	// Whatever two paths are, written with their colons and backslashes escaped they come back.
	f.Fuzz(func(t *testing.T, s string) {
		_, _ = parseVolume(s)
		escaped := strings.NewReplacer(`\`, `\\`, `:`, `\:`).Replace(s)
		got, err := parseVolume("/" + escaped + ":/x" + escaped + ":ro")
		if err != nil || got.Source != "/"+s || got.Target != "/x"+s {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	})
}
