package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	setupLogMost  = 16 << 20 // of a log; what writes more has not written it for somebody to read
	setupLineMost = 4 << 10  // of a line, which goes on in the next one
	setupLast     = 12       // lines that an error has of the log
	setupLive     = 6        // lines on a terminal that change
)

// setupShow shows what setup's commands write, and keeps it in the log: on a terminal the last lines, in place, otherwise
// every line. What would act on a terminal is taken out: the log is read on one too.
type setupShow struct {
	mu         sync.Mutex
	out        *os.File
	log        *os.File
	rows, cols int // of the terminal; 0 where there is none
	logged     int64
	logErr     error
	line       []byte // that has not ended
	last       []string
	drawn      int
	when       time.Time // of the last drawing
	drawing    bool      // there is one to come
	ended      bool
	began      time.Time
	head       string
}

func newSetupShow(out *os.File, log string) (*setupShow, error) {
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write the log: %w", err)
	}
	s := &setupShow{out: out, log: f}
	if rows, cols, ok := terminalSize(out); ok && os.Getenv("TERM") != "dumb" && rows > setupLive+2 {
		s.rows, s.cols = rows, cols
	}
	return s, nil
}

// begin is called before each command.
func (s *setupShow) begin(n int, commands []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flush()
	s.done()
	s.head, s.began, s.last = fmt.Sprintf("setup %d/%d: %s", n+1, len(commands), escape(firstLine(commands[n]))), time.Now(), nil
	s.keep("# " + s.head)
	if s.rows == 0 {
		fmt.Fprintf(s.out, "cove: %s\n", s.head)
		return
	}
	s.draw()
}

// firstLine is what there is room for of a command.
func firstLine(s string) string {
	line, rest, _ := strings.Cut(strings.TrimSpace(s), "\n")
	if rest != "" {
		line += " ..."
	}
	return line
}

// Write takes what a command writes.
func (s *setupShow) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(p)
	if s.ended { // by what a command left running
		return n, nil
	}
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			i = len(p)
		}
		s.line = append(s.line, p[:i]...)
		if i < len(p) {
			i++
			s.flush()
		}
		p = p[i:]
		for len(s.line) > setupLineMost {
			rest := s.line[setupLineMost:]
			s.put(s.line[:setupLineMost])
			s.line = append([]byte{}, rest...)
		}
	}
	s.drawSoon()
	return n, nil
}

// drawEvery is how often the screen changes: what writes much is not to wait for it.
const drawEvery = 80 * time.Millisecond

// drawSoon draws now, or when it is time: what is silent then has its last lines shown all the same.
func (s *setupShow) drawSoon() {
	if s.rows == 0 || s.drawing {
		return
	}
	wait := drawEvery - time.Since(s.when)
	if wait <= 0 {
		s.draw()
		return
	}
	s.drawing = true
	time.AfterFunc(wait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.drawing = false; s.head != "" {
			s.draw()
		}
	})
}

// flush ends a line.
func (s *setupShow) flush() {
	if s.line != nil {
		s.put(s.line)
	}
	s.line = nil
}

func (s *setupShow) put(line []byte) {
	text := plainLine(line)
	s.keep(text)
	s.last = append(s.last, text)
	if len(s.last) > setupLast {
		s.last = s.last[1:]
	}
	if s.rows == 0 {
		fmt.Fprintf(s.out, "  | %s\n", text)
	}
}

// keep writes a line to the log. A disk that is full ends the log and not the work, which will find out for itself.
func (s *setupShow) keep(line string) {
	if s.logErr != nil {
		return
	}
	if s.logged += int64(len(line)) + 1; s.logged > setupLogMost {
		line, s.logErr = fmt.Sprintf("# the log ends here, at %s", size(setupLogMost)), errors.New("it is full")
	}
	if _, err := s.log.WriteString(line + "\n"); err != nil {
		s.logErr = err
	}
}

// plainLine is a line as it can be read: of what was written over with a carriage return the last, without colours.
func plainLine(line []byte) string {
	line = bytes.TrimRight(line, "\r")
	line = line[bytes.LastIndexByte(line, '\r')+1:]
	var b strings.Builder
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == '\t':
			b.WriteString("    ")
		case line[i] == '\x1b' && i+1 < len(line) && line[i+1] == '[': // ECMA-48 5.4, a control sequence
			for i += 2; i < len(line) && (line[i] < '@' || line[i] > '~'); i++ {
			}
		default:
			b.WriteByte(line[i])
		}
	}
	return escape(b.String())
}

// draw writes the command and the last lines over what was drawn before.
func (s *setupShow) draw() {
	s.when = time.Now()
	lines := []string{"cove: " + s.head}
	last := s.last
	if len(s.line) > 0 {
		last = append(last[:len(last):len(last)], plainLine(s.line))
	}
	for _, l := range last[max(0, len(last)-setupLive):] {
		lines = append(lines, "  | "+l)
	}
	var b strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.drawn)
	}
	for _, l := range lines {
		b.WriteString("\r\x1b[2K" + cut(l, s.cols-1) + "\n")
	}
	b.WriteString("\x1b[J")
	s.drawn = len(lines)
	_, _ = s.out.WriteString(b.String())
}

// done leaves of a command that has ended one line.
func (s *setupShow) done() {
	if s.head == "" || s.rows == 0 {
		return
	}
	if s.drawn > 0 {
		fmt.Fprintf(s.out, "\x1b[%dA\r\x1b[J", s.drawn)
	}
	took := fmt.Sprintf(" (%.1fs)", time.Since(s.began).Seconds())
	fmt.Fprintf(s.out, "%s%s\n", cut("cove: "+s.head, s.cols-1-len(took)), took)
	s.head, s.drawn = "", 0
}

// end closes the log, and returns the last lines of the command that was the last.
func (s *setupShow) end(well bool) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flush()
	s.done()
	if well {
		s.keep("# done")
	}
	_ = s.log.Close()
	s.ended = true
	return s.last
}
