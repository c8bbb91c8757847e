package cli

import (
	"os"
	"slices"
	"strings"
	"testing"

	"cove/config"
)

// Every key of the profile is explained in the help texts, where editors have it from, and the texts explain no other.
func TestKeysHelp(t *testing.T) {
	about := keysHelp()
	var known []string
	config.JSONSchema(true, func(key string) string {
		known = append(known, key)
		if about[key] == "" {
			t.Errorf("no help on %s: give its line in help/profile.txt a comment", key)
		}
		return ""
	})
	for key := range about {
		if !slices.Contains(known, key) {
			t.Errorf("the help texts explain %s, which is no key", key)
		}
	}
	for key, want := range map[string]string{
		"user":              "root (default): uid 0 inside is you outside; me: your own uid and name; image: the image's USER. Whichever, what the workspace receives is yours.",
		"mount.mode":        "rw (default), ro",
		"trust.hosts":       "entries of network.allow that lie wholly within these",
		"workspace.protect": "read-only even under rw: they act outside later; this is the default, with the keys of verify",
	} {
		if about[key] != want {
			t.Errorf("%s: %q", key, about[key])
		}
	}
}

// The README's reference is the help's: the sample of a profile word by word, every command by its name.
func TestReadme(t *testing.T) {
	data, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(data)
	help, err := testApp().helpText("profile")
	if err != nil {
		t.Fatal(err)
	}
	if sample := sampleOf(help); len(sample) < 500 || sampleOf(readme) != sample {
		t.Errorf("the profile in the README is not the one in help/profile.txt, which is\n%s", sample)
	}
	for _, c := range testApp().commands() {
		if !c.Hidden && !strings.Contains(readme, "cove "+c.Name) && !strings.Contains(readme, "| "+c.Name) && !strings.Contains(readme, "`"+c.Name+"`") {
			t.Errorf("the README does not have cove %s", c.Name)
		}
	}
}

// sampleOf is the block of code that begins with the image of a profile.
func sampleOf(text string) string {
	at := strings.Index(text, "\n    image   = ")
	if at < 0 {
		return ""
	}
	var b strings.Builder
	for line := range strings.Lines(text[at+1:]) {
		if line != "\n" && !strings.HasPrefix(line, "    ") {
			break
		}
		b.WriteString(line)
	}
	return strings.TrimRight(b.String(), "\n")
}
