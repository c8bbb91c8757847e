package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// LoadOptions is everything outside the profile that Load depends on.
type LoadOptions struct {
	Cwd         string              // the current folder
	Home        string              // $HOME, "" when it is not set
	AccountHome string              // the home folder as the user database has it, "" when unknown
	ProfileFlag string              // --profile FILE, "" to look for one
	Getenv      func(string) string // for XDG_CONFIG_HOME; nil means that nothing is set
	Flags       []Flag              // laid over the files, in this order

	text []byte // what the profile would hold, for CheckText
	uid  *int   // who we are, for tests
}

// Flag is one value given by hand, as Profile.Set takes it; with Add it is appended to a list.
type Flag struct {
	Name  string // as it is called: "--network"
	Key   string // "network.mode"
	Value any
	Add   bool
}

// DefaultOptions are the options as this process has them.
func DefaultOptions() (LoadOptions, error) {
	cwd, err := os.Getwd()
	if err != nil {
		return LoadOptions{}, fmt.Errorf("find the current folder: %w", err)
	}
	opts := LoadOptions{Cwd: cwd, Home: os.Getenv("HOME"), Getenv: os.Getenv}
	if account, err := user.LookupId(strconv.Itoa(os.Geteuid())); err == nil {
		opts.AccountHome = account.HomeDir
	}
	return opts, nil
}

// Load finds the profile, reads it and the user's own config.toml, and lays the flags on top. Whatever is wrong in
// them is told at once, as a *ProfileError. What the warnings say is true of the profile that is returned.
func Load(opts LoadOptions) (*Profile, []Warning, error) {
	if opts.Getenv == nil {
		opts.Getenv = func(string) string { return "" }
	}
	f := &finder{uid: os.Geteuid(), home: opts.Home, accountHome: opts.AccountHome}
	if opts.uid != nil {
		f.uid = *opts.uid
	}
	cwd, err := filepath.EvalSymlinks(opts.Cwd)
	if err != nil {
		return nil, nil, fmt.Errorf("find the current folder: %w", bare(err))
	}
	if cwd, err = filepath.Abs(cwd); err != nil {
		return nil, nil, fmt.Errorf("find the current folder: %w", err)
	}
	var at found
	if opts.text != nil {
		at = found{file: filepath.Join(cwd, FileName), dir: cwd, data: opts.text}
	} else if opts.ProfileFlag != "" {
		named := opts.ProfileFlag
		if !filepath.IsAbs(named) {
			named = filepath.Join(cwd, named)
		}
		at, err = f.named(named)
	} else {
		at, err = f.walk(cwd)
	}
	if err != nil {
		return nil, f.warnings, err
	}
	p := begin(at, cwd, opts.Home)
	if p.owners = []int{f.uid}; opts.ProfileFlag != "" {
		p.owners = append(p.owners, 0)
	}
	if why := f.never(at.dir); why != "" {
		p.Dir = ""
	}
	l := &loader{p: p, opts: opts, finder: f, at: at, failed: map[string]bool{}}
	l.user()
	l.project()
	p.file()
	l.flags()
	p.protectKeys()
	l.noWorkspace()
	l.repository()
	if !l.partial {
		dropped, wrong := p.check(l.failed)
		f.warnings = append(f.warnings, dropped...)
		l.mistakes = append(l.mistakes, wrong...)
	}
	if l.err != nil {
		return nil, f.warnings, l.err
	}
	if len(l.mistakes) > 0 {
		return nil, f.warnings, &ProfileError{File: p.File, Mistakes: l.mistakes}
	}
	return p, f.warnings, nil
}

// begin is the profile before anything was read.
func begin(at found, cwd, home string) *Profile {
	p := defaults()
	p.File, p.Dir, p.base, p.home, p.cwd = at.file, at.dir, at.dir, home, cwd
	if at.file != "" {
		p.hash = hashOf(at.data)
		p.Home.Mode = "project"
		p.Workspace.Protect = p.mustProtect()
	}
	return p
}

type loader struct {
	p        *Profile
	opts     LoadOptions
	finder   *finder
	at       found
	mistakes []Mistake
	failed   map[string]bool // keys with a mistake in their values
	partial  bool            // parts of a file were left out
	err      error
}

