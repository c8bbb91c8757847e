package network

import "testing"

func TestHasDefault6(t *testing.T) {
	zeros := "00000000000000000000000000000000"
	line := func(dst, bits, flags, dev string) string {
		return dst + " " + bits + " " + zeros + " 00 " + zeros + " 00000400 00000001 00000000 " + flags + " " + dev + "\n"
	}
	for name, c := range map[string]struct {
		table string
		want  bool
	}{
		"none":     {"", false},
		"a route":  {line(zeros, "00", "00000003", "eth0"), true},
		"refusing": {line(zeros, "00", "00200200", "eth0"), false},
		"kernel's": {line(zeros, "00", "00200200", "lo"), false},
		"narrower": {line(zeros, "80", "00000001", "eth0") + line("20010db8000100000000000000000000", "40", "00000001", "eth0"), false},
		"broken":   {"what is this\n" + line(zeros, "00", "zz", "eth0"), false},
	} {
		if got := hasDefault6(c.table); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
