package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// notes point at what a person could misread in a text of package config, in which every value is quoted and plain ASCII.
// The text itself can fake nothing: what is not ASCII stands there escaped. A note says what the escapes are for.
func notes(text string) []string {
	var out []string
	for _, value := range quoted(text) {
		out = append(out, look(value)...)
	}
	return out
}

// quoted are the values in a text.
func quoted(text string) []string {
	var out []string
	for {
		at := strings.IndexByte(text, '"')
		if at < 0 {
			return out
		}
		q, err := strconv.QuotedPrefix(text[at:])
		if err != nil {
			text = text[at+1:]
			continue
		}
		if value, err := strconv.Unquote(q); err == nil {
			out = append(out, value)
		}
		text = text[at+len(q):]
	}
}

// look says what is strange in one value.
func look(value string) []string {
	var out []string
	say := func(format string, args ...any) {
		if note := fmt.Sprintf(format, args...); !slices.Contains(out, note) {
			out = append(out, note)
		}
	}
	if !utf8.ValidString(value) {
		say("not all of it is UTF-8")
	}
	for _, r := range value {
		switch what := strange(r); {
		case what != "":
			say("%s is %s", plainRune(r), what)
		case r > 0xffff && r >= 0x1d400 && r <= 0x1d7ff, r >= 0xff01 && r <= 0xff5e:
			say("%s is made to look like a letter or sign of ASCII", plainRune(r))
		}
	}
	for _, word := range letterRuns(value) {
		if among := scripts(word); len(among) > 1 {
			say("%s mixes letters of %s", strconv.QuoteToASCII(word), strings.Join(among, " and "))
		}
	}
	for _, name := range domains(value) {
		ascii, shown := name, name
		if strings.Contains(name, "xn--") {
			shown, _ = idna.Punycode.ToUnicode(name)
		} else if a, err := idna.Lookup.ToASCII(name); err == nil {
			ascii = a
		}
		if shown != ascii {
			say("the domain name is %s, which is %s in the DNS", strconv.QuoteToASCII(shown), strconv.QuoteToASCII(ascii))
		}
		if like := skeleton(shown); like != shown && isASCII(like) {
			say("it is not %s, which it looks like", strconv.QuoteToASCII(like))
		}
	}
	if len(domains(value)) == 0 {
		if like := skeleton(value); like != value && isASCII(like) {
			say("it is not %s, which it looks like", strconv.QuoteToASCII(like))
		}
	}
	return out
}

func plainRune(r rune) string { return strconv.QuoteRuneToASCII(r) }

// strange names what a terminal acts on, or does not show.
func strange(r rune) string {
	switch {
	case unicode.Is(unicode.Bidi_Control, r):
		return "a control that changes the direction of text"
	case unicode.IsControl(r):
		return "a control character"
	case unicode.In(r, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector):
		return "a character that is not seen"
	case r != ' ' && unicode.Is(unicode.Z, r):
		return "a space that is none of ASCII"
	case unicode.Is(unicode.Co, r):
		return "a character that every font shows as it likes"
	}
	return ""
}

// letterRuns are the runs of letters, digits and marks in a value: where a script changes within one, nobody wrote it so that it
// be read.
func letterRuns(value string) []string {
	return strings.FieldsFunc(value, func(r rune) bool { return !unicode.In(r, unicode.L, unicode.M, unicode.N) })
}

// together are the scripts that people do mix in a word, after UTS 39's "highly restrictive": Japanese, Chinese and Korean
// among themselves and with Latin.
var together = []string{"Latin", "Han", "Hiragana", "Katakana", "Hangul", "Bopomofo"}

// scripts are the scripts of the letters of a word, when they are not of one, or of some that belong together.
func scripts(word string) []string {
	var found []string
	apart := false
	for _, r := range word {
		if !unicode.IsLetter(r) {
			continue
		}
		name := scriptOf(r)
		if name == "" || slices.Contains(found, name) {
			continue
		}
		found = append(found, name)
		apart = apart || !slices.Contains(together, name)
	}
	if !apart || len(found) < 2 {
		return nil
	}
	slices.Sort(found)
	return found
}

func scriptOf(r rune) string {
	for _, name := range []string{"Latin", "Cyrillic", "Greek"} {
		if unicode.Is(unicode.Scripts[name], r) {
			return name
		}
	}
	for name, table := range unicode.Scripts {
		if name != "Common" && name != "Inherited" && unicode.Is(table, r) {
			return name
		}
	}
	return ""
}

// domains are what could be domain names in a value, beyond plain ones: with other letters than ASCII's, or in punycode.
func domains(value string) []string {
	var out []string
	for _, word := range strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune("/:@ [],*~", r) }) {
		name := strings.Trim(word, ".")
		if strings.Contains(name, ".") && !strings.HasPrefix(value, "/") && !strings.HasPrefix(value, "~") &&
			(!isASCII(name) || slices.ContainsFunc(strings.Split(name, "."), func(label string) bool { return strings.HasPrefix(label, "xn--") })) {
			out = append(out, name)
		}
	}
	return out
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
}

// alike are letters that look like one of ASCII, from the confusables of Unicode's UTS 39: those of the scripts that are in
// common fonts. What is not here is escaped in the text all the same.
var alike = func() map[rune]byte {
	m := map[rune]byte{}
	for _, pair := range [][2]string{
		{"асԁеһіјӏорԛгѕԝхуѵҮүԍ", "acdehijlopqrswxyvYyg"}, {"АВСЕНІЈКМОРЅТХУ", "ABCEHIJKMOPSTXY"},
		{"αινορυκτωγϲϳ", "aivopuktwycj"}, {"ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEZHIKMNOPTYX"},
		{"օսոհցԼՏ", "ounhgLS"}, {"ᴀᴄᴇᴏᴜᴠᴡᴢꜱ", "aceouvwzs"}, {"ɑɡıɩʟʀᎥᏀᏔ", "agiilriGW"},
		{"ⅰⅴⅹⅼⅽⅾⅿ", "ivxlcdm"}, {"‐‑‒–−․⁄∕∶ꓽ：", "-----.//:::"},
	} {
		from, to := []rune(pair[0]), pair[1]
		for i, r := range from {
			m[r] = to[i]
		}
	}
	return m
}

// skeleton writes what letters look like.
func skeleton(s string) string {
	known := alike()
	return strings.Map(func(r rune) rune {
		switch c, ok := known[r]; {
		case ok:
			return rune(c)
		case r >= 0xff01 && r <= 0xff5e: // full width
			return r - 0xff01 + '!'
		case strange(r) != "" && !unicode.IsControl(r):
			return -1
		}
		return r
	}, s)
}
