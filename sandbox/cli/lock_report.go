package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"cove/config"
	"cove/fetch"
	"cove/fetch/image"
	"cove/fetch/oci"
)

// lockReport is what `cove lock` and `cove update` did, or would do.
type lockReport struct {
	File    string       `json:"file"`
	Ref     string       `json:"ref"`
	Written bool         `json:"written"`
	Setup   string       `json:"setup,omitempty"` // what became of its text: new, changed, same, gone
	Changes []lockChange `json:"platforms"`
}

// lockChange is what became of one platform.
type lockChange struct {
	Platform string      `json:"platform"`
	Change   string      `json:"change"` // new, moved, same
	Old      *lockSide   `json:"old,omitempty"`
	New      *lockSide   `json:"new"`
	Kept     int         `json:"layersKept"`
	Added    []lockLayer `json:"layersAdded"`
	Removed  []lockLayer `json:"layersRemoved"`
}

// lockSide is an image before or after. What is not in a lock may be unknown of one that is gone.
type lockSide struct {
	Manifest oci.Digest `json:"manifest"`
	Index    oci.Digest `json:"index,omitempty"`
	Layers   int        `json:"layers"`
	Created  *time.Time `json:"created,omitempty"`
	Size     int64      `json:"size,omitempty"` // as sent
}

type lockLayer struct {
	DiffID oci.Digest `json:"diffID"`
	Size   int64      `json:"size,omitempty"` // as sent
}

// lockChanges compares the lock that is to be with the one that is.
func (a *app) lockChanges(p *pinning, lock *config.Lock, found []fetch.Resolution) []lockChange {
	changes := []lockChange{}
	for _, at := range lock.Image.Platforms {
		var now *fetch.Resolution
		if i := slices.IndexFunc(found, func(f fetch.Resolution) bool { return f.Platform == at.Name }); i >= 0 {
			now = &found[i]
		}
		c := lockChange{Platform: at.Name, Change: "new", New: sideOf(at, now), Added: []lockLayer{}, Removed: []lockLayer{}}
		if p.old != nil {
			if was := p.old.Image.Platform(at.Name); was != nil && was.Manifest == at.Manifest {
				c.Change, c.Old, c.Kept = "same", sideOf(*was, now), len(at.Layers)
			} else if was != nil {
				before := a.lookBack(p, *was)
				c.Change, c.Old = "moved", sideOf(*was, before)
				c.Kept, c.Added, c.Removed = layerChanges(*was, at, before, now)
			}
		}
		changes = append(changes, c)
	}
	return changes
}

// setupChange says what became of the text of setup, "" where there is and was none.
func setupChange(old, lock *config.Lock) string {
	var was []string
	if old != nil {
		was = old.Setup
	}
	switch {
	case slices.Equal(was, lock.Setup) && len(was) == 0:
		return ""
	case slices.Equal(was, lock.Setup):
		return "same"
	case len(was) == 0:
		return "new"
	case len(lock.Setup) == 0:
		return "gone"
	}
	return "changed"
}

func sideOf(at config.LockedPlatform, r *fetch.Resolution) *lockSide {
	s := &lockSide{Manifest: at.Manifest, Index: at.Index, Layers: len(at.Layers)}
	if r != nil {
		s.Created, s.Size = r.Created, r.Size()
	}
	return s
}

// lookBack finds out more of an image that was locked, in the store or where it came from. That it is gone there is no
// error. A lock of another image names a registry that nobody may have agreed to: that one is not asked.
func (a *app) lookBack(p *pinning, at config.LockedPlatform) *fetch.Resolution {
	s, err := a.OpenStore()
	if err != nil {
		return nil
	}
	if r, err := fetch.Known(a.Ctx, s, at.Manifest, at.Name); err == nil {
		return r
	}
	if p.offline || !p.sameRef() || isLocal(p.profile.Image) {
		return nil
	}
	r, err := fetch.Resolve(a.Ctx, p.profile.Image, []string{at.Name}, fetch.Options{Store: s, Locked: &image.Locked{Manifest: at.Manifest}})
	if err != nil || r[0].Manifest != at.Manifest {
		return nil
	}
	return &r[0]
}

