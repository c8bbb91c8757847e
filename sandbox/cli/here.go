package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cove/config"
	"cove/config/draft"
	"cove/sandbox"
	"cove/sandbox/review"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
)

// hereName is what `cove` alone is, which is told by itself and no command that one types.
const hereName = "here"

func (a *app) hereCommand() *cli.Command {
	return &cli.Command{Name: hereName, Usage: "what can be done here", UsageText: "cove", Hidden: true, Action: a.action(a.lookAround)}
}

// lookAround says in a few lines where one is and what can be typed next. It changes nothing and asks nobody.
func (a *app) lookAround(c *cli.Context) error {
	if c.Args().Present() {
		return start.Usagef("takes no arguments")
	}
	p, err := a.LoadProfile(line{c}, nil)
	if err != nil {
		return err
	}
	h := &around{app: a, profile: p}
	for _, look := range []func() error{h.project, h.image, h.trust, h.repository, h.running, h.review} {
		if err := look(); err != nil {
			return err
		}
	}
	_, err = a.Stdout.WriteString(h.String())
	return err
}

// around gathers what `cove` says.
type around struct {
	*app
	profile *config.Profile
	about   [][2]string
	next    [][2]string
}

func (h *around) say(what, format string, args ...any) {
	h.about = append(h.about, [2]string{what, fmt.Sprintf(format, args...)})
}

func (h *around) can(command, what string) { h.next = append(h.next, [2]string{command, what}) }

func (h *around) project() error {
	p := h.profile
	switch {
	case p.Dir == "": // LoadProfile has said why
		h.say("project", "none here: a sandbox would have none of your files")
		h.can("cd FOLDER", "to a project's folder, to have its files inside")
	case p.File == "":
		h.say("project", "%s, without a profile: %s, %s, a temporary home", quote(p.Dir), workspaceWords(p), networkWords(p))
		h.canWrite()
	default:
		h.say("project", "%s, by the profile %s: %s, %s", quote(p.Dir), escape(p.ShownAs(p.File)), workspaceWords(p), networkWords(p))
	}
	return nil
}

// canWrite says how a folder gets a profile.
func (h *around) canWrite() {
	if name := draft.FindDevcontainer(h.profile.Dir); name != "" {
		h.can("cove import", "write a profile, cove.toml, of "+name)
	}
	whose := "for it"
	if _, tool, err := draft.Project(h.profile.Dir); err == nil && tool != "" {
		whose = "for this " + tool + " project"
	}
	h.can("cove init", "write a profile, cove.toml, "+whose)
}

func workspaceWords(p *config.Profile) string {
	return map[string]string{"rw": "its files can be written", "ro": "its files are read-only", "review": "what is changed waits for review",
		"none": "none of its files inside"}[p.Workspace.Mode]
}

func networkWords(p *config.Profile) string {
	switch {
	case p.Network.Mode == "none":
		return "no network"
	case p.Network.Mode == "host":
		return "this machine's own network"
	case p.Network.Allow != nil:
		return "a network of what is allowed"
	}
	return "a network without private addresses"
}

func (h *around) image() error {
	p := h.profile
	if p.Image == "host" {
		h.say("image", "host: this machine's own /usr and /etc, read-only")
		if p.File == "" {
			h.can("cove run --image debian:12 -- COMMAND", "take an image's files instead of this machine's")
		}
		return nil
	}
	state := ""
	if lock := lockStateOf(p); lock != nil && lock.Problem != "" {
		first, _, _ := strings.Cut(lock.Problem, "\n")
		state = "; " + first
	} else if lock != nil {
		state = ", locked"
	}
	h.say("image", "%s%s%s", escape(p.Image), state, h.stored())
	return nil
}

// stored says whether the image is there already. A store is not made for that.
func (h *around) stored() string {
	p := h.profile
	for _, path := range []string{"oci:", "oci-archive:", "docker-archive:", "dir:"} {
		if strings.HasPrefix(p.Image, path) {
			return ""
		}
	}
	dir, err := config.StoreDir(h.StoreDir, os.Getenv)
	if err != nil {
		return ""
	}
	if _, err := os.Stat(dir); err == nil {
		if s, err := h.OpenStore(); err == nil {
			if found, err := s.Find(storedName(s, p.Image)); err == nil && len(found) > 0 {
				return ""
			}
		}
	}
	return "; it is fetched at the first start"
}

