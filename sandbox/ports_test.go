package sandbox

import "testing"

func TestNearAddress(t *testing.T) {
	for text, want := range map[string]bool{
		"0100007F": true, "00000000": true, "3500007F": true, "6402000A": false,
		"00000000000000000000000000000000": true, "00000000000000000000000001000000": true, "0000000000000000FFFF00000100007F": true,
		"0000000000000000FFFF00006402000A": false, "000000FD000000000000000000010000": false, "000080FE00000000FF9D8D7D01020304": false,
		"": false, "zz": false, "01": false,
	} {
		if nearAddress(text) != want {
			t.Errorf("%s: %v", text, !want)
		}
	}
}
