package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"cove/config"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

func (a *app) trustCommand() *cli.Command {
	return &cli.Command{
		Name:  "trust",
		Usage: "look at what the project's profile grants, and agree to it",
		UsageText: "cove trust [--show [--json] | --yes] [--profile FILE]\n" +
			"cove trust --list [--json]\ncove trust --revoke [PROJECT]\ncove trust --revoke --registry NAME",
		Flags: []cli.Flag{
			profileFlag(), jsonFlag(),
			&cli.BoolFlag{Name: "show", Usage: "print the grants, what was agreed to and when, and ask nothing"},
			&cli.BoolFlag{Name: "list", Usage: "print every profile and registry that you agreed to"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "agree without being asked, for scripts that have looked"},
			&cli.BoolFlag{Name: "revoke", Usage: "forget what was agreed to, for this project or the one in the folder PROJECT"},
			&cli.StringFlag{Name: "registry", Usage: "with --revoke: images from the registry `NAME` are asked for again"},
		},
		Action: a.action(a.trust),
	}
}

// errUntrusted says that a profile wants what nobody agreed to, and nobody can be asked.
type errUntrusted struct {
	file    string
	changed bool
}

func (e *errUntrusted) Error() string {
	if e.changed {
		return fmt.Sprintf("profile %q wants more than you agreed to", e.file)
	}
	return fmt.Sprintf("profile %q is not trusted: nobody agreed to what it grants", e.file)
}

var errDeclined = errors.New("not agreed to; nothing was done")

func (a *app) trust(c *cli.Context) error {
	if err := checkTrustWords(c); err != nil {
		return err
	}
	t, err := start.OpenTrust()
	if err != nil {
		return err
	}
	switch {
	case c.Bool("list"):
		return a.trustList(t, c.Bool("json"))
	case c.IsSet("registry"):
		return t.RevokeRegistry(c.String("registry"))
	case c.Bool("revoke"):
		return a.trustRevoke(t, c)
	}
	p, err := a.LoadProfile(line{c}, nil)
	if err != nil {
		return err
	}
	if p.File == "" {
		return start.ErrNoProfile
	}
	d, err := t.Check(p)
	if err != nil {
		return err
	}
	if c.Bool("show") {
		return a.trustShow(p, d, c.Bool("json"))
	}
	if _, err := a.Stdout.WriteString(grantsText(p, d, false)); err != nil || d.Trusted && !d.Changed && !d.Anew {
		return err
	}
	if !d.Trusted && !c.Bool("yes") {
		if err := a.ask(p.File, d, ""); err != nil {
			return err
		}
	}
	return t.Accept(p)
}

func checkTrustWords(c *cli.Context) error {
	chosen := 0
	for _, f := range []string{"show", "list", "yes", "revoke"} {
		if c.Bool(f) {
			chosen++
		}
	}
	switch n := c.Args().Len(); {
	case chosen > 1:
		return start.Usagef("--show, --list, --yes and --revoke exclude each other")
	case n > 0 && !c.Bool("revoke"):
		return start.Usagef("takes no arguments; --profile FILE names a profile")
	case n > 1 || n == 1 && (c.IsSet("registry") || c.IsSet("profile")):
		return start.Usagef("--revoke takes one project, or --profile FILE, or --registry NAME")
	case c.IsSet("registry") && (!c.Bool("revoke") || c.IsSet("profile")):
		return start.Usagef("--registry goes with --revoke alone")
	case c.Bool("json") && !c.Bool("show") && !c.Bool("list"):
		return start.Usagef("--json goes with --show and --list")
	}
	return nil
}

// trustShow prints what was agreed to, and how what is wanted now differs.
func (a *app) trustShow(p *config.Profile, d config.Decision, asJSON bool) error {
	if asJSON {
		type agreed struct {
			Time time.Time `json:"time"`
			Hash string    `json:"hash"`
		}
		out := struct {
			File    string         `json:"file"`
			Hash    string         `json:"hash"`
			Trusted bool           `json:"trusted"`
			Changed bool           `json:"changed"` // the file's bytes, since it was agreed to
			Agreed  *agreed        `json:"agreed,omitempty"`
			New     []config.Grant `json:"new"`
			Kept    []config.Grant `json:"kept"`
			Gone    []config.Grant `json:"gone"`
			Own     []config.Grant `json:"own"`
		}{p.File, p.Hash(), d.Trusted, d.Changed, nil, notNil(d.New), notNil(d.Kept), notNil(d.Gone), notNil(d.Own)}
		if d.Known {
			out.Agreed = &agreed{d.Agreed, d.Hash}
		}
		return writeJSON(a.Stdout, out)
	}
	text := grantsText(p, d, true)
	if d.Known {
		text += fmt.Sprintf("agreed to at %s; profile sha256:%s", d.Agreed.Local().Format(time.DateTime), escape(d.Hash))
		if d.Changed {
			text += ", now sha256:" + p.Hash()
		}
		text += "\n"
	}
	_, err := a.Stdout.WriteString(text)
	return err
}

