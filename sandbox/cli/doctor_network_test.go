package cli

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPingCheck(t *testing.T) {
	if k := pingCheck(1000, nil); !k.OK || k.Vital || k.Fix != "" {
		t.Errorf("%+v", k)
	}
	if k := pingCheck(1000, unix.EACCES); k.OK || k.Vital || !strings.Contains(k.Found, "group 1000 is not in net.ipv4.ping_group_range") ||
		!strings.Contains(k.Fix, "net.ipv4.ping_group_range = 0 2147483647") {
		t.Errorf("%+v", k)
	}
	if k := pingCheck(1000, unix.EPERM); k.OK || k.Fix != "" || strings.Contains(k.Found, "range") {
		t.Errorf("a filter's refusal: %+v", k)
	}
}
