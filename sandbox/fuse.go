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

// serveFuse starts fuse-overlayfs for /dev/fuse, which init has mounted: of the root, or of a view. It runs outside the
// sandbox's pid namespace, in a user namespace of its own with the same ids, where it can change
// owners as the sandbox's root can, and is out of reach of what runs inside.
func (b *box) serveFuse(fuse *os.File, of int) error {
	defer fuse.Close()
	// Once each, and where it was decided: whoever had taken over init could speak for the kernel on a
	// descriptor of their own, and have the server open what lies beside the layers.
	what, ok := b.fuseRoot(of)
	if !ok || b.fuseStarted[of] {
		return errors.New("init asked for fuse-overlayfs where none was to be had")
	}
	b.fuseStarted[of] = true
	if b.opts.FuseOverlayfs == "" {
		return fmt.Errorf("fuse-overlayfs is not installed")
	}
	program, err := b.findProgram("fuse-overlayfs") // once more: the look at the machine knows of no sandbox
	if err != nil {
		return fmt.Errorf("find fuse-overlayfs where the sandbox cannot write: %w", err)
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
	b.servers.Go(func() {
		_, _ = child.Wait()
		child.Conn.Close()
	})
	return child.Conn.Send(stage.FuseStart{Program: program, Root: what, View: of != 0, IDMap: b.spec.IDMap})
}

// fuseRoot is what a server is to serve; false where there is to be none.
func (b *box) fuseRoot(of int) (spec.Root, bool) {
	if of == 0 {
		return b.spec.Root, b.spec.Root.Kind == spec.RootFuse
	}
	if of < 0 || of > len(b.spec.Mounts) {
		return spec.Root{}, false
	}
	m := b.spec.Mounts[of-1]
	if m.Kind != spec.MountView || m.View.Kind != spec.RootFuse {
		return spec.Root{}, false
	}
	return spec.Root{Kind: spec.RootFuse, Layers: []spec.Path{m.Source}, RunDir: m.View.Dir}, true
}
