package cli

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// unroff takes the macros and escapes out again.
func unroff(page string) string {
	var b strings.Builder
	for line := range strings.Lines(page) {
		if !strings.HasPrefix(line, ".") {
			b.WriteString(strings.TrimPrefix(line, `\&`))
		}
	}
	return strings.NewReplacer(`\fB`, "", `\fR`, "", `\-`, "-", `\(aq`, "'", `\(ha`, "^", `\(ti`, "~", `\e`, `\`).Replace(b.String())
}

// Every page says every word that `cove help` says there, and holds no macro that nobody wrote.
func TestManPages(t *testing.T) {
	a := testApp()
	names := []string{""}
	for _, c := range a.commands() {
		if !c.Hidden {
			names = append(names, c.Name)
			for _, s := range c.Subcommands {
				names = append(names, c.Name+" "+s.Name)
			}
		}
	}
	for _, topic := range topics {
		names = append(names, topic[0])
	}
	macro := regexp.MustCompile(`^\.(TH "[A-Z.\-]+" "[157]" "" "cove [^"]*" "cove"|SH [A-Z ]+|PP|TP|RS 4|RE|nf|fi|nh|br)\n$`)
	for _, name := range names {
		page, err := a.manPage(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(page) {
			if strings.HasPrefix(line, ".") && !macro.MatchString(line) || strings.HasPrefix(line, "'") {
				t.Errorf("%q: %q", name, line)
			}
		}
		help, err := a.helpText(name)
		if err != nil {
			t.Fatal(err)
		}
		words := strings.Fields(unroff(page))
		help = strings.NewReplacer("`", "", "\nUsage: ", "\n", "\nOptions:\n", "\n").Replace(help)
		for _, word := range strings.Fields(help) {
			word = strings.TrimSuffix(word, ":")
			if !slices.ContainsFunc(words, func(w string) bool { return strings.Contains(w, word) }) && name != "" {
				t.Errorf("the page of %q does not have %q", name, word)
			}
		}
	}
	if _, err := a.manPage("nothing"); err == nil {
		t.Error("there is a page about nothing")
	}
	if got := roffText("`-x` \\n ~^'"); got != `\fB\-x\fR \en \(ti\(ha\(aq` {
		t.Errorf("%s", got)
	}
}
