package lines

import (
	"bytes"
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"
)

func text(n, kinds int, rnd *rand.Rand) []byte {
	var b bytes.Buffer
	for range n {
		fmt.Fprintf(&b, "line %d\n", rnd.Intn(kinds))
	}
	if n > 0 && rnd.Intn(3) == 0 {
		b.Truncate(b.Len() - 1)
	}
	return b.Bytes()
}

// longestCommon is the textbook's table.
func longestCommon(a, b [][]byte) int {
	t := make([][]int, len(a)+1)
	for i := range t {
		t[i] = make([]int, len(b)+1)
	}
	for i := range a {
		for j := range b {
			if bytes.Equal(a[i], b[j]) {
				t[i+1][j+1] = t[i][j] + 1
			} else {
				t[i+1][j+1] = max(t[i][j+1], t[i+1][j])
			}
		}
	}
	return t[len(a)][len(b)]
}

// All hunks make b of a, none leaves a, the difference is as short as can be, and splitting changes nothing of that.
func TestDiff(t *testing.T) {
	for seed := range int64(3000) {
		rnd := rand.New(rand.NewSource(seed))
		a, b := text(rnd.Intn(40), 1+rnd.Intn(12), rnd), text(rnd.Intn(40), 1+rnd.Intn(12), rnd)
		hunks := Diff(a, b)
		all := make([]bool, len(hunks))
		if got := Take(a, hunks, all); !bytes.Equal(got, a) {
			t.Fatalf("seed %d: none taken: %q, want %q", seed, got, a)
		}
		for i := range all {
			all[i] = true
		}
		if got := Take(a, hunks, all); !bytes.Equal(got, b) {
			t.Fatalf("seed %d: all taken: %q, want %q of %q", seed, got, b, a)
		}
		added, dropped := Count(hunks)
		la, lb := Split(a), Split(b)
		if common := longestCommon(la, lb); added != len(lb)-common || dropped != len(la)-common {
			t.Fatalf("seed %d: +%d -%d of %d and %d lines with %d in common", seed, added, dropped, len(la), len(lb), common)
		}
		var parts []Hunk
		for _, h := range hunks {
			checkHunk(t, h, la, lb)
			parts = append(parts, h.Split()...)
		}
		taken := make([]bool, len(parts))
		for i := range taken {
			taken[i] = true
		}
		if got := Take(a, parts, taken); !bytes.Equal(got, b) {
			t.Fatalf("seed %d: split: %q, want %q", seed, got, b)
		}
		// Some: what is taken of the rest leads to the same end.
		for i := range taken {
			taken[i] = rnd.Intn(2) == 0
		}
		some := Take(a, parts, taken)
		rest := Diff(some, b)
		every := make([]bool, len(rest))
		for i := range every {
			every[i] = true
		}
		if got := Take(some, rest, every); !bytes.Equal(got, b) {
			t.Fatalf("seed %d: the rest: %q, want %q", seed, got, b)
		}
	}
}

// checkHunk holds a hunk to what its head says.
func checkHunk(t *testing.T, h Hunk, la, lb [][]byte) {
	t.Helper()
	i, j := h.OldStart, h.NewStart
	for _, l := range h.Lines {
		if l.Op != Add {
			if !bytes.Equal(la[i], l.Text) {
				t.Fatalf("line %d is %q and not %q", i, la[i], l.Text)
			}
			i++
		}
		if l.Op != Drop {
			if !bytes.Equal(lb[j], l.Text) {
				t.Fatalf("new line %d is %q and not %q", j, lb[j], l.Text)
			}
			j++
		}
	}
	if i != h.OldStart+h.OldLines || j != h.NewStart+h.NewLines {
		t.Fatalf("a hunk of %d and %d lines has %d and %d", h.OldLines, h.NewLines, i-h.OldStart, j-h.NewStart)
	}
}

func TestSplit(t *testing.T) {
	a := []byte("1\n2\n3\n4\n5\n6\n7\n")
	b := []byte("1\nB\n3\n4\nE\n6\n7\n")
	hunks := Diff(a, b)
	if len(hunks) != 1 {
		t.Fatalf("%d hunks", len(hunks))
	}
	parts := hunks[0].Split()
	if len(parts) != 2 {
		t.Fatalf("%d parts", len(parts))
	}
	if got := string(Take(a, parts, []bool{false, true})); got != "1\n2\n3\n4\nE\n6\n7\n" {
		t.Errorf("the second alone: %q", got)
	}
	if got := string(Take(a, parts, []bool{true, false})); got != "1\nB\n3\n4\n5\n6\n7\n" {
		t.Errorf("the first alone: %q", got)
	}
}

// Texts that have nothing in common, and those made to be slow, end soon.
func TestBounded(t *testing.T) {
	var a, b strings.Builder
	for i := range 200_000 {
		fmt.Fprintf(&a, "%d\n", i%7)
		fmt.Fprintf(&b, "%d\n", (i*i+3)%11)
	}
	begin := time.Now()
	x, y := []byte(a.String()), []byte(b.String())
	hunks := Diff(x, y)
	every := make([]bool, len(hunks))
	for i := range every {
		every[i] = true
	}
	if !bytes.Equal(Take(x, hunks, every), y) {
		t.Error("wrong")
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}

// Whatever the texts are: all hunks make the one of the other, none leaves it, and splitting changes nothing of that.
func FuzzDiff(f *testing.F) {
	f.Add([]byte("a\nb\nc\n"), []byte("a\nx\nc"))
	f.Add([]byte(""), []byte("\n"))
	f.Add([]byte("a"), []byte("a\n"))
	f.Add([]byte("\xff\r\n\x00"), []byte("a\nb\na\nb\n"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		hunks := Diff(a, b)
		var parts []Hunk
		for _, h := range hunks {
			parts = append(parts, h.Split()...)
		}
		for _, list := range [][]Hunk{hunks, parts} {
			taken := make([]bool, len(list))
			if got := Take(a, list, taken); !bytes.Equal(got, a) {
				t.Fatalf("none: %q, want %q", got, a)
			}
			for i := range taken {
				taken[i] = true
			}
			if got := Take(a, list, taken); !bytes.Equal(got, b) {
				t.Fatalf("all: %q, want %q", got, b)
			}
		}
	})
}
