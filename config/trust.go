package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Trust remembers, in a folder of the user's own, which grants were agreed to: one file for each profile, by the
// profile's absolute path, and one for the registries.
//
// What is agreed to are grants, and the hash of the bytes they were read from. A profile that changed and wants no more
// than was agreed to asks nothing: what its commands and packages are is decided by whoever writes the project anyway,
// and a question after every edit would be answered without reading. One grant more, or one that reads differently,
// and the question comes, with what is new, what is different, what is gone and how much stays. What was agreed to stays
// agreed to while a profile wants less, until the user agrees to something else or revokes it. A repository at another
// path is another one, and so is one with other bytes in a folder that was made anew at the same path.
//
// What a pattern of the user's own config.toml covers is not asked for, and not remembered either: it holds as long as
// the pattern is there.
type Trust struct{ dir string }

// Decision is what trust says about a profile.
type Decision struct {
	Trusted bool    // nothing has to be asked
	Known   bool    // something was agreed to for this profile before
	Changed bool    // and the profile's bytes are others since
	New     []Grant // wanted and not agreed to
	Gone    []Grant // agreed to and not wanted any more
	Kept    []Grant // wanted and agreed to
	Own     []Grant // wanted and approved by the user's own config.toml, which ApprovedBy names

	Agreed time.Time // when what is Kept and Gone was agreed to
	Hash   string    // of the bytes that were agreed to
	Anew   bool      // the folder is another one than that of the profile that was agreed to here
}

// Changes pairs what is new with what it takes the place of; what is new altogether has an empty first half, and comes
// after the pairs.
func (d Decision) Changes() (pairs [][2]Grant, gone []Grant) {
	type subject struct{ kind, about string }
	of := func(g Grant) subject { return subject{g.Kind, g.about()} }
	wanted, was := map[subject]int{}, map[subject][]Grant{}
	for _, g := range d.New {
		wanted[of(g)]++
	}
	for _, g := range d.Gone {
		was[of(g)] = append(was[of(g)], g)
	}
	paired := map[subject]bool{}
	var fresh [][2]Grant
	for _, g := range d.New {
		s := of(g)
		if s.about == "" || wanted[s] > 1 || len(was[s]) != 1 {
			fresh = append(fresh, [2]Grant{{}, g})
			continue
		}
		pairs = append(pairs, [2]Grant{was[s][0], g})
		paired[s] = true
	}
	for _, g := range d.Gone {
		if !paired[of(g)] {
			gone = append(gone, g)
		}
	}
	return append(pairs, fresh...), gone
}

// Record is what was agreed to for one profile.
type Record struct {
	Path   string    `json:"-"`
	Quoted string    `json:"path"` // Path as Go quotes it: a path may hold bytes that JSON cannot
	Hash   string    `json:"hash"`
	Time   time.Time `json:"time"`
	Folder string    `json:"folder,omitempty"` // which folder it was, as folderID has it
	Grants []Grant   `json:"grants"`
}

// OpenTrust names the folder; it is made when something is agreed to. See TrustDir.
func OpenTrust(dir string) *Trust { return &Trust{dir: dir} }

