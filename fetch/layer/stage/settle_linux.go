package stage

import (
	"errors"

	"golang.org/x/sys/unix"
)

// settle comes after the last entry, when it is known what the layer holds and hides. It brings
// the markers into a form that overlayfs takes:
//
//   - What was copied from below for a hard link, and then hidden, goes: only the link stays.
//   - The root of a layer cannot be opaque: overlayfs merges the roots whatever their attributes
//     say. So each name that lies below is hidden by itself.
//   - A directory that is here only because a whiteout or such a file had to be put in it, because an opaque marker names
//     it, or because an entry went through a link in it, and is empty now, goes as well, unless it lies below and is to
//     be empty.
//   - A whiteout in a directory that is not merged with one below hides nothing, and overlayfs
//     lists its name (ovl_iterate reads such a directory as it is), though nothing is there.
func (u *unpacker) settle() error {
	err := u.marks.take(markCopied, func(path string) error {
		if !u.hidden(path) {
			return nil
		}
		if err := unix.Unlink(path); err != nil {
			return entryError(path, err)
		}
		u.forget(path)
		return nil
	})
	if err == nil {
		err = u.marks.take(markWhiteout, func(path string) error { return entryError(path, u.checkWhiteout(path)) })
	}
	if err == nil {
		// The deepest first: a directory was borrowed before those in it.
		err = u.marks.take(markBorrowed, func(path string) error { return entryError(path, u.giveBack(path)) })
	}
	if err != nil || !u.marks.has("", markOpaque) {
		return err
	}
	if err := u.hideAll(); err != nil {
		return entryError(whiteoutOpaque, err)
	}
	return nil
}

// giveBack removes a borrowed directory when nothing is in it any more.
func (u *unpacker) giveBack(path string) error {
	if u.marks.has(path, markEmptied) && !u.hidden(path) {
		f, err := u.lower.find(path)
		if err != nil || f != nil {
			return err // it lies below, and is empty from here on
		}
	}
	err := unix.Rmdir(path)
	if err == unix.ENOTEMPTY {
		return nil // and it is as below
	}
	if err != nil {
		return err
	}
	gone := u.marks.has(path, markOpaque) // by a whiteout of it
	above := u.hidden(path)
	u.forget(path)
	if !gone || above {
		return nil
	}
	f, err := u.lower.find(path)
	if err != nil || f == nil {
		return err
	}
	return unix.Mknod(path, unix.S_IFCHR, 0)
}

// hideAll hides every name in the root of what lies below.
func (u *unpacker) hideAll() error {
	low, err := u.look()
	if err != nil || low == nil {
		return err
	}
	for _, fd := range low.fds {
		dir, err := openRetry(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = eachName(dir, func(name string) error { return u.hideName(low, name) })
		if err = errors.Join(err, unix.Close(dir)); err != nil {
			return err
		}
	}
	return nil
}

// hideName hides a name in the root.
func (u *unpacker) hideName(low *lower, name string) error {
	var st unix.Stat_t
	err := unix.Lstat(name, &st)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return u.makeOpaque(name)
	}
	if err != unix.ENOENT {
		return err
	}
	// A whiteout below is no name.
	f, err := low.find(name)
	if err != nil || f == nil {
		return err
	}
	return unix.Mknod(name, unix.S_IFCHR, 0)
}

// checkWhiteout removes a whiteout that hides nothing.
func (u *unpacker) checkWhiteout(path string) error {
	if u.marks.has("", markOpaque) && parentOf(path) == "" {
		return nil
	}
	if !u.hidden(path) {
		low, err := u.look()
		if err != nil {
			return err
		}
		if low != nil {
			live, err := low.live(parentOf(path))
			if err != nil || len(live) > 0 {
				return err
			}
		}
	}
	if err := unix.Unlink(path); err != nil {
		return err
	}
	u.forget(path)
	return nil
}
