package userns

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// BecomeRoot takes on id 0 inside, or the one id there is, and no groups, in every thread of a stage.
func BecomeRoot(m IDMap) error {
	// setgroups(2) is of the calling thread; package syscall's is of all, and package unix's is not.
	if err := syscall.Setgroups(nil); err != nil && !m.Single() {
		return fmt.Errorf("setgroups: %w", err)
	}
	rootUID, rootGID := m.Root()
	uid, gid := int(rootUID), int(rootGID)
	if err := unix.Setresgid(gid, gid, gid); err != nil {
		return fmt.Errorf("setresgid %d: %w", gid, err)
	}
	// Going from another uid to 0 keeps the capabilities; going from 0 to another would clear them, but where 0 is not mapped
	// the stage has the one id there is already.
	if unix.Getuid() != uid || unix.Geteuid() != uid {
		if err := unix.Setresuid(uid, uid, uid); err != nil {
			return fmt.Errorf("setresuid %d: %w", uid, err)
		}
	}
	return nil
}