// Check compares what a loaded profile wants with what was agreed to. It looks at the profile as it was read, never at
// the file again.
func (t *Trust) Check(p *Profile) (Decision, error) {
	grants := p.Grants()
	p.asked, p.folder = []Grant{}, ""
	for i, g := range grants {
		if by, ok := p.approvedBy(g); ok {
			grants[i].ApprovedBy = &by
			continue
		}
		p.asked = append(p.asked, g)
	}
	if p.File != "" {
		p.folder = folderID(filepath.Dir(p.File))
	}
	if len(grants) == 0 && p.File == "" {
		return Decision{Trusted: true}, nil
	}
	registries, err := t.Registries()
	if err != nil {
		return Decision{}, err
	}
	record, known, err := t.load(p.File)
	if err != nil {
		return Decision{}, err
	}
	d := Decision{Known: known, Changed: known && record.Hash != p.hash, Agreed: record.Time, Hash: record.Hash}
	if d.Changed && record.Folder != "" && record.Folder != p.folder {
		// Somebody else's project was put where one was that the user agreed to.
		d.Known, d.Changed, d.Anew, record.Grants = false, false, true, nil
	}
	agreed, wanted, typed := identities(record.Grants), identities(grants), p.typed()
	for _, g := range grants {
		switch {
		case g.ApprovedBy != nil:
			d.Own = append(d.Own, g)
		case g.Registry != "" && slices.Contains(registries, g.Registry), agreed[g.identity()] && g.Registry == "":
			d.Kept = append(d.Kept, g)
		default:
			d.New = append(d.New, g)
		}
	}
	// Options may have taken away for once what the profile still wants.
	for _, g := range record.Grants {
		if !typed && !wanted[g.identity()] {
			d.Gone = append(d.Gone, g)
		}
	}
	d.Trusted = len(d.New) == 0
	return d, nil
}

// Accept notes that the user agrees to everything that the profile wanted when Check last looked. Whether a path leaves
// the project is not asked again: a link could have been turned while the user was reading.
func (t *Trust) Accept(p *Profile) error {
	if p.File == "" {
		return nil
	}
	if p.asked == nil {
		if _, err := t.Check(p); err != nil {
			return err
		}
	}
	r := Record{Quoted: strconv.QuoteToASCII(p.File), Hash: p.hash, Time: time.Now().UTC().Truncate(time.Second), Folder: p.folder, Grants: slices.Clone(p.asked)}
	var registries []string
	for _, g := range r.Grants {
		if g.Registry != "" {
			registries = append(registries, g.Registry)
		}
	}
	if p.typed() {
		before, _, err := t.load(p.File)
		if err != nil {
			return err
		}
		now := identities(r.Grants)
		for _, g := range before.Grants {
			if (before.Folder == p.folder || before.Hash == p.hash) && !now[g.identity()] {
				r.Grants = append(r.Grants, g)
			}
		}
	}
	// What cannot be written approves no registry.
	if err := t.write(recordName(p.File), r); err != nil {
		return err
	}
	return t.changeRegistries(func(have []string) []string { return append(have, registries...) })
}

// typed reports whether options were laid over the profile.
func (p *Profile) typed() bool {
	for _, o := range p.Origin {
		if o.Kind == FromFlag {
			return true
		}
	}
	return false
}

// Revoke forgets what was agreed to for a profile. The registries stay approved: they are not one profile's.
func (t *Trust) Revoke(path string) error {
	err := os.Remove(filepath.Join(t.dir, recordName(path)))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("revoke trust in %s: %w", showName(path), ErrNotTrusted)
	}
	if err != nil {
		return fmt.Errorf("revoke trust in %s: %w", showName(path), bare(err))
	}
	return nil
}

// Below are the paths of the profiles in a folder, or of the one with this name, for which something was agreed to. They
// need not be there any more.
func (t *Trust) Below(path string) ([]string, error) {
	all, err := t.List()
	var out []string
	for _, r := range all {
		if r.Path == path || filepath.Dir(r.Path) == path {
			out = append(out, r.Path)
		}
	}
	return out, err
}

// ErrNotTrusted says that nothing was agreed to for a profile, or that a registry is not approved.
var ErrNotTrusted = errors.New("nothing was agreed to")

