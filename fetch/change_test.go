package fetch

import (
	"encoding/json"
	"strings"
	"testing"

	"cove/fetch/oci"
)

func TestChanges(t *testing.T) {
	base := `{"User":"u","Env":["A=1","B=2"],"Cmd":["old"],"Labels":{"k":"v"},"WorkingDir":"/w"}`
	for text, want := range map[string]string{
		`CMD ["a", "b"]`:    `"Cmd":["a","b"]`,
		`cmd=["a"]`:         `"Cmd":["a"]`,
		`CMD echo "a b"`:    `"Cmd":["/bin/sh","-c","echo \"a b\""]`,
		`CMD []`:            `-"Cmd"`,
		`ENTRYPOINT`:        `-"Entrypoint"`,
		`ENTRYPOINT ["/x"]`: `"Entrypoint":["/x"]`,
		`ENV A=3`:           `"Env":["B=2","A=3"]`,
		`ENV=C=4 5`:         `"Env":["A=1","B=2","C=4 5"]`,
		`ENV C="4 5"`:       `"Env":["A=1","B=2","C=4 5"]`,
		`ENV C 4 5`:         `"Env":["A=1","B=2","C=4 5"]`,
		`LABEL x=y`:         `"Labels":{"k":"v","x":"y"}`,
		`USER root:root`:    `"User":"root:root"`,
		`WORKDIR sub/../x`:  `"WorkingDir":"/w/x"`,
		`WORKDIR /y/`:       `"WorkingDir":"/y"`,
		`EXPOSE 80 443/udp`: `"ExposedPorts":{"443/udp":{},"80":{}}`,
		`VOLUME ["/data"]`:  `"Volumes":{"/data":{}}`,
		`STOPSIGNAL TERM`:   `"StopSignal":"TERM"`,
		`RUN x`:             "!begins with none of",
		``:                  "!begins with none of",
		`ENV`:               "!want K=V",
		`ENV =x`:            "!want K=V",
		`USER`:              "!needs a value",
		`CMD [1]`:           "!a list of strings",
		`CMD ["a`:           "!a list of strings",
		"USER a\x00":        "!NUL",
	} {
		var c, unchanged oci.ImageConfig
		_ = json.Unmarshal([]byte(base), &c)
		_ = json.Unmarshal([]byte(base), &unchanged)
		ch, err := parseChange(text)
		if problem, bad := strings.CutPrefix(want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), problem) {
				t.Errorf("%q: %v, want %q", text, err, problem)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		shared := c
		ch.apply(&c)
		got, _ := json.Marshal(c)
		if key, gone := strings.CutPrefix(want, "-"); gone == strings.Contains(string(got), strings.TrimPrefix(want, "-")) {
			t.Errorf("%q: %s, want %s", text, got, key)
		}
		was, _ := json.Marshal(shared)
		if is, _ := json.Marshal(unchanged); string(was) != string(is) {
			t.Errorf("%q changed what others share: %s", text, was)
		}
	}
}

func TestCommitNames(t *testing.T) {
	for ref, want := range map[string]string{
		"web":                   "localhost/web:latest web:latest web",
		"web:latest":            "localhost/web:latest web:latest web",
		"web:1":                 "localhost/web:1 web:1",
		"me/web":                "localhost/me/web:latest me/web:latest me/web",
		"localhost/web":         "localhost/web:latest",
		"localhost:5000/web:2":  "localhost:5000/web:2",
		"registry.example/a/b":  "registry.example/a/b:latest",
		"docker.io/library/web": "docker.io/library/web:latest",
	} {
		got, err := commitNames(ref)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v %v, want %s", ref, got, err, want)
		}
	}
	for _, ref := range []string{"", "host", "oci:x", "dir:/", "UPPER", "a@sha256:" + strings.Repeat("0", 64), "a b"} {
		if got, err := commitNames(ref); err == nil {
			t.Errorf("%q: %v", ref, got)
		}
	}
}
