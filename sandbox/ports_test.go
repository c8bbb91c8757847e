package sandbox

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"cove/sandbox/spec"
)

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

// Whoever listens on every port there is does not get every port of the host's, nor its terminal; what closes makes room.
func TestAutoBounded(t *testing.T) {
	var told []string
	there := map[uint16]bool{}
	a := &autoPorts{mine: map[uint16]spec.Port{}, asked: map[uint16]bool{},
		publish: func(port uint16) (spec.Port, error) {
			if port == 7 {
				return spec.Port{}, errors.New("taken")
			}
			there[port] = true
			return spec.Port{HostIP: "127.0.0.1", HostPort: port, ContainerPort: port, Proto: "tcp"}, nil
		},
		remove: func(at spec.Port) { delete(there, at.HostPort) },
		known:  func(port uint16) bool { return port == 9 },
		tell:   func(format string, args ...any) { told = append(told, fmt.Sprintf(format, args...)) }}
	var all []uint16
	for port := range uint16(2 * maxAuto) {
		all = append(all, port+1)
	}
	for range 3 {
		a.look(all)
	}
	if len(there) != maxAuto || there[9] || len(told) != maxAuto+2 || !strings.Contains(told[maxAuto+1], "is not published") {
		t.Errorf("%d are published; told %d times: %q", len(there), len(told), told[len(told)-1])
	}
	a.look(all[100:])
	if len(there) != maxAuto || there[1] || !there[300] {
		t.Errorf("%d are published when others have closed", len(there))
	}
	a.look(nil)
	if len(there) != 0 {
		t.Errorf("%d are left", len(there))
	}
}
