package memory

import (
	"os"
	"strings"
	"testing"
)

// What is given back is never what was written to, nor another file's, whatever the file is called.
func TestUnwritten(t *testing.T) {
	for text, want := range map[string]bool{
		"00400000-00800000 r-xp 00000000 fe:00 12 /usr/bin/a b\nSize: 4096 kB\nAnonymous:             0 kB\n":        true,
		"00400000-00800000 r--p 00000000 fe:00 12     /usr/bin/a b\nAnonymous: 0 kB\n":                               true,
		"00400000-00800000 r--p 00000000 fe:00 12 /usr/bin/a b\nAnonymous: 4 kB\n":                                   false, // RELRO
		"00400000-00800000 rw-p 00000000 fe:00 12 /usr/bin/a b\nAnonymous: 0 kB\n":                                   false,
		"00400000-00800000 r-xs 00000000 fe:00 12 /usr/bin/a b\nAnonymous: 0 kB\n":                                   false,
		"00400000-00800000 r-xp 00000000 fe:00 12 /usr/bin/a b (deleted)\nAnonymous: 0 kB\n":                         false,
		"00400000-00800000 r-xp 00000000 fe:00 12 /x/usr/bin/a b\nAnonymous: 0 kB\n":                                 false,
		"00400000-00800000 r-xp 00000000 fe:00 12 /usr/bin/a b\n00900000-00a00000 rw-p 0 00:00 0\nAnonymous: 0 kB\n": false,
		"00800000-00400000 r-xp 00000000 fe:00 12 /usr/bin/a b\nAnonymous: 0 kB\n":                                   false,
		"00400000-00800000 r-xp 00000000 fe:00 12 /usr/bin/a b\n":                                                    false,
		"": false,
	} {
		got := unwritten([]byte(text), "/usr/bin/a b")
		if (len(got) == 1) != want || len(got) == 1 && got[0] != (mapping{0x400000, 0x400000}) {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// The program goes on as before, with fewer of its file's pages.
func TestGiveBack(t *testing.T) {
	before := fileKB(t)
	giveBack()
	if after := fileKB(t); after >= before {
		t.Errorf("%s kB of files before, %s after", before, after)
	}
}

func fileKB(t *testing.T) string {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), "RssFile:")
	if !ok {
		t.Fatal("no RssFile")
	}
	kb := strings.Fields(rest)[0]
	return strings.Repeat(" ", 12-len(kb)) + kb
}
