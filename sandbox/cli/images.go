package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"cove/fetch/store"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
)

func (a *app) imagesCommand() *cli.Command {
	return &cli.Command{
		Name:      "images",
		Usage:     "the images in the store",
		UsageText: "cove images [--size] [--json]",
		Flags: []cli.Flag{jsonFlag(),
			&cli.BoolFlag{Name: "size", Usage: "what each takes on the disk, shared with others and of its own, and the store as a whole"}},
		Action: a.action(a.images),
	}
}

func (a *app) images(c *cli.Context) error {
	if c.Args().Present() {
		return start.Usagef("takes no arguments")
	}
	s, err := a.OpenStore()
	if err != nil {
		return err
	}
	if c.Bool("size") {
		return a.imageSizes(c, s)
	}
	all, err := s.Images()
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return writeJSON(a.Stdout, all)
	}
	var rows [][]string
	now := time.Now()
	for _, i := range all {
		created := "unknown"
		if i.Created != nil {
			created = ago(*i.Created, now)
		}
		for _, n := range namesOf(i) {
			rows = append(rows, []string{n, short(i.Digest.String()), i.Platform, size(i.Size), created, ago(i.Pulled, now)})
		}
	}
	return writeTable(a.Stdout, []string{"REF", "DIGEST", "PLATFORM", "SIZE", "CREATED", "PULLED"}, rows)
}

func namesOf(i store.Summary) []string {
	if len(i.Names) == 0 {
		return []string{"<none>"}
	}
	if i.Setup == nil {
		return i.Names
	}
	out := make([]string, len(i.Names))
	for n, name := range i.Names {
		out[n] = name + " of " + i.Setup.Of
	}
	return out
}

// imageSizes is `images --size`.
func (a *app) imageSizes(c *cli.Context, s *store.Store) error {
	u, err := s.Usage(a.Ctx)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return writeJSON(a.Stdout, u)
	}
	var rows [][]string
	for _, i := range u.Images {
		for _, n := range namesOf(i.Summary) {
			rows = append(rows, []string{n, short(i.Digest.String()), i.Platform, size(i.Disk), size(i.Shared), size(i.Unique)})
		}
	}
	if err := writeTable(a.Stdout, []string{"REF", "DIGEST", "PLATFORM", "ON DISK", "SHARED", "UNIQUE"}, rows); err != nil {
		return err
	}
	if _, err = fmt.Fprintf(a.Stdout, "%s on disk, %s reclaimable (`cove gc`), %s free\n", size(u.Disk), size(u.Reclaimable), size(u.Free)); err != nil {
		return err
	}
	return a.tellPersists(s)
}

func (a *app) rmiCommand() *cli.Command {
	return &cli.Command{
		Name:      "rmi",
		Usage:     "take images out of the store",
		UsageText: "cove rmi [--json] REF...",
		Flags:     []cli.Flag{jsonFlag()},
		Action:    a.action(a.rmi),
	}
}

func (a *app) rmi(c *cli.Context) error {
	if !c.Args().Present() {
		return start.Usagef("which image? (a name, a digest, or the digest's first digits, as `cove images` has them)")
	}
	s, err := a.OpenStore()
	if err != nil {
		return err
	}
	var images [][]string
	for _, ref := range c.Args().Slice() {
		images = append(images, storedNames(ref))
	}
	removed, err := s.RemoveAll(a.Ctx, images...)
	if err != nil {
		return err
	}
	return a.printRemoved(c, removed)
}

func (a *app) printRemoved(c *cli.Context, r store.Removed) error {
	if c.Bool("json") {
		return writeJSON(a.Stdout, r)
	}
	remove, removed, freed := "removed", "removed", "freed"
	if c.Bool("dry-run") {
		remove, removed, freed = "would remove", "would be removed", "would be freed"
	}
	var b strings.Builder
	for _, n := range r.Names {
		fmt.Fprintf(&b, "untagged %s\n", escape(n))
	}
	for _, d := range r.Images {
		fmt.Fprintf(&b, "%s %s\n", remove, short(d.String()))
	}
	for _, d := range r.Kept {
		fmt.Fprintf(&b, "kept %s: it is in use; `cove gc` takes it later\n", short(d.String()))
	}
	if r.Setups > 0 {
		fmt.Fprintf(&b, "%s of profiles' setups among them: nobody asks for what they made, or what they were made of is gone\n", plural(r.Setups, "image"))
	}
	if r.Leftovers > 0 {
		fmt.Fprintf(&b, "%d leftovers of commands that were killed %s\n", r.Leftovers, removed)
	}
	fmt.Fprintf(&b, "%d layers %s, %s %s\n", r.Layers, removed, size(r.Bytes), freed)
	_, err := a.Stdout.WriteString(b.String())
	return err
}

func (a *app) imageCommand() *cli.Command {
	return &cli.Command{
		Name:  "image",
		Usage: "look into an image, check the store, save an image",
		Subcommands: []*cli.Command{{
			Name:      "inspect",
			Usage:     "what the store knows of an image, as JSON",
			UsageText: "cove image inspect REF...",
			Flags:     []cli.Flag{jsonFlag()},
			Action:    a.action(a.imageInspect),
		}, a.imageVerifyCommand(), a.imageSaveCommand()},
	}
}

// imageInspect prints JSON with and without --json: there is no table that would hold it.
func (a *app) imageInspect(c *cli.Context) error {
	if !c.Args().Present() {
		return start.Usagef("which image?")
	}
	s, err := a.OpenStore()
	if err != nil {
		return err
	}
	type inspected struct {
		*store.Inspection
		Manifest json.RawMessage `json:"manifest,omitempty"` // as sent
	}
	var all []inspected
	for _, ref := range c.Args().Slice() {
		i, err := s.Inspect(storedName(s, ref))
		if err != nil {
			return err
		}
		one := inspected{Inspection: i}
		if json.Valid(i.Manifest) {
			one.Manifest = i.Manifest
		}
		all = append(all, one)
	}
	return writeJSON(a.Stdout, all)
}

// storedName is the name that the store has for what was typed.
func storedName(s *store.Store, ref string) string {
	if name, ok := s.Known(storedNames(ref)...); ok {
		return name
	}
	return ref
}

// storedNames are the names that the store may have for what was typed: a short name stands for the one on Docker's registry,
// and a name without a tag for the tag "latest".
func storedNames(ref string) []string {
	tagged := ref
	if rest := ref[strings.LastIndexByte(ref, '/')+1:]; !strings.ContainsAny(rest, ":@") {
		tagged += ":latest"
	}
	return []string{ref, tagged, "docker.io/" + tagged, "docker.io/library/" + tagged}
}
