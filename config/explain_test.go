package config

import (
	"os"
	"path/filepath"
	"regexp"
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
