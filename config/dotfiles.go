package config

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Dotfile is a file or folder of the user's home that is shown in the home inside, at the same place and read-only.
type Dotfile struct {
	Name   string // relative to the home, clean
	Source string // the real path, without links; "" where there is none, and so none inside
	Home   string // the real home, which Source lies in
}

// setDotfiles finds out at once where each leads: what is shown and agreed to is what will be mounted.
func setDotfiles(p *Profile, c *change) {
	list, ok := c.list(`[".gitconfig", ".vimrc"]`)
	var all []Dotfile
	for i, s := range list {
		d, err := p.findDotfile(s)
		for _, other := range all {
			if err == nil && (inside(other.Name, d.Name) || inside(d.Name, other.Name)) {
				err = fmt.Errorf("%q is in the list too, and one holds the other", other.Name)
			}
		}
		if err != nil {
			c.bad(elementOf(c.key, i), s, "%v", err)
			ok = false
		}
		all = append(all, d)
	}
	if ok {
		replace(p, c, &p.Home.Dotfiles, all)
	}
}

func (p *Profile) findDotfile(text string) (Dotfile, error) {
	d, err := parseDotfile(text)
	if err != nil {
		return d, err
	}
	if !filepath.IsAbs(p.home) {
		return d, errors.New("HOME is not set to an absolute path")
	}
	if d.Home, err = filepath.EvalSymlinks(p.home); err != nil {
		return d, fmt.Errorf("find the home folder: %w", bare(err))
	}
	// A link to nothing is as good as nothing: it is not mounted, wherever it may lead later.
	real, err := filepath.EvalSymlinks(filepath.Join(d.Home, d.Name))
	if errors.Is(err, os.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return d, bare(err)
	}
	if real == d.Home || !inside(d.Home, real) {
		return d, fmt.Errorf("is a link to %s, outside your home; a [[mount]] can name that", quotePlain(real))
	}
	info, err := os.Lstat(real)
	if err != nil {
		return d, bare(err)
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return d, errors.New("is neither a file nor a folder")
	}
	d.Source = real
	return d, nil
}

func parseDotfile(text string) (Dotfile, error) {
	d := Dotfile{Name: path.Clean(text)}
	switch {
	case text == "":
		return d, errors.New("is empty")
	case strings.Contains(text, "\x00"):
		return d, errors.New("holds a NUL")
	case strings.HasPrefix(text, "~/"):
		return d, fmt.Errorf("is relative to your home already; write %q", path.Clean(text[2:]))
	case path.IsAbs(text) || text[0] == '~':
		return d, errors.New("want a path relative to your home, such as .gitconfig; a [[mount]] names others")
	case slices.Contains(strings.Split(text, "/"), ".."):
		return d, errors.New("leaves your home")
	case d.Name == ".":
		return d, errors.New("is the whole of your home: name what is needed")
	}
	for _, own := range []string{".config/cove", ".local/share/cove"} {
		if inside(own, d.Name) {
			return d, errors.New("is cove's own: what can write or read it is no sandbox any more")
		}
	}
	return d, nil
}

// secrets are files of a home that give away more than settings. Who is asked for one shall know what it is.
var secrets = []struct{ name, what string }{
	{".ssh", "private keys of SSH"},
	{".gnupg", "private keys of OpenPGP"},
	{".aws", "credentials of AWS"},
	{".azure", "credentials of Azure"},
	{".config/gcloud", "credentials of Google Cloud"},
	{".kube", "credentials of Kubernetes clusters"},
	{".docker/config.json", "passwords of registries"},
	{".config/containers/auth.json", "passwords of registries"},
	{".netrc", "passwords of servers"},
	{".git-credentials", "passwords of git servers"},
	{".config/git/credentials", "passwords of git servers"},
	{".config/gh", "tokens of GitHub"},
	{".config/glab-cli", "tokens of GitLab"},
	{".npmrc", "tokens of npm registries"},
	{".pypirc", "passwords of Python registries"},
	{".cargo/credentials", "tokens of Rust registries"},
	{".cargo/credentials.toml", "tokens of Rust registries"},
	{".gem/credentials", "tokens of Ruby registries"},
	{".m2/settings.xml", "passwords of Maven repositories"},
	{".composer/auth.json", "tokens of PHP registries"},
	{".terraform.d", "tokens of Terraform"},
	{".vault-token", "a token of Vault"},
	{".pgpass", "passwords of databases"},
	{".my.cnf", "passwords of databases"},
	{".password-store", "your passwords"},
	{".config/Bitwarden", "your passwords"},
	{".local/share/keyrings", "your passwords"},
	{".local/share/kwalletd", "your passwords"},
	{".mozilla", "what your browser is logged in to"},
	{".config/google-chrome", "what your browser is logged in to"},
	{".config/chromium", "what your browser is logged in to"},
	{".thunderbird", "your mail and its passwords"},
	{".bash_history", "what you typed, passwords perhaps among it"},
	{".zsh_history", "what you typed, passwords perhaps among it"},
	{".local/share/fish", "what you typed, passwords perhaps among it"},
	{".config/cove", "what you let sandboxes have"},
	{".local/share/cove", "what you let sandboxes have"},
}

// secretsIn says what of the list a file or folder of the home is, or holds; "" for nothing known.
func secretsIn(name string) string {
	var held []string
	for _, s := range secrets {
		switch {
		case inside(s.name, name):
			return s.what
		case path.Base(s.name) == "cove": // which no mount of a folder above it shows
		case inside(name, s.name) && !slices.Contains(held, s.what):
			held = append(held, s.what)
		}
	}
	if held == nil {
		return ""
	}
	return "there may be in it: " + strings.Join(held, ", ")
}

// dotfileGrants asks for each by the name that it has for its user, and where it is a link by what it leads to.
func (p *Profile) dotfileGrants(grant func(key, kind, format string, args ...any) *Grant) {
	for i, d := range p.Home.Dotfiles {
		text := "read " + quotePlain("~/"+d.Name) + " of this machine"
		what := secretsIn(d.Name)
		if real := strings.TrimPrefix(d.Source, d.Home+"/"); d.Source != "" && real != d.Name {
			text += ", a link to " + quotePlain("~/"+real)
			if its := secretsIn(real); its != "" {
				what = its
			}
		}
		if what != "" {
			text += " (" + what + ")"
		}
		g := grant(elementOf("home.dotfiles", i), GrantDotfile, "%s", text)
		if g.About = d.Name; d.Source != "" {
			g.mount = &Mount{Source: d.Source, Mode: "ro"} // for the paths that the user has approved
		}
	}
}

// secretMount says what a mount's source is, or holds, when it lies in the user's home.
func (p *Profile) secretMount(source string) string {
	home, err := filepath.EvalSymlinks(p.home)
	if err != nil || source != home && !inside(home, source) {
		return ""
	}
	what := ""
	if source == home {
		what = "your whole home, with all keys and passwords in it"
	} else {
		what = secretsIn(strings.TrimPrefix(source, home+"/"))
	}
	if what == "" {
		return ""
	}
	return " (" + what + ")"
}
