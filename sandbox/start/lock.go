package start

import (
	"errors"
	"fmt"

	"cove/config"
	"cove/fetch/image"
	"cove/fetch/oci"
)

// Source is which of the images that a reference may name is wanted, and who may be asked for it.
type Source struct {
	Platform string // "" for this machine's
	Policy   image.Policy
	Offline  bool          // no registry is asked
	Locked   *image.Locked // what the project's lock has; nil when it has no say
}

// ImageSource is what the options say of an image's source.
func ImageSource(l Line) (Source, error) {
	s := Source{Platform: l.String("platform"), Offline: l.Bool("offline")}
	word, err := Choice(l, "pull", "missing", "always", "never", "newer")
	if err != nil {
		return s, err
	}
	s.Policy = map[string]image.Policy{"missing": image.Missing, "always": image.Always, "never": image.Never, "newer": image.Newer}[word]
	if !s.Offline || s.Policy == image.Missing || s.Policy == image.Never {
		return s, nil
	}
	if l.IsSet("pull") {
		return s, Usagef("--offline and --pull=%s exclude each other", word)
	}
	s.Policy = image.Missing
	return s, nil
}

// ErrNoProfile says that there is no profile, and so no lock.
var ErrNoProfile = errors.New("there is no profile here (cove.toml, in this folder or above)")

// UseLock holds the source to the lock beside the profile. An image that was typed is the user's own, whatever the
// project has locked; with --frozen nothing runs that is not locked.
func (s *Source) UseLock(l Line, p *config.Profile) error {
	frozen := l.Bool("frozen")
	if l.IsSet("image") {
		if frozen {
			return Usagef("--frozen and --image exclude each other: what is locked is the profile's image")
		}
		return nil
	}
	lock, err := p.ReadLock()
	if err != nil {
		return err
	}
	platform, err := oci.ParsePlatform(s.Platform)
	if err != nil {
		return Usagef("--platform: %v", err)
	}
	at, err := p.Locked(lock, platform.String())
	switch {
	case err != nil:
		return err
	case at != nil:
		if frozen {
			if err := p.LockedSetup(lock); err != nil {
				return err
			}
		}
		s.Locked = &image.Locked{Manifest: at.Manifest, Layers: at.Layers, Index: at.Index, By: p.ShownAs(lock.File)}
		return nil
	case !frozen:
		return nil
	case p.File == "":
		return fmt.Errorf("--frozen: %w, and so nothing is locked", ErrNoProfile)
	}
	if _, why := p.Lockable(); why != "" {
		return fmt.Errorf("--frozen: %s: no lock can hold it", why)
	}
	return &config.LockError{File: p.ShownAs(p.LockFile()), Text: "it is not there, and --frozen runs nothing that is not locked", Absent: true}
}