// isLocal tells files of this machine, which no digest can be asked of.
func isLocal(ref string) bool {
	for _, scheme := range []string{"oci:", "oci-archive:", "docker-archive:"} {
		if strings.HasPrefix(ref, scheme) {
			return true
		}
	}
	return false
}

// layerChanges compares two stacks of layers. One that occurs twice counts twice.
func layerChanges(was, is config.LockedPlatform, before, now *fetch.Resolution) (kept int, added, removed []lockLayer) {
	added, removed = []lockLayer{}, []lockLayer{}
	left := map[oci.Digest]int{}
	for _, d := range was.Layers {
		left[d]++
	}
	for i, d := range is.Layers {
		if left[d] > 0 {
			left[d]--
			kept++
			continue
		}
		added = append(added, lockLayer{d, layerSize(now, i)})
	}
	for i, d := range was.Layers {
		if left[d] > 0 {
			left[d]--
			removed = append(removed, lockLayer{d, layerSize(before, i)})
		}
	}
	return kept, added, removed
}

func layerSize(r *fetch.Resolution, i int) int64 {
	if r == nil || i >= len(r.Layers) {
		return 0
	}
	return r.Layers[i].Size
}

func (a *app) showLockReport(r lockReport, file string, changed bool) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", escape(r.Ref))
	for _, c := range r.Changes {
		c.write(&b)
	}
	if r.Setup != "" {
		fmt.Fprintf(&b, "  setup  %s\n", r.Setup)
	}
	switch {
	case r.Written:
		fmt.Fprintf(&b, "wrote %s\n", escape(file))
	case changed:
		fmt.Fprintf(&b, "%s would be written\n", escape(file))
	default:
		fmt.Fprintf(&b, "%s is as it was\n", escape(file))
	}
	_, err := a.Stdout.WriteString(b.String())
	return err
}

func (c *lockChange) write(b *strings.Builder) {
	switch c.Change {
	case "same":
		fmt.Fprintf(b, "  same   %s %s\n", c.Platform, c.New.Manifest)
	case "new":
		fmt.Fprintf(b, "  new    %s %s\n         created %s, %s, %s\n", c.Platform, c.New.Manifest, day(c.New.Created), plural(c.New.Layers, "layer"), size(c.New.Size))
	default:
		before, created := "unknown", [2]string{day(c.Old.Created), day(c.New.Created)}
		if created[0] == created[1] && c.Old.Created != nil {
			created[0], created[1] = minute(c.Old.Created), minute(c.New.Created)
		}
		if c.Old.Size > 0 || c.Old.Layers == 0 {
			before = size(c.Old.Size)
		}
		fmt.Fprintf(b, "  moved  %s %s\n%*s %s\n", c.Platform, c.Old.Manifest, len("  moved  ")+len(c.Platform), "->", c.New.Manifest)
		fmt.Fprintf(b, "         created %s -> %s, size %s -> %s, layers: %d kept, %d new, %d gone\n",
			created[0], created[1], before, size(c.New.Size), c.Kept, len(c.Added), len(c.Removed))
		writeLayers(b, "+", c.Added)
		writeLayers(b, "-", c.Removed)
	}
}

func writeLayers(b *strings.Builder, mark string, layers []lockLayer) {
	for _, l := range layers {
		fmt.Fprintf(b, "           %s %s", mark, short(l.DiffID.String()))
		if l.Size > 0 {
			fmt.Fprintf(b, " %s", size(l.Size))
		}
		b.WriteString("\n")
	}
}

// day is when an image says it was made.
func day(t *time.Time) string {
	if t == nil {
		return "unknown"
	}
	return t.UTC().Format(time.DateOnly)
}

// minute tells two of one day apart.
func minute(t *time.Time) string { return t.UTC().Format("2006-01-02 15:04") }

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
