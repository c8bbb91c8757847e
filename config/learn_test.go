package config

import (
	"os"
	"strings"
	"testing"
)

func TestInsertAllow(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"nothing":      {"", "\n[network]\nmode  = \"user\"\nallow = [\"a.example:443\", \"b\"]\n"},
		"no newline":   {`image = "host"`, "image = \"host\"\n\n[network]\nmode  = \"user\"\nallow = [\"a.example:443\", \"b\"]\n"},
		"no list":      {"[network] # mine\nmode = \"user\" # yes\n[home]\n", "[network] # mine\nallow = [\"a.example:443\", \"b\"]\nmode = \"user\" # yes\n[home]\n"},
		"no mode":      {"[network]\npublish = []\n", "[network]\nmode = \"user\"\nallow = [\"a.example:443\", \"b\"]\npublish = []\n"},
		"at the end":   {"[network]", "[network]\nmode = \"user\"\nallow = [\"a.example:443\", \"b\"]\n"},
		"an empty one": {"[network]\nallow = [] # none\n", "[network]\nallow = [\"a.example:443\", \"b\"] # none\n"},
		"a list":       {"[network]\nallow = [ # these\n  \"x\", # x\n]\n", "[network]\nallow = [\"a.example:443\", \"b\",  # these\n  \"x\", # x\n]\n"},
		"some of it":   {"[network]\nallow = ['b']\n", "[network]\nallow = [\"a.example:443\", 'b']\n"},
		"all of it":    {"[network]\nallow = ['b', \"a.example:443\"]\n", "[network]\nallow = ['b', \"a.example:443\"]\n"},
		"dotted":       {"network.mode = \"user\"\nuser = \"me\"\n", "network.mode = \"user\"\nnetwork.allow = [\"a.example:443\", \"b\"]\nuser = \"me\"\n"},
		"a BOM":        {"\ufeff[network]\nallow = []\n", "\ufeff[network]\nallow = [\"a.example:443\", \"b\"]\n"},
	} {
		got, err := insertAllow([]byte(c.in), []string{"a.example:443", "b"})
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		again, err := insertAllow(got, []string{"a.example:443", "b"})
		if err != nil || string(again) != string(got) {
			t.Errorf("%s, again: %q, %v", name, again, err)
		}
	}
	for _, in := range []string{"network = { mode = \"user\" }\n", "[network\n", "network.allow = 5\n[x"} {
		if got, err := insertAllow([]byte(in), []string{"b"}); err == nil {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestAddAllow(t *testing.T) {
	r := newRoom(t)
	p := r.profile("# mine\n[network]\nmode = \"user\"\n")
	if err := p.AddAllow([]string{"a.example:443"}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(p.File)
	if err != nil {
		t.Fatal(err)
	}
	q := r.profile(string(text))
	if len(q.Network.Allow) != 1 || q.Network.Allow[0].String() != "a.example:443" || !strings.HasPrefix(string(text), "# mine\n") {
		t.Errorf("%+v", q.Network)
	}
	if err := p.AddAllow([]string{"b.example"}); err == nil || !strings.Contains(err.Error(), "changed meanwhile") {
		t.Errorf("a file that was changed: %v", err)
	}
}
