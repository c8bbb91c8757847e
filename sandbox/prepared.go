package sandbox

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"

	"cove/fetch/store"
	"cove/sandbox/spec"
	"cove/sandbox/trace"

	"golang.org/x/sys/unix"
)

// usePrepared takes what an earlier start of this kind has put above the image, or has init keep it for those to come. Where
// neither can be done init does what there is to do, as it would have the first time.
func (b *box) usePrepared(ctx context.Context) {
	name := b.preparedName()
	if name == "" {
		return
	}
	root, s := &b.spec.Root, b.opts.Store
	if b.prepared = s.UsePrepared(name); b.prepared != nil {
		root.Prepared = spec.Path(b.prepared.Layer())
		trace.Step("found a prepared layer")
		return
	}
	p, err := s.BeginPrepared(ctx, b.run, name)
	if err == nil {
		err = b.giveToSandbox(p.Layer())
	}
	if err != nil {
		b.log("prepared nothing for the next start", "error", err)
		return
	}
	root.Prepare = spec.Path(p.Layer())
	b.control.awaitPrepared(func(placed []spec.Placed) {
		err := writePlaced(p.Dir, placed)
		if err == nil {
			err = s.Publish(p, name)
		}
		b.log("prepared a layer for the next start", "name", name, "error", err)
	})
}

// leavePrepared lets go of it, when init is gone and before the run's directory is. Where init could not set the sandbox up with it
// the next is set up without.
func (b *box) leavePrepared() error {
	if b.control != nil {
		b.control.awaitPrepared(nil)
	}
	p := b.prepared
	if p == nil {
		return nil
	}
	var err error
	if b.failed {
		err = b.opts.Store.Forget(p)
	}
	return errors.Join(err, p.Close())
}

// mostLayers is how many overlayfs stacks (OVL_MAX_STACK).
const mostLayers = 500

// layerStamps tells layers from others of the same names: one that was found damaged is replaced, and in time by one of the first one's number.
// Each is looked at by its name in the folder that it is in: there may be more than a hundred.
func layerStamps(layers []spec.Path) []byte {
	stamps := make([]byte, 0, 16*len(layers))
	folder, fd := "", -1
	defer func() { _ = unix.Close(fd) }()
	for _, l := range layers {
		dir, name := path.Split(string(l))
		if dir != folder {
			_ = unix.Close(fd)
			folder = dir
			var err error
			if fd, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
				fd = -1
			}
		}
		var st unix.Stat_t
		_ = unix.Fstatat(fd, name, &st, 0)
		stamps = binary.NativeEndian.AppendUint64(stamps, st.Ino)
		stamps = binary.NativeEndian.AppendUint64(stamps, uint64(st.Ctim.Nano()))
	}
	return stamps
}

// preparedName is made of all that says what Build puts into the root file system itself; "" where nothing is to be prepared:
// where it is no native overlay of an image of the store's, or where what is in the upper directory becomes an image.
func (b *box) preparedName() string {
	s, o := b.spec, b.opts
	root := s.Root
	if root.Kind != spec.RootOverlay || o.Image == nil || o.Persist != nil || o.setup || o.Host == nil || o.Host.Boot == "" || s.Integrations != nil {
		return ""
	}
	if len(root.Layers) >= mostLayers {
		return "" // it would be one too many
	}
	h := sha256.New()
	say := func(words ...any) {
		for _, w := range words {
			text := fmt.Sprint(w)
			fmt.Fprintf(h, "%d:", len(text))
			_, _ = io.WriteString(h, text)
		}
	}
	say(o.Host.Key, root.Digest, o.Image.Key, s.IDMap, s.Network.Mode == "host")
	_, _ = h.Write(layerStamps(root.Layers))
	for _, f := range s.Files {
		say("file", f.Kind, f.Target)
		if f.Kind != spec.FileBound { // else its content is this run's
			say(f.Content)
		}
	}
	for _, m := range s.Mounts {
		// What is missing is made for a folder or for a file.
		var st unix.Stat_t
		if m.Kind == spec.MountBind || m.Kind == spec.MountView {
			_ = unix.Stat(string(m.Source), &st)
		}
		say("mount", m.Kind, m.Target, m.Below, st.Mode&unix.S_IFMT)
	}
	return store.PreparedName(o.Host.Boot, hex.EncodeToString(h.Sum(nil)[:16]))
}
