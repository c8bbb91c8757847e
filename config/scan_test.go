package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// unplaced walks a decoded file and returns the keys and elements that the scanner has no place for.
func unplaced(s *scan, full string, value any) (missing []string) {
	check := func(key string, v any) {
		p, ok := s.places[key]
		if !ok || p.key < 0 || p.val < 0 || p.key > len(s.data) || p.val > len(s.data) {
			missing = append(missing, key)
		}
		missing = append(missing, unplaced(s, key, v)...)
	}
	switch v := value.(type) {
	case map[string]any:
		for name, sub := range v {
			check(keyOf(full, name), sub)
		}
	case []map[string]any:
		for i, sub := range v {
			check(elementOf(full, i), sub)
		}
	case []any:
		for i, sub := range v {
			check(elementOf(full, i), sub)
		}
	}
	return missing
}

func TestScanPlaces(t *testing.T) {
	const file = "# first\n" + // 1
		"image = \"x\" # end\n" + // 2
		"[network] # header\n" + // 3
		"  mode='user'\n" + // 4
		"publish = [ # comment ]\n" + // 5
		"  \"80\", \"81\",\n" + // 6
		"]\n" + // 7
		"[[mount]]\n" + // 8
		"source = \"\"\"\n" + // 9
		"a = 1\n" + // 10
		"\\\"\"\"\"\"\"\n" + // 11: \" and then five quotes, two of which belong to the string
		"target = '''x'''\n" + // 12
		"[[ mount ]]\n" + // 13
		"\"so\\u0075rce\" = {a.\"b c\"=[1,{d=2}], e='}'}\n" + // 14
		"[env.set]\n" + // 15
		"\u00e9\u00e9 = 1\n" // 16: the decoder refuses it, the scanner does not care
	s := scanTOML(file)
	d := &document{text: file, scan: s}
	for key, want := range map[string]string{
		"image":                        "2:1 2:9",
		"network":                      "3:2 3:1",
		"network.mode":                 "4:3 4:8",
		"network.publish":              "5:1 5:11",
		"network.publish[1]":           "6:9 6:9",
		"mount":                        "8:3 8:1",
		"mount[0]":                     "8:3 8:1",
		"mount[0].source":              "9:1 9:10",
		"mount[0].target":              "12:1 12:10",
		"mount[1]":                     "13:4 13:1",
		"mount[1].source":              "14:1 14:17",
		`mount[1].source.a."b c"`:      "14:20 14:26",
		`mount[1].source.a."b c"[1]`:   "14:29 14:29",
		`mount[1].source.a."b c"[1].d`: "14:30 14:32",
		"mount[1].source.e":            "14:37 14:39",
		"env":                          "15:2 15:2",
		"env.set":                      "15:6 15:1",
		`env.set."éé"`:                 "16:1 16:6",
	} {
		kl, kc := d.keyPlace(key)
		vl, vc := d.valuePlace(key)
		if got := fmt.Sprintf("%d:%d %d:%d", kl, kc, vl, vc); got != want {
			t.Errorf("%s is at %s, want %s", key, got, want)
		}
	}
	for i, st := range s.statements {
		if st.broken {
			t.Errorf("statement %d at %d is broken", i, st.start)
		}
	}
}

// seeds are files that once were, or might be, understood differently by the scanner and the decoder.
var seeds = []string{
	"", "a=1", "a.b.c = {d = {e = [[], [{f = 1}]]}}", "[a.b]\n[a]\nc=1\n[[x.y]]\nz=1\n[[x.y]]\n[x.y.w]\nv=1\n[x]\ny.q=2",
	"\"\" = 1\n'' = 2", "\"a\\tb\" = 1\n\"a\\u0041\"=2\n\"\\x41\\e\"=3", "s=\"\"\"\"\"\" \n", "s=\"\"\"a\\\"\"\"\"\"\"\nb=1", "s=''''''\nt='''a'''''\nu=1",
	"d = 1979-05-27 07:32:00Z\ne = [1979-05-27 07:32:00, 07:32:00]", "a = [ # x ]\n1, # y\n]\n", "a = {\nb = 1, # c }\nc = 2,\n}\n",
	"a=inf\nb=-nan\nc=0x1F\nd=1_000.5e3", "[ a . 'b.c' ]\nd . \"e\" = 1", "[[a]]\n[[a.b]]\nc=1\n[[a.b]]\nc=2\n[[a]]\n[[a.b]]\nc=3",
	"a = 1\r\nb = 2\r\n[c]\r\nd = '''x\r\ny'''\r\n", "\ufeffa=1", "a = \"x\\\ny\"", "a = [1, 2\nb = 3\n", "a = \"unclosed\nb = 1", "a = 1\na = 2\n[a]\n[b\nc=1\n[d]\ne=x",
	"a = [[[[[[[[[[]]]]]]]]]]", strings.Repeat("[", 100), "a" + strings.Repeat(".a", 100) + "=1", "a={b=" + strings.Repeat("{b=", 60), "x = 1 y = 2",
	"image = 5\n[network]\nmode = 'usre'\n[[mount]]\nsource='a'\n", "\x00", "a=\x1b", "a=1\rb=2", "\xff\xfe", "[\"a[0]\"]\nb=1\n[[a]]\nc=1", "[[\"a.b\"]]\n[\"a.b\".c]\nd=1",
	"[a]\nb=1\n[a]\nc=2\n[d]\ne=", "a=[1]\n[[a]]\n", "[[a]]\n[a]\n", "=1\n.=1\na.=1\n[]\n[[]]\n[a.]\n[[a]\n]", "a = 'b' # c\n# d\n\t#e\n", "[a.b]\nc=1\n[a]\nb.d=2",
}

