package cli

import (
	"context"
	"reflect"
	"strings"
	"testing"
)

func testApp() *app { return newApp(context.Background()) }

func TestResolve(t *testing.T) {
	for line, want := range map[string]string{
		"run true":                         "run -- true",
		"run ls -l":                        "run -- ls -l",
		"run -- ls -l":                     "run -- ls -l",
		"run -- -x":                        "run -- -x",
		"run -v a:b --volume c:d x":        "run --volume=a:b --volume=c:d -- x",
		"run -va:b -e=K x -v y":            "run --volume=a:b --env=K -- x -v y",
		"run -e K=V=W x":                   "run --env=K=V=W -- x",
		"run --name=x=y z":                 "run --name=x=y -- z",
		"run -w -x true":                   "run --workdir=-x -- true",
		"run --read-only true":             "run --read-only=true -- true",
		"run --read-only=false true":       "run --read-only=false -- true",
		"run - x":                          "run -- - x",
		"run help":                         "run -- help",
		"run x -- y":                       "run -- x -- y",
		"--store /s --debug run x --store": "run --store=/s --debug=true -- x --store",
		"images --json":                    "images --json=true --",
		"pull a --platform linux/arm64 b":  "pull --platform=linux/arm64 -- a b",
		"pull a -- --b":                    "pull -- a --b",
		"image inspect --json x":           "image inspect --json=true -- x",
		"image --help":                     "help -- image",
		"--help":                           "help",
		"-h":                               "help",
		"--version":                        "version",
		"exec -u 0 box ls -l":              "exec --user=0 -- box ls -l",
	} {
		c, err := resolve(testApp().commands(), strings.Fields(line))
		if err != nil {
			t.Errorf("%s: %v", line, err)
		} else if got := strings.Join(c.args, " "); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	for line, want := range map[string]string{
		"rnu":                 `unknown command "rnu"; did you mean "run"?`,
		"zzzzzz":              `unknown command "zzzzzz"`,
		"image":               "image: which one? (inspect, verify, save)",
		"image x":             `unknown command "image x"`,
		"--stroe x run":       `unknown option "--stroe"; did you mean --store?`,
		"run --v a:b":         `unknown option "--v"; did you mean -v?`,
		"run -image x":        `unknown option "-image"; did you mean --image?`,
		"run -q x":            `unknown option "-q"`,
		"run --image":         "--image: needs a value",
		"images --json=x":     `--json: takes no value (or true, false), not "x"`,
		"run --\x1b[1m":       `unknown option "--\x1b[1m"`,
		"run --read-onyl=yes": `unknown option "--read-onyl"; did you mean --read-only?`,
	} {
		_, err := resolve(testApp().commands(), strings.Fields(line))
		if err == nil {
			t.Errorf("%s: no error", line)
		} else if err.Error() != want {
			t.Errorf("%s: %q, want %q", line, err, want)
		}
	}
}

// Every flag is told in the help, every name is free, and no command's words are eaten by urfave.
func TestCommands(t *testing.T) {
	a := testApp()
	seen := map[string]bool{}
	for _, c := range a.commands() {
		for _, n := range c.Names() {
			if seen[n] {
				t.Errorf("two commands are called %q", n)
			}
			seen[n] = true
		}
		if c.Hidden {
			continue
		}
		text, err := a.helpText(c.Name)
		if err != nil {
			t.Fatal(err)
		}
		flags := map[string]bool{}
		for _, f := range c.Flags {
			for _, n := range f.Names() {
				if flags[n] {
					t.Errorf("%s: two flags are called %q", c.Name, n)
				}
				flags[n] = true
				if !strings.Contains(text, dashed(n)) {
					t.Errorf("%s: %s is not in the help", c.Name, dashed(n))
				}
			}
		}
		if !strings.Contains(a.overview(), "\n  "+c.Name) {
			t.Errorf("%s is not in the overview", c.Name)
		}
	}
	for _, topic := range topics {
		if text, err := a.helpText(topic[0]); err != nil || len(text) < 100 {
			t.Errorf("topic %s: %q, %v", topic[0], text, err)
		}
	}
}

func TestComplete(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	t.Setenv("XDG_RUNTIME_DIR", "/nonexistent")
	for line, want := range map[string][]string{
		"run --read":            {"--read-only"},
		"run --network ":        {"none", "user", "host"},
		"run --network=h":       {"--network=host"},
		"run --profile ":        {"FILES"},
		"--store ":              {"DIRS"},
		"run --name x ":         {"COMMAND"},
		"run ls --n":            {"COMMAND"},
		"run -- --n":            {"COMMAND"},
		"nonsense x":            nil,
		"config s":              {"show", "schema"},
		"run --image h":         {"host"},
		"run --cap-add net_b":   {"NET_BIND_SERVICE"},
		"completion f":          {"fish"},
		"unshare --mount x=y l": {"COMMAND"},
	} {
		words := strings.Split(line, " ")
		var got []string
		for _, l := range testApp().complete(words) {
			word, _, _ := strings.Cut(strings.TrimSuffix(l, "\n"), "\t")
			got = append(got, word)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// What completes must not be able to make the shell do something.
func TestCandidates(t *testing.T) {
	got := candidates("", plain([]string{"ok", "a b", "$(x)", "`x`", "a'b", "\x1b[1m", "a\nb", ""}))
	if len(got) != 1 || got[0] != "ok\n" {
		t.Errorf("%q", got)
	}
}
