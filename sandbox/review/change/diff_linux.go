package change

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"cove/sandbox/review/change/lines"

	"golang.org/x/sys/unix"
)

// maxText is how large a file may be of which the lines are compared.
const maxText = 16 << 20

// File is a change with its contents.
type File struct {
	*Change
	OldText, NewText []byte
	Binary           bool // one of them is no text
	Large            bool // too large to be compared
	Unreadable       string
	Hunks            []lines.Hunk
}

// Read reads the contents of a change and compares them.
func (s *Set) Read(c *Change) (*File, error) {
	f := &File{Change: c}
	out, from := s.outside[c.view], c.rel
	if c.old != nil {
		out, from = s.outside[c.old.view], c.old.rel
	}
	var err error
	switch {
	case c.Old.IsFile():
		var o *os.File
		if o, err = out.open(from); err == nil {
			f.OldText, err = f.read(o)
		}
	case c.Old.IsLink():
		f.OldText = []byte(c.Old.Target)
	}
	if err != nil {
		f.Unreadable = reason(err)
		return f, nil
	}
	switch {
	case c.New.IsFile():
		var n *os.File
		if _, n, err = s.tree.Open(c.view, c.rel); err == nil && n != nil {
			f.NewText, err = f.read(n)
		}
	case c.New.IsLink():
		f.NewText = []byte(c.New.Target)
	}
	if err != nil {
		f.Unreadable = reason(err)
		return f, nil
	}
	if f.Large || f.Binary {
		f.OldText, f.NewText = nil, nil
		return f, nil
	}
	if c.Kind != Type { // two differences: one away, one there
		f.Hunks = lines.Diff(f.OldText, f.NewText)
	}
	return f, nil
}

func reason(err error) string {
	for _, e := range []unix.Errno{unix.EACCES, unix.ENOENT, unix.ESTALE} {
		if strings.Contains(err.Error(), e.Error()) {
			return e.Error()
		}
	}
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err // its path may be called anything
	}
	return Harmless(err.Error())
}

// read reads a text, unless it is none.
func (f *File) read(from *os.File) ([]byte, error) {
	defer from.Close()
	st, err := from.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() > maxText {
		f.Large = true
		// Whether it is a text is seen at its beginning.
		head := make([]byte, 8000)
		n, err := from.ReadAt(head, 0)
		if err == nil || err == io.EOF {
			f.Binary = f.Binary || isBinary(head[:n])
		}
		return nil, nil
	}
	text, err := io.ReadAll(io.LimitReader(from, maxText+1))
	if len(text) > maxText {
		f.Large = true
	}
	f.Binary = f.Binary || isBinary(text)
	return text, err
}

// isBinary goes by what git goes by.
func isBinary(text []byte) bool { return bytes.IndexByte(text[:min(len(text), 8000)], 0) >= 0 }

// Look says how a difference is written.
type Look struct {
	Colour bool // for a terminal
	Safe   bool // nothing that a terminal acts on gets through
	Size   func(int64) string
}

