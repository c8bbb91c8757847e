package cli

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"cove/config"
	"cove/fetch"
	"cove/fetch/layer"
	"cove/fetch/oci"
	"cove/fetch/store"
	"cove/sandbox"
	"cove/sandbox/spec"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
)

func (a *app) commitCommand() *cli.Command {
	return &cli.Command{
		Name:      "commit",
		Usage:     "make an image of what was done in a running sandbox",
		UsageText: "cove commit [OPTIONS] NAME REF",
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.StringFlag{Name: "author", Aliases: []string{"a"}, Usage: "say that `NAME` made it"},
			&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "say what was done, in its history: `TEXT`"},
			wordsFlag("change", "as a line of a Dockerfile, `KEY VALUE`: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR", "c"),
			&cli.BoolFlag{Name: "pause", Usage: "stop the sandbox's processes while it is read", Value: true},
		},
		Action: a.action(a.commit),
	}
}

func (a *app) commit(c *cli.Context) error {
	if c.Args().Len() != 2 {
		return start.Usagef("which sandbox, and what shall the image be called? (NAME REF)")
	}
	name, ref := c.Args().Get(0), c.Args().Get(1)
	changes := (line{c}).Words("change")
	for _, ch := range changes {
		if err := fetch.ParseChange(ch); err != nil {
			return start.Usagef("--%v", err)
		}
	}
	created, err := createdNow()
	if err != nil {
		return err
	}
	s, err := a.OpenStore()
	if err != nil {
		return err
	}
	dir, err := config.RuntimeDir(os.Getenv)
	if err != nil {
		return err
	}
	pause := c.Bool("pause")
	held, err := sandbox.Hold(dir, name, pause)
	if err != nil {
		return err
	}
	defer held.Release()
	req, err := commitRequest(held, s)
	if err != nil {
		return fmt.Errorf("commit %q: %w", held.Name, err)
	}
	req.Ref, req.Author, req.Message, req.Changes, req.Created = ref, c.String("author"), c.String("message"), changes, created
	done, err := fetch.Commit(a.Ctx, *req)
	if err != nil {
		return a.interruptedOr(fmt.Errorf("commit %q: %w", held.Name, err))
	}
	a.warnOfCommit(held, done, pause)
	if c.Bool("json") {
		return writeJSON(a.Stdout, done)
	}
	_, err = fmt.Fprintf(a.Stdout, "%s %s\n", done.Digest, escape(done.Ref))
	return err
}

// commitRequest is what there is to read of a sandbox.
func commitRequest(held *sandbox.Held, s *store.Store) (*fetch.CommitRequest, error) {
	root := held.Root
	req := &fetch.CommitRequest{Store: s, IDMap: held.IDMap, Base: store.Handle{Manifest: oci.Digest(root.Digest), Key: held.Key}}
	switch root.Kind {
	case spec.RootHost:
		return nil, fmt.Errorf("its root file system is this machine's own, read-only: there is nothing to make an image of (run it with --image)")
	case spec.RootOverlay:
		req.Tree, req.Dir = layer.TreeUpper, string(root.RunDir)+"/upper"
	case spec.RootFuse:
		req.Tree, req.Dir = layer.TreeFuse, string(root.RunDir)+"/upper"
	case spec.RootCopy:
		req.Tree, req.Dir = layer.TreeCopy, string(root.RunDir)+"/rootfs"
	default:
		return nil, fmt.Errorf("its root file system is of a kind unknown here: %q", root.Kind)
	}
	if held.Key == "" || req.Base.Manifest.Validate() != nil {
		return nil, fmt.Errorf("%s is a folder and no image: there is nothing that a layer could go on top of", escape(root.Image))
	}
	if !strings.HasPrefix(req.Dir, s.Dir()+"/") {
		return nil, fmt.Errorf("it runs from another store, %s: name that with --store", escape(string(root.RunDir)))
	}
	var words []string
	for _, w := range held.Argv {
		words = append(words, string(w))
	}
	req.Command = strings.Join(words, " ")
	for _, p := range held.Placed {
		req.Placed = append(req.Placed, layer.Placed{Path: string(p.Path), Kind: layer.PlacedKind(p.Kind), Line: []byte(p.Line)})
	}
	return req, nil
}

// createdNow is when the image is made: SOURCE_DATE_EPOCH, for those who want the same image again.
func createdNow() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Now().UTC().Truncate(time.Second), nil
	}
	sec, err := strconv.ParseInt(text, 10, 64)
	if err != nil || sec < 0 {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH=%s: want seconds since 1970", quote(text))
	}
	return time.Unix(sec, 0).UTC(), nil
}

// warnOfCommit says what is not in the image that somebody might look for there.
func (a *app) warnOfCommit(held *sandbox.Held, done *fetch.Committed, pause bool) {
	p := done.Packed
	if done.Layer == "" {
		a.warn("commit %s: nothing was changed: the image has the same layers", quote(held.Name))
	}
	if held.Running > 0 {
		a.warn("commit %s: %d processes could not be stopped while it was read", quote(held.Name), held.Running)
	}
	if p.Changing > 0 && pause {
		a.warn("commit %s: %d files changed while they were read", quote(held.Name), p.Changing)
	} else if p.Changing > 0 {
		a.warn("commit %s: %d files changed while they were read; --pause=true stops who writes to them", quote(held.Name), p.Changing)
	}
	if n := p.Names; n > 0 {
		a.warn("commit %s: %d files are left out whose names begin with .wh., which would delete others", quote(held.Name), n)
	}
	if n := p.Xattrs; n > 0 {
		a.warn("commit %s: %d extended attributes are left out that have a = in their names", quote(held.Name), n)
	}
}
