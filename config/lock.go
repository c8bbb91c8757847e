package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cove/fetch/oci"
)

// LockName is what the lock of FileName is called. That of a profile with another name is called as the profile, with
// ".lock" behind it: two profiles in one folder do not share one.
const LockName = "cove.lock"

// lockVersion is the format that this cove writes, and the only one that it reads.
const lockVersion = 1

const (
	maxLockedPlatforms = 64
	maxLockedLayers    = 500 // as many as overlayfs stacks
)

// Lock is what a project's image was when somebody looked: it lies beside the profile and is kept with it. It narrows
// what the profile's own word may mean and grants nothing, and so asks for no trust of its own.
type Lock struct {
	File  string // absolute
	Image LockedImage
	Setup []string // its commands, not what came of them

	data []byte // as it was read
}

// LockedImage is the image of a lock.
type LockedImage struct {
	Ref       string           // as the profile has it
	Platforms []LockedPlatform // by name
}

// LockedPlatform is an image for one platform.
type LockedPlatform struct {
	Name     string       // as oci.Platform has it
	Index    oci.Digest   // what the reference named, where that was an index: other platforms come from the same one
	Manifest oci.Digest   //
	Layers   []oci.Digest // diffIDs, lowest first
}

// A LockError says that a profile and its lock do not agree.
type LockError struct {
	File     string // as the user would call it
	Text     string
	Absent   bool   // there is no lock
	Platform string // the one that is not in it, "" when that is not what is wrong
}

func (e *LockError) Error() string { return showName(e.File) + ": " + e.Text }

// LockMistakes says that a file is no lock that can be believed, and where.
type LockMistakes struct{ *ProfileError }

// Unwrap makes it a ProfileError for whoever tells mistakes with their places.
func (e *LockMistakes) Unwrap() error { return e.ProfileError }

// LockFile is where the lock of the profile is, or would be; "" without a profile.
func (p *Profile) LockFile() string {
	if p.File == "" {
		return ""
	}
	dir, name := filepath.Split(p.File)
	return dir + lockNameOf(name)
}

func lockNameOf(profile string) string {
	if profile == FileName {
		return LockName
	}
	return profile + ".lock"
}

// ReadLock reads the profile's lock; nil when there is none. One that cannot be believed is an error, for going on
// without it would be to run what it forbids.
func (p *Profile) ReadLock() (*Lock, error) {
	file := p.LockFile()
	if file == "" {
		return nil, nil
	}
	data, err := readOwned(file, false, p.owners...)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(data) == 0 && isPlaceholder(file) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read lock %s: %w", showName(p.shownAs(file)), bare(err))
	}
	l, mistakes := parseLock(data)
	if len(mistakes) > 0 {
		for i := range mistakes {
			mistakes[i].File = p.shownAs(file)
		}
		return nil, &LockMistakes{&ProfileError{File: p.File, Mistakes: sortMistakes(mistakes)}}
	}
	l.File, l.data = file, data
	return l, nil
}

// Lockable is the image as the project's profile has it, which is what a lock is about, or why there is nothing to lock.
func (p *Profile) Lockable() (ref, why string) {
	switch o := p.OriginOf("image"); {
	case p.File == "":
		return "", "there is no profile here (" + FileName + ", in this folder or above)"
	case o.Kind != FromProfile:
		return "", fmt.Sprintf("the profile names no image (%q is from: %s)", p.Image, p.briefly(o))
	case p.Image == "host":
		return "", `the image "host" is this machine's own root file system`
	case strings.HasPrefix(p.Image, "dir:"):
		return "", fmt.Sprintf("the image %q is a folder, whose files may change at any time", p.Image)
	}
	return p.imageText, ""
}

