package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"

	"cove/sandbox/spec"
	"cove/sandbox/stage"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// serveFuse starts fuse-overlayfs for /dev/fuse, which init has mounted. It runs outside the
// sandbox's pid namespace, in a user namespace of its own with the same ids, where it can change
// owners as the sandbox's root can, and is out of reach of what runs inside.
func (b *box) serveFuse(fuse *os.File) error {
	defer fuse.Close()
	// Once, and where it was decided: whoever had taken over init could speak for the kernel on a
	// descriptor of their own, and have the server open what lies beside the layers.
	if b.spec.Root.Kind != spec.RootFuse || b.fuseStarted {
		return errors.New("init asked for fuse-overlayfs where none was to be had")
	}
	b.fuseStarted = true
	if b.opts.FuseOverlayfs == "" {
		return fmt.Errorf("fuse-overlayfs is not installed")
	}
	child, err := userns.Start(context.Background(), userns.Config{
		Stage: stage.FuseName, IDMap: b.spec.IDMap, Namespaces: unix.CLONE_NEWNS, Files: []*os.File{fuse},
	})
	if err != nil {
		return fmt.Errorf("start fuse-overlayfs: %w", err)
	}
	// Not on the list of undos, which is the other goroutine's: it ends when its mount does, with
	// the sandbox, and at the latest with this process.
	go func() {
		<-b.ended
		child.Kill()
	}()
	go func() {
		_, _ = child.Wait()
		child.Conn.Close()
	}()
	return child.Conn.Send(stage.FuseStart{Program: b.opts.FuseOverlayfs, Root: b.spec.Root, IDMap: b.spec.IDMap})
}
