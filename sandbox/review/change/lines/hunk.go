package lines

import "bytes"

// Op says what becomes of a line.
type Op byte

// The three first characters of a unified diff's lines.
const (
	Keep Op = ' '
	Drop Op = '-'
	Add  Op = '+'
)

// Line is one line of a hunk. Text has the newline, where there is one.
type Line struct {
	Op   Op
	Text []byte
}

// Hunk is a place where two texts differ, with some lines around it. The lines are counted from 0.
type Hunk struct {
	OldStart, OldLines int
	NewStart, NewLines int
	Lines              []Line
}

// Context is how many lines around a difference are shown.
const Context = 3

// Diff finds the hunks by which b differs from a.
func Diff(a, b []byte) []Hunk {
	la, lb := Split(a), Split(b)
	gone, come := compare(la, lb)
	var out []Hunk
	last := -1 // behind the last difference, in la
	for i, j := 0, 0; i < len(la) || j < len(lb); {
		if !(i < len(la) && gone[i]) && !(j < len(lb) && come[j]) {
			i, j = i+1, j+1
			continue
		}
		if n := len(out); n > 0 && i-last <= 2*Context {
			out[n-1].keep(la[last:i])
		} else {
			if n > 0 {
				out[n-1].keep(la[last:min(last+Context, len(la))])
			}
			back := min(Context, i, j)
			out = append(out, Hunk{OldStart: i - back, NewStart: j - back})
			out[n].keep(la[i-back : i])
		}
		h := &out[len(out)-1]
		for i < len(la) && gone[i] {
			h.add(Drop, la[i])
			i++
		}
		for j < len(lb) && come[j] {
			h.add(Add, lb[j])
			j++
		}
		last = i
	}
	if n := len(out); n > 0 {
		out[n-1].keep(la[last:min(last+Context, len(la))])
	}
	return out
}

func (h *Hunk) keep(lines [][]byte) {
	for _, l := range lines {
		h.add(Keep, l)
	}
}

func (h *Hunk) add(op Op, text []byte) {
	h.Lines = append(h.Lines, Line{op, text})
	if op != Add {
		h.OldLines++
	}
	if op != Drop {
		h.NewLines++
	}
}

// Count tells how many lines the hunks add and drop.
func Count(hunks []Hunk) (added, dropped int) {
	for _, h := range hunks {
		for _, l := range h.Lines {
			switch l.Op {
			case Add:
				added++
			case Drop:
				dropped++
			}
		}
	}
	return added, dropped
}

// Split parts a hunk at the lines between its differences, which become the context of both neighbours, as git add -p
// does. A hunk with one difference stays whole.
func (h Hunk) Split() []Hunk {
	type run struct{ from, to int } // differing lines, of h.Lines
	var runs []run
	for i := 0; i < len(h.Lines); i++ {
		if h.Lines[i].Op == Keep {
			continue
		}
		from := i
		for i < len(h.Lines) && h.Lines[i].Op != Keep {
			i++
		}
		runs = append(runs, run{from, i})
	}
	if len(runs) < 2 {
		return []Hunk{h}
	}
	var out []Hunk
	for n := range runs {
		from, to := 0, len(h.Lines)
		if n > 0 {
			from = runs[n-1].to
		}
		if n < len(runs)-1 {
			to = runs[n+1].from
		}
		part := Hunk{OldStart: h.OldStart, NewStart: h.NewStart}
		for _, l := range h.Lines[:from] {
			if l.Op != Add {
				part.OldStart++
			}
			if l.Op != Drop {
				part.NewStart++
			}
		}
		for _, l := range h.Lines[from:to] {
			part.add(l.Op, l.Text)
		}
		out = append(out, part)
	}
	return out
}

// Take makes the text that a becomes with those of the hunks that are taken. The hunks are Diff's, or parts of them by
// Split, in order.
func Take(a []byte, hunks []Hunk, taken []bool) []byte {
	la := Split(a)
	var out bytes.Buffer
	at := 0
	for n, h := range hunks {
		if !taken[n] {
			continue
		}
		pos := h.OldStart
		for _, l := range h.Lines {
			switch l.Op {
			case Add:
				at = copyLines(&out, la, at, pos)
				joinLine(&out)
				out.Write(l.Text)
			case Drop:
				copyLines(&out, la, at, pos)
				pos++
				at = pos
			default:
				pos++
			}
		}
	}
	copyLines(&out, la, at, len(la))
	return out.Bytes()
}

func copyLines(out *bytes.Buffer, la [][]byte, from, to int) int {
	for _, l := range la[from:max(from, to)] {
		joinLine(out)
		out.Write(l)
	}
	return max(from, to)
}

// joinLine ends a line that had no newline because it was a text's last, where another follows it now.
func joinLine(out *bytes.Buffer) {
	if b := out.Bytes(); len(b) > 0 && b[len(b)-1] != '\n' {
		out.WriteByte('\n')
	}
}
