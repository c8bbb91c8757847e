package draft

import (
	"fmt"
	"strings"

	"cove/config"
)

// Draft is a profile that is to be written.
type Draft struct {
	About   []string // comments at the head
	Image   string
	Why     string   // why that image
	Else    []string // comments below it
	Command []string
	User    string
	At      string // workspace.at
	Caches  []string
	Allow   []Host
	AllowIs []string // comments above network.allow
	Publish []string
	Set     [][2]string
	Pass    []string
	Mounts  []config.Mount
	Mode    string      // of the network; "": what Allow and Publish need
	Limits  [][2]string // as TOML has them
	Caps    []string
	Tail    []string // comments at the end
}

// Host is a name that is to be reached, and what for.
type Host struct{ Name, For string }

// Text is the profile with its comments.
func (d *Draft) Text() []byte {
	w := &writer{}
	w.comments(d.About)
	w.line("")
	w.key("image", config.TOML(d.Image), d.Why)
	w.comments(d.Else)
	if len(d.Command) > 0 {
		w.key("command", config.TOML(d.Command), "what `cove shell` starts")
	}
	w.key("user", config.TOML(d.User), userIs[d.User])
	w.line("")
	w.line("[workspace]                        # this folder")
	w.key("mode", `"rw"`, "rw, ro, review (copy-on-write), none")
	if d.At != "" {
		w.key("at", config.TOML(d.At), "where it is inside")
	}
	w.line("# protect = " + config.TOML(config.DefaultProtect()) + "   # read-only even so")
	w.line("")
	w.line("[home]")
	w.key("mode", `"project"`, "project: kept for this project; temp: gone afterwards")
	w.comments(d.Caches)
	w.line("")
	d.network(w)
	d.env(w)
	if len(d.Limits) > 0 {
		w.line("")
		w.line("[limits]")
		for _, l := range d.Limits {
			w.key(l[0], l[1], "")
		}
	}
	if len(d.Caps) > 0 {
		w.line("")
		w.line("[security]")
		w.key("caps", config.TOML(d.Caps), "")
	}
	for _, m := range d.Mounts {
		w.line("")
		w.line("[[mount]]")
		w.line("source = " + config.TOML(m.Source))
		w.line("target = " + config.TOML(m.Target))
		w.line("mode   = " + config.TOML(m.Mode))
	}
	if len(d.Tail) > 0 {
		w.line("")
		w.comments(d.Tail)
	}
	return []byte(w.b.String())
}

var userIs = map[string]string{
	"root":  "root inside is you outside; me: your own name; image: the image's user",
	"me":    "your own name and number; root: root inside is you outside; image: the image's user",
	"image": "the image's USER; root: root inside is you outside; me: your own name",
}

func (d *Draft) network(w *writer) {
	w.line("[network]")
	if d.Mode == "host" {
		w.key("mode", `"host"`, "this machine's own network, with everything that listens on it")
		w.line("")
		return
	}
	if len(d.Allow) == 0 && len(d.Publish) == 0 || d.Mode == "none" {
		w.key("mode", `"none"`, "none, user (outward, no private addresses), host")
		w.line("# allow = [\"example.com:443\"]      # nothing but this; needs mode = \"user\"")
	} else {
		w.key("mode", `"user"`, "outward, to what allow lists and nothing else")
		w.comments(d.AllowIs)
		w.line("allow = [")
		width := 0
		for _, h := range d.Allow {
			width = max(width, len(config.TOML(h.Name)))
		}
		for _, h := range d.Allow {
			w.line(fmt.Sprintf("  %-*s # %s", width+1, config.TOML(h.Name)+",", h.For))
		}
		w.line("]")
	}
	if len(d.Publish) > 0 {
		w.key("publish", config.TOML(d.Publish), "ports that can be reached here, on 127.0.0.1")
	}
	w.line("")
}

func (d *Draft) env(w *writer) {
	w.line("[env]")
	if len(d.Set) == 0 {
		w.line("# set = { LANG = \"C.UTF-8\" }")
	} else {
		w.line("set = { " + inline(d.Set) + " }")
	}
	if len(d.Pass) == 0 {
		w.line("# pass = [\"EDITOR\"]                # from your environment, which does not come in otherwise")
	} else {
		w.line("pass = " + config.TOML(d.Pass))
	}
}

func inline(values [][2]string) string {
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = config.TOMLKey(v[0]) + " = " + config.TOML(v[1])
	}
	return strings.Join(parts, ", ")
}

type writer struct{ b strings.Builder }

func (w *writer) line(text string) { w.b.WriteString(text + "\n") }

func (w *writer) key(name, value, comment string) {
	text := name + " = " + value
	if comment != "" {
		text = fmt.Sprintf("%-34s # %s", text, comment)
	}
	w.line(text)
}

// comments are our own text; what is quoted in them was quoted when it was read.
func (w *writer) comments(lines []string) {
	for _, l := range lines {
		w.line("# " + l)
	}
}