func (h *around) trust() error {
	if h.profile.File == "" {
		return nil
	}
	t, err := start.OpenTrust()
	if err != nil {
		return err
	}
	d, err := t.Check(h.profile)
	if err != nil {
		return err
	}
	switch {
	case !d.Trusted && d.Known:
		h.say("trust", "it wants more than you agreed to: nothing runs before you have looked")
		h.can("cove trust", "see what it wants now, and agree to it or not")
	case !d.Trusted:
		h.say("trust", "nobody agreed to what it grants yet: nothing runs before")
		h.can("cove trust", "see what it wants, and agree to it or not")
	case len(d.Kept) == 0:
		h.say("trust", "it wants nothing beyond its own folder")
	case len(d.Kept) == 1:
		h.say("trust", "you agreed to the one thing that it grants; `cove explain` tells it")
	default:
		h.say("trust", "you agreed to the %d things that it grants; `cove explain` tells each", len(d.Kept))
	}
	return nil
}

func (h *around) repository() error {
	r := h.profile.Repository
	if r == nil {
		return nil
	}
	if mode := h.profile.RepositoryMode(); mode != "none" {
		h.say("git", "its repository %s is outside, and inside too (%s)", quote(r.Common), mode)
		return nil
	}
	h.say("git", "its repository %s is outside, and not inside", quote(r.Common))
	h.can("cove run --repository ro -- COMMAND", "have the git repository inside")
	return nil
}

func (h *around) running() error {
	dir, err := config.RuntimeDir(os.Getenv)
	if err != nil {
		return err
	}
	running, err := sandbox.List(dir)
	if err != nil {
		return err
	}
	enter := "enter a sandbox of it; a second one joins the first"
	for _, s := range running {
		if h.profile.Dir == "" || string(s.Project) != h.profile.Dir {
			continue
		}
		how := "`cove exec " + s.Name + " COMMAND` runs one more command in it"
		if s.Shell {
			how, enter = "`cove shell` joins it", "join the sandbox "+s.Name
		}
		h.say("running", "%s since %s; %s", s.Name, s.Started.Format("15:04"), how)
	}
	h.can("cove shell", enter)
	h.can("cove run -- COMMAND", "one command in a fresh sandbox, gone afterwards")
	if h.profile.Dir != "" {
		h.can("cove try -- COMMAND", "the same for what is not trusted: look at what it changed, then keep it or not")
	}
	return nil
}

// review says whether changes wait.
func (h *around) review() error {
	dir, err := config.StoreDir(h.StoreDir, os.Getenv)
	if err != nil || h.profile.Dir == "" {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "reviews")); err != nil {
		return nil // nothing ever was under review
	}
	s, err := review.Open(dir, h.profile.Dir)
	var inUse *review.InUseError
	switch {
	case errors.As(err, &inUse):
		h.say("review", "a sandbox works on a view of it")
		return nil
	case err != nil:
		return nil // there is none; and who wants to look at a broken one is told by `cove diff`
	}
	defer s.Close()
	if s.Changed() {
		h.say("review", "changes wait for you")
		h.next = slices.Insert(h.next, 0, [2]string{"cove diff", "look at what waits; then `cove apply` or `cove discard`"})
	}
	return nil
}

func (h *around) String() string {
	var b strings.Builder
	for _, l := range h.about {
		fmt.Fprintf(&b, "%-8s %s\n", l[0], l[1])
	}
	b.WriteByte('\n')
	width := 0
	for _, l := range h.next {
		width = max(width, len(l[0]))
	}
	for _, l := range append(h.next, [2]string{"cove help", "every command and topic"}) {
		fmt.Fprintf(&b, "%-*s  %s\n", width, l[0], l[1])
	}
	return b.String()
}
