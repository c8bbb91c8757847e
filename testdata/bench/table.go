package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// table collects the rows: cove's figure, a peer's, if there is one, and how they compare.
type table struct {
	Machine string
	Rows    []row
	Budget  *budget `json:",omitempty"`
}

// row has one figure or two; Cove or Theirs is nil where only the other has such a thing.
type row struct {
	What, Peer   string
	Cove, Theirs *float64
	Unit         string
}

func (t *table) add(what, unit string, cove float64, peer string, theirs float64) {
	r := row{What: what, Cove: &cove, Unit: unit, Peer: peer}
	if peer != "" {
		r.Theirs = &theirs
	}
	t.Rows = append(t.Rows, r)
}

// addTheirs is what only a peer has.
func (t *table) addTheirs(what, unit, peer string, theirs float64) {
	t.Rows = append(t.Rows, row{What: what, Unit: unit, Peer: peer, Theirs: &theirs})
}

// times adds a row for every peer of commands[0], which is cove.
func (t *table) times(what string, times map[string][]time.Duration, commands []command) {
	for _, c := range commands[1:] {
		t.add(what, "ms", median(times[commands[0].name]), c.name, median(times[c.name]))
	}
}

// print writes Markdown that can be read as it is.
func (t *table) print(w io.Writer) {
	if len(t.Rows) > 0 {
		lines := [][]string{{"what", "cove", "peer", "peer's", "cove / peer"}, {"---", "---:", "---", "---:", "---:"}}
		for _, r := range t.Rows {
			lines = append(lines, r.cells())
		}
		printCells(w, lines)
	}
	if t.Budget != nil {
		t.Budget.print(w)
	}
}

func (r row) cells() []string {
	figure := func(v *float64) string {
		switch {
		case v == nil:
			return ""
		case *v >= 1000:
			return fmt.Sprintf("%.0f %s", *v, r.Unit)
		default:
			return fmt.Sprintf("%.1f %s", *v, r.Unit)
		}
	}
	ratio := ""
	if r.Cove != nil && r.Theirs != nil && *r.Theirs != 0 {
		ratio = fmt.Sprintf("%.2f", *r.Cove / *r.Theirs)
	}
	return []string{r.What, figure(r.Cove), r.Peer, figure(r.Theirs), ratio}
}

func printCells(w io.Writer, lines [][]string) {
	tw := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	for _, cells := range lines {
		fmt.Fprintln(tw, "| "+strings.Join(cells, "\t| ")+"\t|")
	}
	tw.Flush()
}

// median is in milliseconds.
func median(times []time.Duration) float64 {
	var ms []float64
	for _, t := range times {
		ms = append(ms, float64(t)/float64(time.Millisecond))
	}
	return middle(ms)
}

func middle(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// machine says what the figures were taken on.
func (b *bench) machine() string {
	say := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).Output()
		if err != nil {
			return name + " ?"
		}
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return line
	}
	facts := []string{
		say("sh", "-c", ". /etc/os-release; echo $PRETTY_NAME") + ", Linux " + say("uname", "-r"),
		say("nproc") + " cores of " + say("sh", "-c", "sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1"),
		say("stat", "-f", "-c", "%T", b.dir),
		// Which cove it is its version does not say where it was built of a working tree.
		fmt.Sprintf("%s (%.12s)", say(b.cove, "--version"), say("sha256sum", b.cove)),
	}
	for _, peer := range []string{"bwrap", "podman", b.podmanRT, "crun", "skopeo", "umoci", "slirp4netns", "pasta"} {
		facts = append(facts, say(peer, "--version"))
	}
	return strings.Join(facts, "; ")
}

func (b *bench) kept(part string) string { return filepath.Join(b.dir, "results", part+".json") }

// keep writes down what a part has measured, so that the tables can be put together of several runs on one machine.
func (b *bench) keep(part string) error {
	if len(b.out.Rows) == 0 && b.out.Budget == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(b.kept(part)), 0o755); err != nil {
		return err
	}
	data, err := json.MarshalIndent(b.out, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(b.kept(part), data, 0o644)
}

// writeReadme puts the tables of all parts into the file, each between its two marks.
func (b *bench) writeReadme() error {
	var whole table
	var lacking []error
	for _, p := range parts {
		var t table
		err := readJSON(b.kept(p.name), &t)
		switch {
		case errors.Is(err, os.ErrNotExist) && p.extra:
		case errors.Is(err, os.ErrNotExist):
			lacking = append(lacking, fmt.Errorf("%s has not been measured (-only %s)", p.name, p.name))
		case err != nil:
			return err
		case whole.Machine != "" && t.Machine != whole.Machine:
			lacking = append(lacking, fmt.Errorf("%s was measured on another machine, or with other programs (-only %s)", p.name, p.name))
		default:
			whole.Machine = t.Machine
			whole.Rows = append(whole.Rows, t.Rows...)
			if t.Budget != nil {
				whole.Budget = t.Budget
			}
		}
	}
	if lacking != nil {
		return fmt.Errorf("write the tables: %w", errors.Join(lacking...))
	}
	text, err := os.ReadFile(b.readme)
	if err != nil {
		return err
	}
	figures := table{Rows: whole.Rows}
	budget := table{Budget: whole.Budget}
	for mark, t := range map[string]*table{"figures": &figures, "budget": &budget} {
		var said strings.Builder
		fmt.Fprintf(&said, "%s: %s.\n\n", time.Now().Format("January 2006"), whole.Machine)
		t.print(&said)
		if text, err = between(text, mark, said.String()); err != nil {
			return fmt.Errorf("%s: %w", b.readme, err)
		}
	}
	return os.WriteFile(b.readme, text, 0o644)
}

// between replaces what is between the lines <!-- MARK --> and <!-- /MARK -->.
func between(text []byte, mark, with string) ([]byte, error) {
	begin, end := "<!-- "+mark+" -->\n", "<!-- /"+mark+" -->\n"
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		return nil, fmt.Errorf("it has no lines %q and %q", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return []byte(before + begin + with + end + after), nil
}