// Write writes a change as git writes it, so that `git apply` takes what is text.
func (l Look) Write(w io.Writer, f *File) error {
	var b bytes.Buffer
	if f.Kind == Type {
		l.one(&b, f, f.Old, nil, f.OldText, nil)
		l.one(&b, f, nil, f.New, nil, f.NewText)
	} else {
		l.one(&b, f, f.Old, f.New, f.OldText, f.NewText)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (l Look) one(b *bytes.Buffer, f *File, old, now *Meta, oldText, newText []byte) {
	oldName, newName := f.name(), f.name()
	if f.Kind == Renamed {
		oldName = string(f.From)
	}
	if old.IsDir() || now.IsDir() || special(old) || special(now) {
		l.notText(b, f, old, now)
		return
	}
	l.bold(b, "diff --git "+GitName("a/"+oldName)+" "+GitName("b/"+newName))
	switch {
	case old == nil:
		l.bold(b, "new file mode "+gitMode(now.Mode))
	case now == nil:
		l.bold(b, "deleted file mode "+gitMode(old.Mode))
	case old.Mode != now.Mode:
		l.bold(b, "old mode "+gitMode(old.Mode))
		l.bold(b, "new mode "+gitMode(now.Mode))
	}
	if f.Kind == Renamed {
		l.bold(b, "similarity index 100%")
		l.bold(b, "rename from "+GitName(oldName))
		l.bold(b, "rename to "+GitName(newName))
		return
	}
	if f.Kind == Xattr {
		l.plain(b, "Extended attributes differ")
		return
	}
	a, z := GitName("a/"+oldName), GitName("b/"+newName)
	if old == nil {
		a = "/dev/null"
	}
	if now == nil {
		z = "/dev/null"
	}
	switch {
	case f.Unreadable != "":
		l.plain(b, "File "+GitName(f.name())+" cannot be read: "+f.Unreadable)
		return
	case f.Kind == Mode:
		return
	case f.Binary || f.Large:
		what := "Binary files "
		if !f.Binary {
			what = "Large files "
		}
		l.plain(b, what+a+l.sized(old)+" and "+z+l.sized(now)+" differ")
		return
	}
	hunks := f.Hunks
	if f.Kind == Type {
		hunks = lines.Diff(oldText, newText)
	}
	if len(hunks) == 0 {
		return
	}
	l.bold(b, "--- "+tabbed(a))
	l.bold(b, "+++ "+tabbed(z))
	for _, h := range hunks {
		l.Hunk(b, h)
	}
}

// tabbed ends a name with blanks in it as git does, so that patch(1) finds its end.
func tabbed(name string) string {
	if strings.Contains(name, " ") && !strings.HasPrefix(name, `"`) {
		return name + "\t"
	}
	return name
}

func special(m *Meta) bool { return m != nil && !m.IsDir() && !m.IsFile() && !m.IsLink() }

func (l Look) sized(m *Meta) string {
	if m == nil || l.Size == nil {
		return ""
	}
	return " (" + l.Size(m.Size) + ")"
}

// notText tells of folders and the like in a line that patch(1) and git pass over.
func (l Look) notText(b *bytes.Buffer, f *File, old, now *Meta) {
	name := GitName(f.Shown())
	if old.IsDir() || now.IsDir() {
		name = GitName(f.Shown() + "/")
	}
	switch {
	case old == nil:
		l.bold(b, fmt.Sprintf("New %s %s mode %04o", now.What(), name, now.Mode&0o7777))
	case now == nil:
		l.bold(b, "Deleted "+old.What()+" "+name)
	case f.Kind == Xattr:
		l.bold(b, "Extended attributes of "+now.What()+" "+name+" differ")
	default:
		l.bold(b, fmt.Sprintf("Mode of %s %s %04o -> %04o", now.What(), name, old.Mode&0o7777, now.Mode&0o7777))
	}
}

// Hunk writes one hunk.
func (l Look) Hunk(b *bytes.Buffer, h lines.Hunk) {
	l.colour(b, "36", fmt.Sprintf("@@ -%s +%s @@", span(h.OldStart, h.OldLines), span(h.NewStart, h.NewLines)))
	for _, line := range h.Lines {
		text, whole := bytes.CutSuffix(line.Text, []byte("\n"))
		shown := string(line.Op) + l.text(text)
		switch line.Op {
		case lines.Add:
			l.colour(b, "32", shown)
		case lines.Drop:
			l.colour(b, "31", shown)
		default:
			l.plain(b, shown)
		}
		if !whole {
			l.plain(b, `\ No newline at end of file`)
		}
	}
}

// span is where a hunk lies, as diff -u counts: from 1, and before an empty place.
func span(start, n int) string {
	if n > 0 {
		start++
	}
	if n == 1 {
		return strconv.Itoa(start)
	}
	return fmt.Sprintf("%d,%d", start, n)
}

// text makes a line harmless where it goes to a terminal.
func (l Look) text(line []byte) string {
	if !l.Safe {
		return string(line)
	}
	return Harmless(string(line))
}

// Harmless is text of which a terminal, and the eye, takes nothing for anything else: controls, changes of direction and
// bytes that are no UTF-8 are written out.
func Harmless(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && n <= 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case r == '\t' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r == '\r' && i == len(text)-1:
			b.WriteString("^M") // a line of another system
		default:
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		}
		i += max(n, 1)
	}
	return b.String()
}

func (l Look) plain(b *bytes.Buffer, line string) {
	b.WriteString(line)
	b.WriteByte('\n')
}

func (l Look) bold(b *bytes.Buffer, line string) { l.colour(b, "1", line) }

func (l Look) colour(b *bytes.Buffer, code, line string) {
	if l.Colour {
		line = "\x1b[" + code + "m" + line + "\x1b[m"
	}
	l.plain(b, line)
}

// GitName is a name as git writes it in a difference: in quotes where it holds anything that is not plain ASCII.
func GitName(name string) string {
	plain := true
	for i := range len(name) {
		if c := name[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			plain = false
			break
		}
	}
	if plain {
		return name
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(name) {
		switch c := name[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < ' ' || c >= 0x7f:
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// gitMode is a mode as git writes it, with all of its bits; of a link there are none.
func gitMode(mode uint32) string {
	if mode&unix.S_IFMT == unix.S_IFLNK {
		mode = unix.S_IFLNK
	}
	return fmt.Sprintf("%06o", mode)
}