// List is everything that was agreed to, by path. Files that are no records of ours are left alone.
func (t *Trust) List() ([]Record, error) {
	entries, err := os.ReadDir(t.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list trust: %w", err)
	}
	var all []Record
	for _, e := range entries {
		hash, isRecord := strings.CutSuffix(e.Name(), ".json")
		if !isRecord || len(hash) != 2*sha256.Size {
			continue
		}
		r, known, err := t.read(e.Name())
		if err != nil {
			return nil, err
		}
		if known {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b Record) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

const registriesName = "registries.json"

// Registries are those from which images may come without a question.
func (t *Trust) Registries() ([]string, error) {
	var list []string
	_, err := t.readJSON(registriesName, &list)
	return list, err
}

// RevokeRegistry makes images from a registry ask again.
func (t *Trust) RevokeRegistry(name string) error {
	had := false
	err := t.changeRegistries(func(have []string) []string {
		had = slices.Contains(have, name)
		return slices.DeleteFunc(have, func(r string) bool { return r == name })
	})
	if err == nil && !had {
		err = fmt.Errorf("revoke trust in registry %s: %w", quotePlain(name), ErrNotTrusted)
	}
	return err
}

// changeRegistries holds a lock, for the list is everybody's: two shells may agree to something at once.
func (t *Trust) changeRegistries(change func([]string) []string) error {
	unlock, err := t.lock()
	if err != nil {
		return err
	}
	defer unlock()
	have, err := t.Registries()
	if err != nil {
		return err
	}
	want := change(slices.Clone(have))
	slices.Sort(want)
	want = slices.Compact(want)
	if slices.Equal(have, want) {
		return nil
	}
	return t.write(registriesName, want)
}

// recordName names a record after the bytes of a path: any path makes a file name, and none leaves the folder.
func recordName(path string) string {
	sum := sha256.Sum256([]byte(path))
	return hex.EncodeToString(sum[:]) + ".json"
}

func (t *Trust) load(path string) (Record, bool, error) { return t.read(recordName(path)) }

// read checks that the record is of the path it is named after: a copied file agrees to nothing.
func (t *Trust) read(name string) (Record, bool, error) {
	var r Record
	there, err := t.readJSON(name, &r)
	if err != nil || !there {
		return Record{}, false, err
	}
	if r.Path, err = strconv.Unquote(r.Quoted); err != nil || recordName(r.Path) != name {
		return Record{}, false, fmt.Errorf("read trust %q: the record is of another profile; remove it", filepath.Join(t.dir, name))
	}
	return r, true, nil
}

func (t *Trust) readJSON(name string, into any) (bool, error) {
	path := filepath.Join(t.dir, name)
	if err := t.ours(); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	data, err := readOwned(path, false, os.Geteuid())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		return false, fmt.Errorf("read trust %q: %w", path, bare(err))
	}
	return true, nil
}

// ours refuses a folder in which somebody else could agree to something.
func (t *Trust) ours() error {
	info, err := os.Stat(t.dir)
	if err == nil && !info.IsDir() {
		err = errors.New("not a folder")
	}
	if err == nil && uidOf(info) != os.Geteuid() {
		err = fmt.Errorf("it belongs to user %d", uidOf(info))
	}
	if err == nil && info.Mode().Perm()&0o022 != 0 {
		err = fmt.Errorf("others may write it (mode %04o); chmod 700 it", info.Mode().Perm())
	}
	if err != nil {
		return fmt.Errorf("use trust folder %q: %w", t.dir, bare(err))
	}
	return nil
}

// write puts a whole file in place, or none: who is killed half-way has agreed to nothing.
func (t *Trust) write(name string, value any) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("keep trust in %q: %w", t.dir, err)
		}
	}()
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	if len(data) >= maxSize { // which could not be read again
		return fmt.Errorf("there is more to agree to than anybody reads: %d bytes, at most %d", len(data), maxSize)
	}
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return err
	}
	t.sweep(time.Now())
	f, err := os.CreateTemp(t.dir, "."+name+".*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(append(data, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(t.dir, name)); err != nil {
		return err
	}
	return syncDir(t.dir)
}

// sweep removes what was left by somebody who was killed while writing.
func (t *Trust) sweep(now time.Time) {
	left, _ := filepath.Glob(filepath.Join(t.dir, ".*.json.*"))
	for _, name := range left {
		if info, err := os.Lstat(name); err == nil && info.Mode().IsRegular() && now.Sub(info.ModTime()) > time.Hour {
			os.Remove(name)
		}
	}
}

// syncDir makes a rename last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
