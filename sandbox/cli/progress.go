package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"cove/fetch"
)

// progress shows a pull or a push on stderr: bars on a terminal, otherwise a line for each thing that is done.
type progress struct {
	w          io.Writer
	rows, cols int // of the terminal; 0 where there is none
	now        func() time.Time
	verb       string // what is done, "pull"

	ref    string
	layers []layerState
	drawn  int // lines of the last drawing, which the next one overwrites
	last   time.Time
}

type layerState struct {
	name    string
	bytes   int64
	total   int64
	started bool
	done    bool
	present bool
}

// newProgress looks at where stderr leads. A terminal that cannot move its cursor gets lines.
func newProgress(stderr *os.File) *progress {
	p := &progress{w: stderr, now: time.Now, verb: "pull"}
	if rows, cols, ok := terminalSize(stderr); ok && os.Getenv("TERM") != "dumb" {
		p.rows, p.cols = rows, cols
	}
	return p
}

// event takes one step of a pull. Fetch calls it from one goroutine at a time.
func (p *progress) event(e fetch.Event) {
	switch e.Kind {
	case fetch.Resolved:
		p.ref, p.layers = e.Ref, make([]layerState, max(e.Layers, 0))
		if p.rows == 0 {
			fmt.Fprintf(p.w, "cove: %s %s: %d layers (%s)\n", p.verb, escape(e.Ref), e.Layers, short(e.Digest.String()))
		}
	case fetch.LayerStart:
		if l := p.layer(e.Layer); l != nil {
			l.name, l.total, l.started = short(e.Digest.String()), e.Total, true
		}
	case fetch.LayerBytes:
		if l := p.layer(e.Layer); l != nil {
			l.bytes, l.total = e.Bytes, e.Total
		}
	case fetch.LayerDone:
		if l := p.layer(e.Layer); l != nil {
			p.layerDone(l, e)
		}
	case fetch.Waiting:
		p.waiting(e)
		return
	case fetch.Finished:
		p.finish()
		return
	}
	if p.rows > 0 && p.now().Sub(p.last) >= 80*time.Millisecond {
		p.draw()
	}
}

// waiting says why nothing moves. On a terminal the next drawing begins below it.
func (p *progress) waiting(e fetch.Event) {
	fmt.Fprintf(p.w, "cove: %s: trying again in %v\n", escape(e.Why), e.Wait.Round(time.Second))
	p.drawn = 0
}

func (p *progress) layer(i int) *layerState {
	if i < 0 || i >= len(p.layers) {
		return nil
	}
	return &p.layers[i]
}

func (p *progress) layerDone(l *layerState, e fetch.Event) {
	l.done, l.present = true, e.Present
	if l.total > 0 && !e.Present {
		l.bytes = l.total
	}
	if p.rows == 0 && !e.Present {
		fmt.Fprintf(p.w, "cove: %s %s: layer %d of %d %s, %s\n", p.verb, escape(p.ref), e.Layer+1, len(p.layers), l.name, size(l.bytes))
	}
}

// finish draws the last state and leaves the cursor below it. It may be called more than once.
func (p *progress) finish() {
	if p.rows > 0 && len(p.layers) > 0 {
		p.draw()
	}
	p.layers, p.drawn = nil, 0
}

// draw writes one line for every layer that is fetched, or one for all where they are more than the terminal is high.
func (p *progress) draw() {
	p.last = p.now()
	var lines []string
	var have, total int64
	done := 0
	for _, l := range p.layers {
		if l.done {
			done++
		}
		if !l.started || l.present {
			continue
		}
		have += l.bytes
		total += max(l.total, l.bytes)
		lines = append(lines, p.layerLine(l))
	}
	if len(lines) == 0 {
		return
	}
	sum := p.named(fmt.Sprintf(": %d of %d layers, %s of %s", done, len(p.layers), size(have), size(total)))
	if len(lines)+1 >= p.rows {
		lines = nil
	}
	lines = append(lines, sum)
	var b strings.Builder
	if p.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", p.drawn)
	}
	for _, l := range lines {
		b.WriteString("\r\x1b[2K" + cut(l, p.cols-1) + "\n")
	}
	if len(lines) < p.drawn {
		b.WriteString("\x1b[J")
	}
	p.drawn = len(lines)
	_, _ = io.WriteString(p.w, b.String())
}

// named puts the image's name before a text, and shortens it, rather than the text, to what a row holds.
func (p *progress) named(text string) string {
	name := escape(p.ref)
	if room := p.cols - 1 - len(text); room > len("...") && utf8.RuneCountInString(name) > room {
		name = cut(name, room-len("...")) + "..."
	}
	return name + text
}

const barWidth = 30

func (p *progress) layerLine(l layerState) string {
	text := size(l.bytes)
	if l.total > 0 {
		text += " / " + size(l.total)
	}
	if l.done {
		text = size(l.bytes) + " done"
	}
	filled := 0
	if l.total > 0 {
		filled = int(min(l.bytes, l.total) * barWidth / l.total)
	} else if l.done {
		filled = barWidth
	}
	return fmt.Sprintf("%s [%s%s] %s", l.name, strings.Repeat("=", filled), strings.Repeat(" ", barWidth-filled), text)
}

// cut shortens a line to what a terminal shows in one row: a wrapped line could not be overwritten.
func cut(s string, cols int) string {
	r := []rune(s)
	if cols > 0 && len(r) > cols {
		return string(r[:cols])
	}
	return s
}

// short is a digest as people compare it.
func short(digest string) string {
	algorithm, hex, ok := strings.Cut(digest, ":")
	if !ok {
		return escape(digest)
	}
	return escape(algorithm + ":" + hex[:min(12, len(hex))])
}
