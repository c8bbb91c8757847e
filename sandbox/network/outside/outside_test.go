package outside

import "testing"

func TestNameServers(t *testing.T) {
	for conf, want := range map[string][2]bool{
		"":                           {false, false},
		"nameserver 127.0.0.53\n":    {true, false},
		"nameserver fe80::1%eth0\n":  {false, true},
		"# nameserver ::1\nsearch x": {false, false},
		"nameserver ::1\nnameserver\t10.0.0.1 # mine": {true, true},
		"nameserver here": {false, false},
	} {
		if v4, v6 := nameServers(conf); v4 != want[0] || v6 != want[1] {
			t.Errorf("%q: %v, %v", conf, v4, v6)
		}
	}
}
