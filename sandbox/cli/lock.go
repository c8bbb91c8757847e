package cli

import (
	"errors"
	"fmt"
	"slices"

	"cove/config"
	"cove/fetch"
	"cove/fetch/image"
	"cove/fetch/oci"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
)

func (a *app) lockCommand() *cli.Command {
	return &cli.Command{
		Name:      "lock",
		Usage:     "pin the profile's image in cove.lock, by digest",
		UsageText: "cove lock [--check] [--platform OS/ARCH]... [--offline] [--json] [--profile FILE]",
		Flags: []cli.Flag{
			profileFlag(), jsonFlag(),
			wordsFlag("platform", "pin it for `OS/ARCH`[/VARIANT] too, not for this machine's platform alone"),
			&cli.BoolFlag{Name: "check", Usage: "write nothing; fail when the lock is not that of the profile"},
			&cli.BoolFlag{Name: "offline", Usage: "ask no registry: pin what is in the store"},
		},
		Action: a.action(a.lock),
	}
}

func (a *app) updateCommand() *cli.Command {
	return &cli.Command{
		Name:      "update",
		Usage:     "move cove.lock to what the profile's image is now, and show what moved",
		UsageText: "cove update [--dry-run] [--platform OS/ARCH]... [--json] [--profile FILE]",
		Flags: []cli.Flag{
			profileFlag(), jsonFlag(),
			wordsFlag("platform", "move the image for `OS/ARCH`[/VARIANT] alone; the other platforms stay"),
			&cli.BoolFlag{Name: "dry-run", Usage: "show what would move, and write nothing"},
		},
		Action: a.action(a.update),
	}
}

// pinning is the work on one lock.
type pinning struct {
	profile *config.Profile
	ref     string       // the image, as the profile has it
	old     *config.Lock // nil when there is none
	asked   []string     // platforms
	offline bool
}

// sameRef reports whether the lock is of the image that the profile names.
func (p *pinning) sameRef() bool { return p.old != nil && p.old.Image.Ref == p.ref }

// locked are the platforms of the lock, of whatever image.
func (p *pinning) locked() []string {
	var names []string
	if p.old != nil {
		for _, at := range p.old.Image.Platforms {
			names = append(names, at.Name)
		}
	}
	return names
}

// beginPinning reads the profile and its lock. It returns nil when there is nothing to pin, and has said so.
func (a *app) beginPinning(c *cli.Context) (*pinning, error) {
	if c.Args().Present() {
		return nil, start.Usagef("takes no arguments: the image is the profile's; --profile FILE names a profile")
	}
	p := &pinning{offline: c.Bool("offline")}
	for _, word := range (line{c}).Words("platform") {
		platform, err := oci.ParsePlatform(word)
		if err != nil {
			return nil, start.Usagef("--platform: %v", err)
		}
		p.asked = append(p.asked, platform.String())
	}
	var err error
	if p.profile, err = a.LoadProfile(line{c}, nil); err != nil {
		return nil, err
	}
	if p.profile.File == "" {
		return nil, start.ErrNoProfile
	}
	if p.old, err = p.profile.ReadLock(); err != nil {
		return nil, err
	}
	var why string
	if p.ref, why = p.profile.Lockable(); why != "" {
		return nil, a.nothingToLock(p, why, c.Bool("check") || c.Bool("dry-run"))
	}
	return p, nil
}

// nothingToLock says so, and takes away the lock of an image that is no more the profile's.
func (a *app) nothingToLock(p *pinning, why string, look bool) error {
	if p.old == nil {
		_, err := fmt.Fprintf(a.Stdout, "nothing to lock: %s\n", escape(why))
		return err
	}
	if look {
		_, err := p.profile.Locked(p.old, thisPlatform())
		return err
	}
	if err := p.profile.RemoveLock(p.old); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.Stdout, "nothing to lock: %s; removed %s\n", escape(why), escape(p.profile.ShownAs(p.old.File)))
	return err
}

func thisPlatform() string {
	p, _ := oci.ParsePlatform("")
	return p.String()
}

// lock adds what the lock lacks, and moves nothing that is in it as long as the profile names the same image.
func (a *app) lock(c *cli.Context) error {
	if c.Bool("check") && (c.Bool("json") || c.Bool("offline")) {
		return start.Usagef("--check asks nobody and prints no list: neither --json nor --offline goes with it")
	}
	p, err := a.beginPinning(c)
	if p == nil {
		return err
	}
	if len(p.asked) == 0 {
		p.asked = []string{thisPlatform()}
	}
	if c.Bool("check") {
		return a.checkLock(p)
	}
	wanted := p.asked
	if p.sameRef() {
		wanted = slices.DeleteFunc(wanted, func(name string) bool { return p.old.Image.Platform(name) != nil })
	} else {
		wanted = append(wanted, p.locked()...)
	}
	found, err := a.resolvePins(c, p, wanted, true)
	if err != nil {
		return err
	}
	return a.finishPinning(c, p, found)
}