func (a *app) trustList(t *config.Trust, asJSON bool) error {
	records, err := t.List()
	if err != nil {
		return err
	}
	registries, err := t.Registries()
	if err != nil {
		return err
	}
	if asJSON {
		type entry struct {
			File   string         `json:"file"`
			Hash   string         `json:"hash"`
			Time   time.Time      `json:"time"`
			Grants []config.Grant `json:"grants"`
		}
		out := struct {
			Profiles   []entry  `json:"profiles"`
			Registries []string `json:"registries"`
		}{[]entry{}, append([]string{}, registries...)}
		for _, r := range records {
			out.Profiles = append(out.Profiles, entry{r.Path, r.Hash, r.Time, notNil(r.Grants)})
		}
		return writeJSON(a.Stdout, out)
	}
	rows := [][]string{}
	for _, r := range records {
		rows = append(rows, []string{r.Path, fmt.Sprint(len(r.Grants)), r.Time.Local().Format(time.DateTime), short("sha256:" + r.Hash)})
	}
	for _, r := range registries {
		rows = append(rows, []string{r, "registry", "", ""})
	}
	return writeTable(a.Stdout, []string{"PROFILE", "GRANTS", "AGREED TO", "HASH"}, rows)
}

// trustRevoke forgets what was agreed to for a project. It need not be there any more, and what its profile says is not
// looked at.
func (a *app) trustRevoke(t *config.Trust, c *cli.Context) error {
	if c.Args().Len() == 0 {
		opts, err := config.DefaultOptions()
		if err != nil {
			return err
		}
		opts.ProfileFlag = c.String("profile")
		file, err := config.Find(opts)
		if err == nil && file == "" {
			err = start.ErrNoProfile
		}
		if err != nil {
			return err
		}
		return t.Revoke(file)
	}
	path, err := filepath.Abs(c.Args().First())
	if err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	} else if real, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil { // the project itself is gone
		path = filepath.Join(real, filepath.Base(path))
	}
	files, err := t.Below(path)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("revoke trust in %s: %w", quote(path), config.ErrNotTrusted)
	}
	for _, file := range files {
		if err := t.Revoke(file); err != nil {
			return err
		}
	}
	return nil
}

func notNil(g []config.Grant) []config.Grant {
	if g == nil {
		return []config.Grant{}
	}
	return g
}

// agree asks for what a profile wants, where somebody can answer.
func (a *app) agree(t *config.Trust, p *config.Profile, d config.Decision) error {
	if err := a.ask(p.File, d, grantsText(p, d, false)); err != nil {
		return err
	}
	return t.Accept(p)
}

// ask shows text and asks for a yes, on the terminal alone: what is piped into cove is no answer.
func (a *app) ask(file string, d config.Decision, text string) error {
	tty, question, done := a.terminal()
	if tty == nil {
		return &errUntrusted{file: file, changed: d.Known}
	}
	defer done()
	// What was typed before the question could be read is the answer to something else.
	_ = unix.IoctlSetInt(int(tty.Fd()), unix.TCFLSH, unix.TCIFLUSH)
	if _, err := io.WriteString(question, text+counted(d)+"Agree? [y/N] "); err != nil {
		return err
	}
	answer, err := readLine(a.Ctx, tty)
	if err != nil {
		fmt.Fprintln(question)
		return declinedOr(err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errDeclined
}

// declinedOr takes the end of the input for a no.
func declinedOr(err error) error {
	if errors.Is(err, io.EOF) {
		return errDeclined
	}
	return err
}

// terminal is where a person can be asked: stdin and stderr when both are one, else the terminal that stderr is.
func (a *app) terminal() (in, out *os.File, done func()) {
	if !isTerminal(a.Stderr) {
		return nil, nil, nil
	}
	if isTerminal(a.Stdin) {
		return a.Stdin, a.Stderr, func() {}
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, nil, nil
	}
	return tty, tty, func() { tty.Close() }
}

// readLine reads a line byte by byte: what comes after it is the command's. It is io.EOF where the input ends before the
// line does: what was typed and not sent is no answer. When ctx is done nobody is left reading, who would take the next answer.
func readLine(ctx context.Context, f *os.File) (string, error) {
	woken, wake, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer woken.Close()
	var once sync.Once
	end := func() { once.Do(func() { wake.Close() }) }
	defer end()
	defer context.AfterFunc(ctx, end)()
	var line bytes.Buffer
	one := make([]byte, 1)
	for {
		fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}, {Fd: int32(woken.Fd()), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return "", fmt.Errorf("wait for an answer: %w", err)
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if fds[0].Revents == 0 {
			continue
		}
		switch _, err := f.Read(one); {
		case err != nil:
			return "", err
		case one[0] == '\n':
			return line.String(), nil
		}
		line.WriteByte(one[0])
	}
}
