package fetch

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"cove/fetch/oci"
)

// change is one line of a Dockerfile that says how an image is run.
type change struct {
	key   string
	value string
	argv  []string // of CMD and ENTRYPOINT, VOLUME and EXPOSE
	pairs [][2]string
}

// changeKeys are those that there are.
var changeKeys = []string{"CMD", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"}

// ParseChange tells what is wrong with a change, if anything is.
func ParseChange(text string) error {
	_, err := parseChange(text)
	return err
}

func parseChanges(texts []string) ([]change, error) {
	var out []change
	for _, text := range texts {
		c, err := parseChange(text)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// parseChange reads "KEY VALUE" or "KEY=VALUE", as podman and docker take them.
func parseChange(text string) (change, error) {
	i := strings.IndexAny(text, "= \t")
	if i < 0 {
		i = len(text)
	}
	c := change{key: strings.ToUpper(text[:i])}
	bad := func(why string) (change, error) { return c, fmt.Errorf("change %s: %s", oci.Short(text), why) }
	if !slices.Contains(changeKeys, c.key) {
		return bad("begins with none of " + strings.Join(changeKeys, ", "))
	}
	if i < len(text) {
		c.value = strings.TrimSpace(text[i+1:])
	}
	if strings.IndexByte(c.value, 0) >= 0 {
		return bad("holds a NUL")
	}
	switch c.key {
	case "CMD", "ENTRYPOINT":
		// A list is a command; anything else is a shell's; nothing is none.
		if strings.HasPrefix(c.value, "[") {
			if err := json.Unmarshal([]byte(c.value), &c.argv); err != nil {
				return bad("want a list of strings, as [\"ls\", \"-l\"]")
			}
		} else if c.value != "" {
			c.argv = []string{"/bin/sh", "-c", c.value}
		}
		return c, nil
	case "ENV", "LABEL":
		pair, err := keyValue(c.value)
		if err != "" {
			return bad(err)
		}
		c.pairs = [][2]string{pair}
		return c, nil
	}
	if c.value == "" {
		return bad("needs a value")
	}
	switch c.key {
	case "WORKDIR":
		if strings.Contains(c.value, "\n") {
			return bad("a folder's name of several lines")
		}
	case "EXPOSE", "VOLUME":
		if strings.HasPrefix(c.value, "[") {
			if err := json.Unmarshal([]byte(c.value), &c.argv); err != nil {
				return bad("want words, or a list of strings")
			}
		} else {
			c.argv = strings.Fields(c.value)
		}
	}
	return c, nil
}

// keyValue reads K=V, with V in quotes or not, or "K V".
func keyValue(s string) (pair [2]string, problem string) {
	i := strings.IndexAny(s, "= \t")
	if i <= 0 {
		return pair, "want K=V"
	}
	v := s[i+1:]
	if s[i] != '=' {
		v = strings.TrimSpace(v)
	}
	if len(v) >= 2 && (v[0] == '"' || v[0] == '\'') && v[len(v)-1] == v[0] {
		v = v[1 : len(v)-1]
	}
	return [2]string{s[:i], v}, ""
}

// apply changes c, without changing what other configs share with it.
func (ch change) apply(c *oci.ImageConfig) {
	switch ch.key {
	case "CMD":
		c.Cmd = ch.argv
	case "ENTRYPOINT":
		c.Entrypoint = ch.argv
	case "ENV":
		for _, p := range ch.pairs {
			env := slices.DeleteFunc(slices.Clone(c.Env), func(e string) bool { return strings.HasPrefix(e, p[0]+"=") })
			c.Env = append(env, p[0]+"="+p[1])
		}
	case "LABEL":
		labels := map[string]string{}
		maps.Copy(labels, c.Labels)
		for _, p := range ch.pairs {
			labels[p[0]] = p[1]
		}
		c.Labels = labels
	case "USER":
		c.User = ch.value
	case "STOPSIGNAL":
		c.StopSignal = ch.value
	case "WORKDIR":
		dir := ch.value
		if !path.IsAbs(dir) {
			dir = path.Join("/", c.WorkingDir, dir)
		}
		c.WorkingDir = path.Clean(dir)
	case "EXPOSE":
		c.ExposedPorts = with(c.ExposedPorts, ch.argv)
	case "VOLUME":
		c.Volumes = with(c.Volumes, ch.argv)
	}
}

func with(set map[string]struct{}, words []string) map[string]struct{} {
	out := map[string]struct{}{}
	maps.Copy(out, set)
	for _, w := range words {
		out[w] = struct{}{}
	}
	return out
}