// checkLock compares the lock with the profile, and asks nobody.
func (a *app) checkLock(p *pinning) error {
	if p.old == nil {
		return &config.LockError{File: p.profile.ShownAs(p.profile.LockFile()), Text: "it is not there", Absent: true}
	}
	for _, name := range p.asked {
		if _, err := p.profile.Locked(p.old, name); err != nil {
			return err
		}
	}
	if err := p.profile.LockedSetup(p.old); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.Stdout, "%s is up to date\n", escape(p.profile.ShownAs(p.old.File)))
	return err
}

// update looks anew at what the reference names.
func (a *app) update(c *cli.Context) error {
	p, err := a.beginPinning(c)
	if p == nil {
		return err
	}
	wanted := p.asked
	if len(wanted) == 0 || !p.sameRef() {
		wanted = append(wanted, p.locked()...)
	}
	if len(wanted) == 0 {
		wanted = []string{thisPlatform()}
	}
	found, err := a.resolvePins(c, p, wanted, false)
	if err != nil {
		return err
	}
	return a.finishPinning(c, p, found)
}

// errIndexGone says that a lock cannot be added to from where it was made.
type errIndexGone struct{ error }

func (e *errIndexGone) Unwrap() error { return e.error }

// resolvePins asks what the profile's image is on platforms. With beside they are to be of the same make as those that
// are locked already: of the same index, though the tag may name another one by now.
func (a *app) resolvePins(c *cli.Context, p *pinning, platforms []string, beside bool) ([]fetch.Resolution, error) {
	slices.Sort(platforms)
	if platforms = slices.Compact(platforms); len(platforms) == 0 {
		return nil, nil
	}
	if err := a.CheckTrust(p.profile); err != nil {
		return nil, err
	}
	s, err := a.OpenStore()
	if err != nil {
		return nil, err
	}
	if a.Bounds, err = start.Bounds(line{c}); err != nil {
		return nil, err
	}
	o := a.bounded(fetch.Options{Store: s, Offline: p.offline})
	if !p.offline { // where signatures are; what is pinned from the store is judged when it is to run
		o.Demands = start.DemandsOf(p.profile)
	}
	if beside && p.sameRef() {
		if index := oneIndex(p.old.Image.Platforms); index != "" {
			o.Locked = &image.Locked{Manifest: index}
		}
	}
	found, err := fetch.Resolve(a.Ctx, p.profile.Image, platforms, o)
	if err != nil && o.Locked != nil && a.Ctx.Err() == nil && !errors.As(err, new(*fetch.PlatformError)) {
		err = &errIndexGone{fmt.Errorf("look into the index that %s is of: %w", p.profile.ShownAs(p.old.File), err)}
	}
	return found, err
}

// oneIndex is the index that all platforms are from, "" when they are not from one.
func oneIndex(platforms []config.LockedPlatform) oci.Digest {
	index := platforms[0].Index
	for _, p := range platforms {
		if p.Index != index {
			return ""
		}
	}
	return index
}

// finishPinning writes the lock with what was found in it, and tells what came of it.
func (a *app) finishPinning(c *cli.Context, p *pinning, found []fetch.Resolution) error {
	lock := &config.Lock{Image: config.LockedImage{Ref: p.ref}, Setup: p.profile.LockableSetup()}
	if p.sameRef() {
		lock.Image.Platforms = slices.Clone(p.old.Image.Platforms)
	}
	for _, f := range found {
		lock.Image.Put(config.LockedPlatform{Name: f.Platform, Index: f.Index, Manifest: f.Manifest, Layers: f.DiffIDs()})
	}
	report := lockReport{File: p.profile.LockFile(), Ref: p.ref, Setup: setupChange(p.old, lock), Changes: a.lockChanges(p, lock, found)}
	changed := p.old == nil || string(p.old.Text()) != string(lock.Text())
	if changed && !c.Bool("dry-run") {
		if err := p.profile.WriteLock(lock, p.old); err != nil {
			return err
		}
		report.Written = true
	}
	if c.Bool("json") {
		return writeJSON(a.Stdout, report)
	}
	return a.showLockReport(report, p.profile.ShownAs(report.File), changed)
}
