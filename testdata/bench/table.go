package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// table collects the rows: cove's figure, a peer's, if there is one, and how they compare.
type table struct{ rows []row }

type row struct {
	what, peer   string
	cove, theirs float64
	unit         string
}

func (t *table) add(what, unit string, cove float64, peer string, theirs float64) {
	t.rows = append(t.rows, row{what, peer, cove, theirs, unit})
}

// times adds a row for every peer of commands[0], which is cove.
func (t *table) times(what string, times map[string][]time.Duration, commands []command) {
	for _, c := range commands[1:] {
		t.add(what, "ms", median(times[commands[0].name]), c.name, median(times[c.name]))
	}
}

func (t *table) print(w io.Writer, machine string) {
	fmt.Fprintln(w, machine)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "what\tcove\tpeer\tpeer's\tcove / peer")
	for _, r := range t.rows {
		if r.peer == "" {
			fmt.Fprintf(tw, "%s\t%.1f %s\t\t\t\n", r.what, r.cove, r.unit)
			continue
		}
		fmt.Fprintf(tw, "%s\t%.1f %s\t%s\t%.1f %s\t%.2f\n", r.what, r.cove, r.unit, r.peer, r.theirs, r.unit, r.cove/r.theirs)
	}
	tw.Flush()
}

// median is in milliseconds.
func median(times []time.Duration) float64 {
	s := slices.Sorted(slices.Values(times))
	mid := len(s) / 2
	m := s[mid]
	if len(s)%2 == 0 {
		m = (s[mid-1] + s[mid]) / 2
	}
	return float64(m) / float64(time.Millisecond)
}