// Locked is what a lock, which may be nil, makes of the profile's image on a platform; nil when nothing pins it. With a
// lock there the image is as locked or not at all: were one that no longer fits passed over, a change of the profile
// alone would undo it.
func (p *Profile) Locked(l *Lock, platform string) (*LockedPlatform, error) {
	if l == nil {
		return nil, nil
	}
	e := &LockError{File: p.shownAs(l.File)}
	switch ref, why := p.Lockable(); {
	case why != "":
		e.Text = fmt.Sprintf("it pins the image %q, and %s", l.Image.Ref, why)
		return nil, e
	case ref != l.Image.Ref:
		e.Text = fmt.Sprintf("it pins the image %q, and the profile names %q", l.Image.Ref, ref)
		return nil, e
	}
	if at := l.Image.Platform(platform); at != nil {
		return at, nil
	}
	names := make([]string, len(l.Image.Platforms))
	for i, at := range l.Image.Platforms {
		names[i] = at.Name
	}
	e.Text, e.Platform = fmt.Sprintf("it pins no image for %s (%s)", platform, strings.Join(names, ", ")), platform
	return nil, e
}

// Platform is the entry for a platform, nil when there is none.
func (i *LockedImage) Platform(name string) *LockedPlatform {
	at := slices.IndexFunc(i.Platforms, func(p LockedPlatform) bool { return p.Name == name })
	if at < 0 {
		return nil
	}
	return &i.Platforms[at]
}

// Put adds an entry, or replaces the one for its platform.
func (i *LockedImage) Put(one LockedPlatform) {
	if at := i.Platform(one.Name); at != nil {
		*at = one
		return
	}
	i.Platforms = append(i.Platforms, one)
	slices.SortFunc(i.Platforms, func(a, b LockedPlatform) int { return strings.Compare(a.Name, b.Name) })
}

// Text is the lock as a file: the same bytes for the same lock, a layer a line, so that what moved is what a diff shows.
func (l *Lock) Text() []byte {
	var b strings.Builder
	b.WriteString("# What the image of the profile is, written by `cove lock`, moved by `cove update`. Keep it with the profile.\n")
	fmt.Fprintf(&b, "version = %d\n\n[image]\nref = %s\n", lockVersion, tomlString(l.Image.Ref))
	for _, p := range l.Image.Platforms {
		fmt.Fprintf(&b, "\n[[image.platform]]\nname = %s\n", tomlString(p.Name))
		if p.Index != "" {
			fmt.Fprintf(&b, "index = %s\n", tomlString(string(p.Index)))
		}
		fmt.Fprintf(&b, "manifest = %s\n", tomlString(string(p.Manifest)))
		if len(p.Layers) == 0 {
			b.WriteString("layers = []\n")
			continue
		}
		b.WriteString("layers = [\n")
		for _, d := range p.Layers {
			fmt.Fprintf(&b, "    %s,\n", tomlString(string(d)))
		}
		b.WriteString("]\n")
	}
	l.writeSetup(&b)
	return []byte(b.String())
}

// WriteLock puts the lock in place, whole or not at all. Old is the one that was read before, nil for none: what
// somebody else wrote since is not written over.
func (p *Profile) WriteLock(l, old *Lock) (err error) {
	file := p.LockFile()
	defer func() {
		if err != nil {
			err = fmt.Errorf("write lock %s: %w", showName(p.shownAs(file)), bare(err))
		}
	}()
	text := l.Text()
	if _, mistakes := parseLock(text); len(mistakes) > 0 {
		return errors.New(mistakes[0].Text) // what could not be read again is not written
	}
	f, err := createBeside(file)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := p.unchanged(old); err != nil {
		return err
	}
	// Never through a link: rename(2) replaces the name itself.
	if err := os.Rename(f.Name(), file); err != nil {
		return err
	}
	return syncDir(filepath.Dir(file))
}

// RemoveLock takes away the lock that was read.
func (p *Profile) RemoveLock(old *Lock) error {
	err := p.unchanged(old)
	if err == nil {
		err = os.Remove(old.File)
	}
	if err != nil {
		return fmt.Errorf("remove lock %s: %w", showName(p.shownAs(old.File)), bare(err))
	}
	return nil
}

func (p *Profile) unchanged(old *Lock) error {
	now, err := p.ReadLock()
	if err != nil {
		return err
	}
	if (now == nil) != (old == nil) || now != nil && string(now.data) != string(old.data) {
		return errors.New("it has changed meanwhile; nothing was written")
	}
	return nil
}
