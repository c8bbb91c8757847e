package config

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Whoever adds a kind of grant says what follows from it.
func TestMeanings(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^\tGrant\w+ += "(\w+)"$`).FindAllSubmatch(data, -1) {
			found++
			if (Grant{Kind: string(m[1])}).Meaning() == "" {
				t.Errorf("a grant of kind %s has no meaning", m[1])
			}
		}
	}
	if found < 12 {
		t.Errorf("%d kinds of grants", found)
	}
}

// Each grant names the line that makes it: of the project's file or of the user's own, with the flag where one was typed.
func TestGrantLines(t *testing.T) {
	r := newRoom(t)
	own := r.write(r.home+"/.config/cove/config.toml", "[env]\npass = ['MINE',\n 'LATER',\n  'LAST']\n[network]\nmode = 'user'\npublish = ['9000-9001',\n '9002']\n[[mount]]\nsource = '/usr'\ntarget = '/u'\n")
	r.write(FileName, strings.Join([]string{
		"image = 'debian'", // 1
		"setup = ['one',",
		" 'two']",
		"[env]",
		"set = { LATER = 'set' }", // 5
		"[home]",
		"dotfiles = ['.vimrc', '.config/x',",
		" '.netrc']",
		"[network]",
		"allow = ['a.example',", // 10
		"  'b.example']",
		"publish = ['auto',",
		"  '8000-8001',",
		"  '8080']",
		"[[mount]]", // 15
		"source = '/srv'",
		"target = '/srv'",
		"[[mount]]",
		"target = '/u'",
		"source = '/opt'", // 20
		"[security]",
		"caps = ['default', 'sys_admin',",
		" 'mknod']",
		"[host]",
		"gpu = ['dri',", // 25
		" 'nvidia']",
	}, "\n"))
	opts := r.opts()
	opts.Flags = []Flag{{Name: "--publish", Key: "network.publish", Value: []string{"8080", "7000-7001"}, Add: true}, {Name: "--allow", Key: "network.allow", Value: []string{"c.example"}, Add: true}}
	p, _ := r.load(opts)
	want := map[string]string{
		`image "debian"`: "1:9", `"one"`: "2:10", `"two"`: "3:2", `"MINE"`: "own 2:9", `"LAST"`: "own 4:3",
		`"~/.vimrc"`: "7:13", `"~/.config/x"`: "7:23", `"~/.netrc"`: "8:2",
		`reach "a.example"`: "10:10", `reach "b.example"`: "11:3", `reach "c.example"`: "--allow",
		"every port": "12:11", `"127.0.0.1:8000"`: "13:3", `"127.0.0.1:8001"`: "13:3", `"127.0.0.1:8080"`: "14:3", `"127.0.0.1:7000"`: "--publish", `"127.0.0.1:7001"`: "--publish",
		`"/srv"`: "15:1", `"/opt"`: "18:1", `"SYS_ADMIN"`: "22:20", `"MKNOD"`: "23:2", `GPU "dri"`: "25:8", `GPU "nvidia"`: "26:2",
	}
	for _, g := range p.Reaches() {
		found := ""
		for part, place := range want {
			if strings.Contains(g.Text, part) {
				found = place
				delete(want, part)
			}
		}
		o := g.Origin
		got := fmt.Sprintf("%d:%d", o.Line, o.Col)
		switch {
		case o.Kind == FromFlag:
			got = o.Flag
		case o.File == own:
			got = "own " + got
		}
		if got != found {
			t.Errorf("%s: at %s, want %s", g.Text, got, found)
		}
	}
	for part := range want {
		t.Errorf("no grant of %s", part)
	}
}

// What a profile has mounted of the project is no grant, and has its line all the same.
func TestMountLine(t *testing.T) {
	r := newRoom(t)
	for _, f := range r.profile(aMount("/srv", "/a", "ro") + "\n" + aMount(".", "/b", "ro")).Has() {
		if strings.Contains(f.Text, `"/b"`) && (f.Key != "mount[1]" || f.Origin.Line != 5) {
			t.Errorf("%s is of %s, %v", f.Text, f.Key, f.Origin)
		}
	}
}
