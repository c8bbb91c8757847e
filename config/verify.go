package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// setVerify reads the keys at once, as setSeccomp does its file. It adds to what others demand; an empty list adds nothing.
// What the project's profile names elsewhere on this machine is read when the profile is trusted, by ReadKeys: until then
// it does not even have a file opened.
func setVerify(p *Profile, c *change) {
	list, ok := c.list(`["keys/release.pub"]`)
	d := Demand{Origin: c.origin(c.key)}
	for i, s := range list {
		file, err := keyFile(s, c.base, p.home)
		k := Key{File: file}
		if err == nil && (d.Origin.Kind != FromProfile || p.within(file) != "") {
			k, err = readKey(file)
		} else if err == nil {
			p.unread = append(p.unread, unreadKey{file: file, key: elementOf(c.key, i), text: s, origin: c.origin(elementOf(c.key, i))})
		}
		if err != nil {
			c.bad(elementOf(c.key, i), s, "%v", bare(err))
			ok = false
		}
		d.Keys = append(d.Keys, k)
	}
	if ok && len(list) > 0 {
		p.Verify = append(p.Verify, d)
		c.from(p)
	}
}

// NameOfOrigin is who asks for something, for a message: the flag, or the place in a file.
func (p *Profile) NameOfOrigin(o Origin) string {
	if o.Kind == FromFlag {
		return o.Flag
	}
	return p.briefly(o)
}

// unreadKey is a key's file that was not looked at yet, and who named it.
type unreadKey struct {
	file, key, text string
	origin          Origin
}

// ReadKeys reads the keys that Load has left: those that the project's profile names outside of the project. It is for
// when the profile is trusted. The error is a *ProfileError.
func (p *Profile) ReadKeys() error {
	e := &ProfileError{File: p.File}
	for _, u := range p.unread {
		k, err := readKey(u.file)
		if err != nil {
			c := &change{}
			c.bad(u.key, u.text, "%v", bare(err))
			e.Mistakes = append(e.Mistakes, Mistake{File: p.shownAs(u.origin.File), Line: u.origin.Line, Col: u.origin.Col, Text: c.wrong[0].text})
			continue
		}
		for _, d := range p.Verify {
			for i := range d.Keys {
				if d.Keys[i].File == u.file {
					d.Keys[i] = k
				}
			}
		}
	}
	if len(e.Mistakes) > 0 {
		return e
	}
	p.unread = nil
	return nil
}

// keyFile makes the name of a key's file absolute.
func keyFile(name, base, home string) (string, error) {
	if name != "" && !filepath.IsAbs(name) && !strings.HasPrefix(name, "~") && !strings.HasPrefix(name, "./") && !strings.HasPrefix(name, "../") {
		name = "./" + name // it can be nothing but a file
	}
	return parseSource(name, base, home)
}

func readKey(file string) (Key, error) {
	data, err := readOwned(file, true)
	if err == nil && len(data) == 0 {
		err = errors.New("is empty")
	}
	return Key{File: file, Data: data}, err
}

// ReadDemand reads keys that were named by hand, on a line that has no profile.
func ReadDemand(flag string, files []string) (Demand, error) {
	d := Demand{Origin: Origin{Kind: FromFlag, Flag: flag}}
	cwd, err := os.Getwd()
	if err != nil {
		return d, fmt.Errorf("find the current folder: %w", err)
	}
	for _, name := range files {
		file, err := keyFile(name, cwd, os.Getenv("HOME"))
		var k Key
		if err == nil {
			k, err = readKey(file)
		}
		if err != nil {
			return d, fmt.Errorf("%s %s: %w", flag, quotePlain(name), bare(err))
		}
		d.Keys = append(d.Keys, k)
	}
	return d, nil
}
