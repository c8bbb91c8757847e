package wire

import (
	"math"
	"reflect"
	"testing"
)

type named string

type inner struct {
	Name  named
	Bytes []byte
	Next  *inner
}

type outer struct {
	Yes     bool
	Small   int8
	Signed  int64
	Big     uint64
	Port    uint16
	Real    float64
	Text    string
	List    []inner
	Words   []named
	Empty   []string
	None    []string
	Pair    [2]uint32
	Map     map[string]int
	Pointer *outer
	Nothing *inner
	Unit    *struct{}
}

func sample() outer {
	return outer{
		Yes: true, Small: -128, Signed: math.MinInt64, Big: math.MaxUint64, Port: 65535, Real: -0.5, Text: "\xff\x00é",
		List: []inner{{Name: "a", Bytes: []byte{0, 255}}, {Next: &inner{Bytes: []byte{}}}}, Words: []named{"", "x"}, Empty: []string{},
		Pair: [2]uint32{1, math.MaxUint32}, Map: map[string]int{"": 0, "k": -1}, Pointer: &outer{Text: "below"}, Unit: &struct{}{},
	}
}

func TestRoundTrip(t *testing.T) {
	for _, want := range []outer{{}, sample()} {
		var got outer
		if err := Decode(Append(nil, &want), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}
}

func TestCutShort(t *testing.T) {
	b := Append(nil, sample())
	for n := range b {
		if err := Decode(b[:n], &outer{}); err == nil {
			t.Errorf("%d of %d bytes: no error", n, len(b))
		}
	}
	if err := Decode(append(b, 0), &outer{}); err == nil {
		t.Error("a byte too many: no error")
	}
}

func TestUnknownType(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a channel was put into bytes")
		}
	}()
	Append(nil, struct{ C chan int }{})
}

// Whatever the bytes: no panic, no memory out of proportion, and what was read comes back when it is written and read.
func FuzzDecode(f *testing.F) {
	f.Add(Append(nil, sample()))
	f.Add(Append(nil, outer{}))
	f.Add([]byte{1, 2, 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		var first, second outer
		if Decode(b, &first) != nil {
			return
		}
		if err := Decode(Append(nil, first), &second); err != nil {
			t.Fatal(err)
		}
		if withoutNaN(&first); !reflect.DeepEqual(first, *withoutNaN(&second)) {
			t.Errorf("%+v, then %+v", first, second)
		}
	})
}

// withoutNaN replaces what is not equal to itself.
func withoutNaN(o *outer) *outer {
	for at := o; at != nil; at = at.Pointer {
		if math.IsNaN(at.Real) {
			at.Real = 42
		}
	}
	return o
}

// The memory that a few bytes can ask for is a multiple of them.
func TestBudget(t *testing.T) {
	var v struct{ List []outer }
	if err := Decode([]byte{0xff, 0xff, 0xff, 0x7f}, &v); err == nil {
		t.Error("a list longer than its message")
	}
	var units struct{ List []struct{} }
	if err := Decode([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, &units); err == nil {
		t.Error("a list of nothings longer than its message")
	}
}
