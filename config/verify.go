package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// setVerify reads the keys at once, as setSeccomp does its file. It adds to what others demand; an empty list adds nothing.
func setVerify(p *Profile, c *change) {
	list, ok := c.list(`["keys/release.pub"]`)
	d := Demand{Origin: c.origin(c.key)}
	for i, s := range list {
		k, err := readKey(s, c.base, p.home)
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

func readKey(name, base, home string) (Key, error) {
	if name != "" && !filepath.IsAbs(name) && !strings.HasPrefix(name, "~") && !strings.HasPrefix(name, "./") && !strings.HasPrefix(name, "../") {
		name = "./" + name // it can be nothing but a file
	}
	file, err := parseSource(name, base, home)
	if err != nil {
		return Key{}, err
	}
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
		k, err := readKey(name, cwd, os.Getenv("HOME"))
		if err != nil {
			return d, fmt.Errorf("%s %s: %w", flag, quotePlain(name), bare(err))
		}
		d.Keys = append(d.Keys, k)
	}
	return d, nil
}