func FuzzParse(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Add([]byte("\ufeff\ufeff"))
	f.Add([]byte("\ufeffuser = 'me'"))
	files, err := filepath.Glob("testdata/*/*.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d := parseTOML(data)
		lines := strings.Split(d.text, "\n")
		for _, m := range d.mistakes {
			if m.Line < 1 || m.Line > len(lines) || m.Col < 1 || m.Col > len(lines[m.Line-1])+1 {
				t.Errorf("%+v lies outside the file", m)
			}
		}
		if len(d.mistakes) == 0 {
			// What we take without a complaint, the decoder takes, and every key has a place.
			tree := map[string]any{}
			if err := toml.Unmarshal(data, &tree); err != nil {
				t.Fatalf("no mistake was told, and the decoder says: %v", err)
			}
			if missing := unplaced(d.scan, "", tree); missing != nil {
				t.Fatalf("no place for %q", missing)
			}
		} else if tree, err := decode(d.text); err == nil && d.scan.tooDeep < 0 {
			if _, odd := badBytes(d.text); odd == "" {
				t.Fatalf("the decoder takes it as %v, we say %v", tree, d.mistakes)
			}
		}
		p := defaults()
		p.Dir, p.base, p.home, p.cwd = "/nonexistent/project", "/nonexistent/project", "/nonexistent", "/nonexistent/project"
		r := &reader{kind: FromProfile, file: "/nonexistent/project/cove.toml", shown: "cove.toml", base: p.base, profile: p, failed: map[string]bool{}}
		for _, m := range r.read(data) {
			if m.Line < 1 || m.Line > len(lines) || m.Col < 1 || m.Col > len(lines[m.Line-1])+1 || m.Text == "" {
				t.Errorf("%+v lies outside the file", m)
			}
			printable(t, m.String())
		}
		p.check(nil)
		for _, g := range p.Grants() {
			printable(t, g.Text)
			if g.Origin.Kind != FromProfile || g.Origin.Line < 1 || g.Origin.Line > len(lines) {
				t.Errorf("%+v has no place in the file", g)
			}
		}
		for _, s := range p.Show() {
			printable(t, s.String())
		}
	})
}

// printable fails when a terminal would act on a text.
func printable(t *testing.T, text string) {
	t.Helper()
	for _, r := range text {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x202e || r == 0x2066 {
			t.Errorf("%q is not safe to print", text)
			return
		}
	}
}

// Deep nesting and many keys must cost neither the stack nor the patience.
func TestParseHuge(t *testing.T) {
	big := maxSize - 10
	for name, text := range map[string]string{
		"arrays":  "a=" + strings.Repeat("[", big),
		"tables":  "a=" + strings.Repeat("{a=", big/3),
		"dots":    strings.Repeat("a.", big/2) + "a=1",
		"keys":    manyKeys(big),
		"header":  strings.Repeat("[", big),
		"strings": "a=[" + strings.Repeat(`"",`, big/3),
		"errors":  strings.Repeat("x\n", big/2),
		"oneline": strings.Repeat("x=1 ", big/4),
		"dupes":   strings.Repeat("x=1\n", big/4),
	} {
		t.Run(name, func(t *testing.T) {
			if d := parseTOML([]byte(text)); len(d.mistakes) == 0 {
				t.Error("no mistake was told")
			}
		})
	}
}

func manyKeys(size int) string {
	var b strings.Builder
	for i := 0; b.Len() < size-20; i++ {
		fmt.Fprintf(&b, "k%d=1\n", i)
	}
	return b.String()
}
