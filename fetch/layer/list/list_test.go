package list

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func write(t testing.TB, label string, i Info, entries ...Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b, label)
	for _, e := range entries {
		if err := w.Entry(&e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(i); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func file(t testing.TB, data []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "l")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

var all = []Entry{
	{Kind: Dir, Mode: 0o755},
	{Kind: Dir, Name: "d\xff\n\x00", Mode: 0o1777, UID: 4294967294, GID: 1, Xattrs: []Xattr{{"user.overlay.opaque", 7}, {"user.x", 0}}},
	{Kind: File, Name: "f", Mode: 0o4755, UID: 1, GID: 2, Sec: -5, Nsec: 999999999, Size: 1 << 40, Sum: 0xfedcba98, Group: 1, Xattrs: []Xattr{{"user.y", 1}}},
	{Kind: Hardlink, Name: "g", Group: 1},
	{Kind: Symlink, Name: "l", Mode: 0o777, Sec: 1 << 40, Target: "../x\n"},
	{Kind: Fifo, Name: "p", Mode: 0o600},
	{Kind: Whiteout, Name: "w"},
	{Kind: End},
	{Kind: End},
}

func TestRoundTrip(t *testing.T) {
	want := Info{Label: "sha256:x", Entries: 7, Bytes: 1 << 40, Disk: 4096}
	f := file(t, write(t, want.Label, want, all...))
	if got, err := Stat(f.Name()); err != nil || got != want {
		t.Errorf("%+v %v", got, err)
	}
	r, err := NewReader(f, want.Label)
	if err != nil || r.Info != want {
		t.Fatalf("%+v %v", r, err)
	}
	var e Entry
	for _, want := range all {
		if err := r.Next(&e); err != nil {
			t.Fatal(err)
		}
		if len(e.Xattrs) == 0 {
			e.Xattrs = nil
		}
		if !reflect.DeepEqual(e, want) {
			t.Errorf("%+v, want %+v", e, want)
		}
	}
	if err := r.Next(&e); !errors.Is(err, ErrDamaged) {
		t.Errorf("after the end: %v", err)
	}
}

func TestNoListing(t *testing.T) {
	for _, data := range []string{"", "cove", "cove layer listing 2\n", magic + version, magic + version + "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"} {
		f := file(t, []byte(data))
		if _, err := Stat(f.Name()); !errors.Is(err, ErrDamaged) {
			t.Errorf("%q: %v", data, err)
		}
		if _, err := NewReader(f, ""); !errors.Is(err, ErrDamaged) {
			t.Errorf("%q: %v", data, err)
		}
	}
}

// FuzzReader's law: whatever stands in a listing whose sum is right, reading it ends, in little memory.
func FuzzReader(f *testing.F) {
	whole := write(f, "l", Info{}, all...)
	f.Add(whole[len(magic+version)+2 : len(whole)-trailer])
	f.Fuzz(func(t *testing.T, body []byte) {
		data := append([]byte(magic+version+"\x01l"), body...)
		data = append(data, make([]byte, 24)...)
		sum := sha256.Sum256(data)
		r, err := NewReader(file(t, append(data, sum[:]...)), "l")
		if err != nil {
			t.Fatal(err)
		}
		var e Entry
		for n := 0; r.Next(&e) == nil; n++ {
			if n > len(body) {
				t.Fatal("more entries than bytes")
			}
		}
	})
}