func (l *loader) read(r *reader, data []byte) {
	r.profile, r.failed = l.p, l.failed
	r.shown = l.p.shownAs(r.file)
	l.mistakes = append(l.mistakes, r.read(data)...)
	l.partial = l.partial || len(r.doc.mistakes) > 0
}

// user reads the user's own config.toml. It may be a link, as those who keep their settings elsewhere have it. One that
// cannot be trusted stops us: leaving it out could lose a protection that it asks for.
func (l *loader) user() {
	getenv := func(name string) string {
		if name == "HOME" {
			return l.opts.Home
		}
		return l.opts.Getenv(name)
	}
	dir, err := ConfigHome(getenv)
	if err != nil {
		return // no HOME, no file of the user's
	}
	file := filepath.Join(dir, "cove", "config.toml")
	data, err := readOwned(file, true, l.finder.uid, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist) || isAbsent(file):
		return
	case err != nil:
		l.err = fmt.Errorf("read your own defaults in %s: %w", showName(file), bare(err))
		return
	}
	l.read(&reader{kind: FromUser, file: file}, data)
}

func (l *loader) project() {
	if l.at.file == "" {
		return
	}
	if l.opts.ProfileFlag != "" {
		l.p.shown = l.opts.ProfileFlag
	}
	l.p.noteOwn()
	l.read(&reader{kind: FromProfile, file: l.at.file, base: l.p.base}, l.at.data)
}

func (l *loader) flags() {
	for _, f := range l.opts.Flags {
		c := &change{key: f.Key, value: f.Value, add: f.Add}
		var pe *ProfileError
		if err := l.p.change(c, Origin{Kind: FromFlag, Flag: f.Name}); errors.As(err, &pe) {
			l.mistakes = append(l.mistakes, pe.Mistakes...)
			l.failed[f.Key] = true
		}
	}
}

// noWorkspace takes the workspace away where the folder cannot be one. By hand it cannot be asked for either.
func (l *loader) noWorkspace() {
	p := l.p
	if p.Dir != "" || p.Workspace.Mode == "none" {
		return
	}
	l.failed["workspace.mode"] = true
	why := l.finder.never(l.at.dir)
	if o := p.OriginOf("workspace.mode"); o.Kind == FromFlag {
		l.mistakes = append(l.mistakes, Mistake{Flag: o.Flag, Text: fmt.Sprintf(
			"workspace.mode = %q: %s is %s, which is never a workspace (none)", p.Workspace.Mode, showName(l.at.dir), why)})
		return
	}
	p.Workspace.Mode = "none"
	p.Origin["workspace.mode"] = Origin{Kind: FromDefault}
	l.finder.warn("no workspace: %s is %s; start in a project's folder to have its files inside", showName(l.at.dir), why)
}

// shownAs is a file as the user would call it: as it was named, or from here when it lies below, else in full.
func (p *Profile) shownAs(file string) string {
	if file == p.File && p.shown != "" {
		return p.shown
	}
	if rel, err := filepath.Rel(p.cwd, file); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
		return rel
	}
	return file
}

// ShownAs is a file as the user would call it.
func (p *Profile) ShownAs(file string) string { return p.shownAs(file) }

// briefly is an origin for a message.
func (p *Profile) briefly(o Origin) string {
	if o.File != "" {
		o.File = p.shownAs(o.File)
	}
	return o.String()
}

// CheckText says what would be wrong with a profile in the current folder that held this text.
func CheckText(opts LoadOptions, text []byte) error {
	opts.text = append([]byte{}, text...)
	_, _, err := Load(opts)
	return err
}

// Find is the profile that Load would read, without links in its path; "" when there is none. Nothing in it is looked at.
func Find(opts LoadOptions) (string, error) {
	f := &finder{uid: os.Geteuid(), home: opts.Home, accountHome: opts.AccountHome}
	cwd, err := filepath.EvalSymlinks(opts.Cwd)
	if err != nil {
		return "", fmt.Errorf("find the current folder: %w", bare(err))
	}
	if opts.ProfileFlag == "" {
		at, err := f.walk(cwd)
		return at.file, err
	}
	named := opts.ProfileFlag
	if !filepath.IsAbs(named) {
		named = filepath.Join(cwd, named)
	}
	at, err := f.named(named)
	return at.file, err
}
