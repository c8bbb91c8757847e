// Package usernstest has the mapping of ids that tests unpack and mount with.
package usernstest

import (
	"os"
	"os/user"
	"testing"

	"cove/userns"
)

// FirstID is the first of the subordinate ids that root's tests use; they are nobody's.
const FirstID = 1879048192

// IDMap is the mapping that cove would use for whoever runs the test, with that user being id as inside. For root, of whom no
// id is mapped, as counts for nothing. Without subordinate ids the test is skipped, or fails where COVE_TEST_REQUIRE is set.
func IDMap(t testing.TB, as uint32) userns.IDMap {
	t.Helper()
	if os.Getuid() == 0 {
		r := []userns.SubRange{{Start: FirstID, Count: 65536}}
		m, err := userns.AllocateRoot(userns.SubIDs{UIDs: r, GIDs: r})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	sub, err := userns.ReadSubIDs(me.Username, uint32(os.Getuid()))
	if err != nil {
		t.Fatal(err)
	}
	m, err := userns.Allocate(sub, uint32(os.Getuid()), uint32(os.Getgid()), as, as)
	if err != nil {
		if os.Getenv("COVE_TEST_REQUIRE") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return m
}
