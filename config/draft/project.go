package draft

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"cove/config"
)

// project is a folder whose files are looked at.
type project struct{ dir string }

// has says whether one of these is a file there; a pattern is looked for in the folder alone.
func (p project) has(names ...string) bool {
	for _, name := range names {
		if matches, _ := filepath.Glob(filepath.Join(quoteGlob(p.dir), name)); len(matches) > 0 {
			for _, m := range matches {
				if _, err := config.ReadHint(m); err == nil {
					return true
				}
			}
		}
	}
	return false
}

func quoteGlob(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// text is what a file holds; "" when it is not there, is no regular file, or is too large to be a person's.
func (p project) text(name string) string {
	data, err := config.ReadHint(filepath.Join(p.dir, name))
	if err != nil {
		return ""
	}
	return string(data)
}

// Project is a profile for the project in a folder, and the name of its tool; "" when none is known.
func Project(dir string) (*Draft, string, error) {
	if _, err := filepath.EvalSymlinks(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("look at the project: %w", err)
	}
	p := project{dir}
	d := &Draft{User: "root", Image: "host", Why: "this machine's own /usr, /etc, /opt and /nix, read-only"}
	var name string
	var others []string
	for _, t := range tools() {
		if !p.has(t.files...) {
			continue
		}
		if name == "" {
			name = t.name
			d.tool(p, t)
			continue
		}
		if len(t.allow(p)) > 0 { // a Makefile is everywhere
			others = append(others, t.name)
		}
	}
	d.About = []string{"What `cove shell` and `cove run` give this project. See `cove help profile`."}
	if name != "" {
		d.About = []string{fmt.Sprintf("What `cove shell` and `cove run` give this %s project. See `cove help profile`.", name)}
	}
	if len(others) > 0 {
		d.Else = append(d.Else, "Also here: "+strings.Join(others, ", ")+". What the image lacks of it, setup can add (`cove help setup`).")
	}
	d.otherImages(p, name)
	if name == "" {
		d.Else = append(d.Else, `image = "docker.io/library/debian:bookworm"   has tools of its own`)
	} else {
		d.Tail = append(d.Tail, "`cove lock` pins the image by its digest, in cove.lock. What this grants is asked for once: `cove explain` tells it.")
	}
	return d, name, nil
}

// tool fills in what is known of a tool.
func (d *Draft) tool(p project, t tool) {
	image, why := t.image(p)
	d.Image, d.Why = "docker.io/"+image, why
	d.Allow = t.allow(p)
	d.AllowIs = t.allowIs
	d.Set = t.set
	d.Caches = []string{"What " + t.caches + " fetches is kept in it, and shared with no other project."}
	if t.port != "" {
		d.Tail = append(d.Tail, fmt.Sprintf("A server that listens inside is reached from here with publish = [%q] in [network].", t.port))
	}
}

// otherImages takes the image that a devcontainer.json or a Dockerfile names where nothing else is known, and tells of it else.
func (d *Draft) otherImages(p project, known string) {
	for _, name := range devcontainers {
		text := p.text(name)
		if text == "" {
			continue
		}
		d.Else = append(d.Else, fmt.Sprintf("`cove import %s` makes a profile of that file.", name))
		c, err := decodeJSONC([]byte(text))
		if image, _ := c["image"].(string); err == nil && known == "" && imageRef(image) != "" {
			d.Image, d.Why = imageRef(image), "as "+name+" has it"
			return
		}
		break
	}
	for _, name := range []string{"Dockerfile", "Containerfile"} {
		from := fromOf(p.text(name))
		switch {
		case from == "":
		case known == "" && d.Image == "host":
			d.Image, d.Why = from, "what the "+name+" begins with"
		default:
			d.Else = append(d.Else, fmt.Sprintf("image = %s   is what the %s begins with", config.TOML(from), name))
		}
	}
}

// fromOf is the image that a Dockerfile's last stage begins with, where that is named outright; "" else.
func fromOf(dockerfile string) string {
	stages := map[string]string{}
	last := ""
	for line := range strings.Lines(dockerfile) {
		words := strings.Fields(line)
		if len(words) < 2 || !strings.EqualFold(words[0], "from") {
			continue
		}
		words = words[1:]
		for len(words) > 1 && strings.HasPrefix(words[0], "--") {
			words = words[1:]
		}
		last = words[0]
		if base, isStage := stages[strings.ToLower(last)]; isStage {
			last = base
		}
		if len(words) == 3 && strings.EqualFold(words[1], "as") {
			stages[strings.ToLower(words[2])] = last
		}
	}
	return imageRef(last)
}

// imageRef is the reference of an image of a registry, "" when it is none: a variable, a stage, scratch.
func imageRef(text string) string {
	ref, err := config.RegistryImage(text)
	if err != nil || text == "scratch" {
		return ""
	}
	return ref
}
