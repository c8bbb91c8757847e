package start

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"cove/config"
	"cove/sandbox"
)

// profileFlags turns what was typed into values above the profile's.
func (c *Call) profileFlags(l Line) ([]config.Flag, error) {
	var out []config.Flag
	if c.Command == "try" {
		// Below what is typed, and above all files.
		for _, f := range [][2]string{{"workspace.mode", "review"}, {"home.mode", "temp"}, {"network.mode", "none"}} {
			out = append(out, config.Flag{Name: "cove try", Key: f[0], Value: f[1]})
		}
		out = append(out, config.Flag{Name: "cove try", Key: "persist", Value: false})
	}
	for _, f := range [][2]string{
		{"image", "image"}, {"workspace", "workspace.mode"}, {"repository", "workspace.repository"}, {"home", "home.mode"}, {"network", "network.mode"}, {"driver", "network.driver"},
		{"memory", "limits.memory"}, {"cpus", "limits.cpus"}, {"pids-limit", "limits.pids"}, {"timeout", "limits.timeout"},
	} {
		if l.IsSet(f[0]) {
			out = append(out, config.Flag{Name: "--" + f[0], Key: f[1], Value: l.String(f[0])})
		}
	}
	if keys := l.Words("verify-key"); len(keys) > 0 {
		out = append(out, config.Flag{Name: "--verify-key", Key: "verify", Value: keys})
	}
	for _, v := range l.Words("volume") {
		m, err := parseVolume(v)
		if err != nil {
			return nil, Usagef("--volume %s: %v", strconv.Quote(v), err)
		}
		out = append(out, config.Flag{Name: "--volume", Key: "mount", Value: m})
	}
	for _, v := range l.Words("mount") {
		m, tmp, err := parseMount(v)
		if err != nil {
			return nil, Usagef("--mount %s: %v", strconv.Quote(v), err)
		}
		if tmp == nil {
			out = append(out, config.Flag{Name: "--mount", Key: "mount", Value: *m})
		}
	}
	for _, v := range l.Words("security-opt") {
		f, err := parseSecurityOpt(v)
		if err != nil {
			return nil, Usagef("--security-opt %s: %v", strconv.Quote(v), err)
		}
		out = append(out, f)
	}
	if words := l.Words("setup"); len(words) > 0 {
		out = append(out, config.Flag{Name: "--setup", Key: "setup", Value: words})
	}
	if l.IsSet("persist") {
		out = append(out, config.Flag{Name: "--persist", Key: "persist", Value: l.Bool("persist")})
	}
	if l.IsSet("nested") {
		out = append(out, config.Flag{Name: "--nested", Key: "security.nested", Value: l.Bool("nested")})
	}
	for _, f := range [][2]string{{"allow", "network.allow"}, {"deny", "network.deny"}, {"host-port", "network.host_ports"}} {
		list := l.Words(f[0])
		if len(list) == 0 {
			continue
		}
		if !l.IsSet("network") { // whoever names what is to be reached means a network
			out = append(out, config.Flag{Name: "--" + f[0], Key: "network.mode", Value: "user"})
		}
		out = append(out, config.Flag{Name: "--" + f[0], Key: f[1], Value: list, Add: true})
	}
	if list := l.Words("ssh-agent"); len(list) > 0 {
		out = append(out, config.Flag{Name: "--ssh-agent", Key: "host.ssh_agent.keys", Value: list, Add: true})
	}
	if l.IsSet("ssh-agent-confirm") {
		out = append(out, config.Flag{Name: "--ssh-agent-confirm", Key: "host.ssh_agent.confirm", Value: l.Bool("ssh-agent-confirm")})
	}
	if list := l.Words("git-credentials"); len(list) > 0 {
		out = append(out, config.Flag{Name: "--git-credentials", Key: "host.git.credentials", Value: list, Add: true})
	}
	for _, f := range [][2]string{{"git", "host.git.identity"}, {"browser", "host.browser"}, {"notify", "host.notify"}, {"wayland", "host.wayland"}} {
		if l.IsSet(f[0]) {
			out = append(out, config.Flag{Name: "--" + f[0], Key: f[1], Value: l.Bool(f[0])})
		}
	}
	if list := l.Words("gpu"); len(list) > 0 {
		out = append(out, config.Flag{Name: "--gpu", Key: "host.gpu", Value: list, Add: true})
	}
	for _, name := range []string{"audio", "x11"} {
		if l.IsSet(name) {
			out = append(out, config.Flag{Name: "--" + name, Key: "host." + name, Value: l.String(name)})
		}
	}
	if l.IsSet("learn-network") {
		if how := l.String("learn-network"); how != "refuse" && how != "allow" {
			return nil, Usagef("--learn-network=%s: unknown (refuse, allow)", how)
		}
		if !l.IsSet("network") {
			out = append(out, config.Flag{Name: "--learn-network", Key: "network.mode", Value: "user"})
		}
	}
	if list := l.Words("publish"); len(list) > 0 {
		out = append(out, config.Flag{Name: "--publish", Key: "network.publish", Value: list, Add: true})
	}
	variables, err := envFlags(l)
	return append(out, variables...), err
}

// parseVolume reads SRC:DST[:OPTIONS]. A backslash before a colon or a backslash takes away its meaning, and only there.
func parseVolume(text string) (config.Mount, error) {
	parts := splitColons(text)
	m := config.Mount{}
	switch len(parts) {
	case 2:
	case 3:
		for _, o := range strings.Split(parts[2], ",") {
			if o != "ro" && o != "rw" || m.Mode != "" && m.Mode != o {
				return m, fmt.Errorf("unknown option %q (ro, rw); a colon in a path is written \\:", o)
			}
			m.Mode = o
		}
	default:
		return m, fmt.Errorf("want SRC:DST[:ro|:rw]; a colon in a path is written \\:")
	}
	m.Source, m.Target = parts[0], parts[1]
	if m.Source == "" || m.Target == "" {
		return m, fmt.Errorf("want SRC:DST[:ro|:rw]")
	}
	if !strings.ContainsAny(m.Source, "/") && m.Source != "." && m.Source != ".." && m.Source != "~" {
		return m, fmt.Errorf("there are no named volumes; a folder here is written ./%s", m.Source)
	}
	return m, nil
}

// splitColons parts text at the colons that no backslash protects.
func splitColons(text string) []string {
	parts := []string{""}
	last := &parts[0]
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text) && (text[i+1] == ':' || text[i+1] == '\\'):
			i++
			*last += text[i : i+1]
		case text[i] == ':':
			parts = append(parts, "")
			last = &parts[len(parts)-1]
		default:
			*last += text[i : i+1]
		}
	}
	return parts
}

// parseMount reads key=value pairs as docker's --mount has them: CSV, so that quotes protect a comma.
func parseMount(text string) (*config.Mount, *sandbox.Tmpfs, error) {
	r := csv.NewReader(strings.NewReader(text))
	fields, err := r.Read()
	if err != nil {
		return nil, nil, fmt.Errorf("want key=value,key=value: %w", err)
	}
	m, tmp, kind := config.Mount{}, sandbox.Tmpfs{Mode: 0o1777}, "bind"
	for _, f := range fields {
		key, value, _ := strings.Cut(f, "=")
		switch key {
		case "type":
			kind = value
		case "src", "source":
			m.Source = value
		case "dst", "destination", "target":
			m.Target = value
		case "ro", "readonly", "rw":
			mode := "ro"
			if (key == "rw") != (value == "false") {
				mode = "rw"
			}
			if value != "" && value != "true" && value != "false" {
				return nil, nil, fmt.Errorf("%s is true or false, not %q", key, value)
			}
			m.Mode = mode
		case "size", "tmpfs-size", "mode", "tmpfs-mode":
			if err := tmpfsOption(&tmp, strings.TrimPrefix(key, "tmpfs-"), value); err != nil {
				return nil, nil, err
			}
		default:
			known := []string{"type", "source", "target", "src", "dst", "readonly", "ro", "size", "mode"}
			if near := config.Nearest(key, known); near != "" {
				return nil, nil, fmt.Errorf("unknown key %q; did you mean %q?", key, near)
			}
			return nil, nil, fmt.Errorf("unknown key %q (type, src, dst, ro, size, mode)", key)
		}
	}
	switch {
	case m.Target == "":
		return nil, nil, fmt.Errorf("dst is missing")
	case kind == "tmpfs" && m.Source == "" && m.Mode != "ro":
		tmp.Target = m.Target
		return nil, &tmp, nil
	case kind == "tmpfs":
		return nil, nil, fmt.Errorf("a tmpfs has no source and is writable")
	case kind != "bind":
		return nil, nil, fmt.Errorf("unknown type %q (bind, tmpfs)", kind)
	case m.Source == "":
		return nil, nil, fmt.Errorf("src is missing")
	case tmp != (sandbox.Tmpfs{Mode: 0o1777}):
		return nil, nil, fmt.Errorf("size and mode are for type=tmpfs")
	}
	return &m, nil, nil
}

// parseSecurityOpt reads one of podman's options that cove has a meaning for.
func parseSecurityOpt(text string) (config.Flag, error) {
	f := config.Flag{Name: "--security-opt"}
	name, value, given := cutAny(text, "=:")
	switch {
	case name == "seccomp" && value == "unconfined":
		return f, fmt.Errorf("there is always a filter; seccomp=FILE makes it another one")
	case name == "seccomp" && value == "":
		return f, fmt.Errorf("want seccomp=FILE")
	case name == "seccomp":
		f.Key, f.Value = "security.seccomp", value
		return f, nil
	case name == "no-new-privileges" && (!given || value == "true" || value == "false"):
		f.Key, f.Value = "security.new_privileges", value == "false"
		return f, nil
	case name == "no-new-privileges":
		return f, fmt.Errorf("%s is true or false, not %q", name, value)
	}
	known := []string{"seccomp", "no-new-privileges"}
	if near := config.Nearest(name, known); near != "" {
		return f, fmt.Errorf("unknown option; did you mean %q?", near)
	}
	return f, fmt.Errorf("unknown option (seccomp=FILE, no-new-privileges)")
}

// cutAny is strings.Cut at the first of several separators.
func cutAny(s, separators string) (before, after string, found bool) {
	if i := strings.IndexAny(s, separators); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// tmpfsFlags are --tmpfs and the --mount that are one.
func tmpfsFlags(l Line) ([]sandbox.Tmpfs, error) {
	var out []sandbox.Tmpfs
	for _, v := range l.Words("tmpfs") {
		parts := splitColons(v)
		t := sandbox.Tmpfs{Target: parts[0], Mode: 0o1777}
		if len(parts) > 2 {
			return nil, Usagef("--tmpfs %s: want DST[:size=N,mode=M]; a colon in a path is written \\:", strconv.Quote(v))
		}
		if len(parts) == 2 {
			for _, o := range strings.Split(parts[1], ",") {
				key, value, _ := strings.Cut(o, "=")
				if err := tmpfsOption(&t, key, value); err != nil {
					return nil, Usagef("--tmpfs %s: %v", strconv.Quote(v), err)
				}
			}
		}
		out = append(out, t)
	}
	for _, v := range l.Words("mount") {
		if _, t, err := parseMount(v); err == nil && t != nil {
			out = append(out, *t)
		}
	}
	for i, t := range out {
		if !strings.HasPrefix(t.Target, "/") || strings.Contains(t.Target, "\x00") {
			return nil, Usagef("--tmpfs %s: want an absolute path inside", strconv.Quote(t.Target))
		}
		for _, o := range out[:i] {
			if o.Target == t.Target {
				return nil, Usagef("--tmpfs %s: given twice", strconv.Quote(t.Target))
			}
		}
	}
	return out, nil
}

func tmpfsOption(t *sandbox.Tmpfs, key, value string) error {
	switch key {
	case "size":
		n, err := parseSize(value)
		if err != nil {
			return err
		}
		t.SizeBytes = n
	case "mode":
		n, err := strconv.ParseUint(value, 8, 32)
		if err != nil || n > 0o7777 {
			return fmt.Errorf("mode %q is not octal permissions such as 1777", value)
		}
		t.Mode = uint32(n)
	default:
		return fmt.Errorf("unknown option %q (size, mode)", key)
	}
	return nil
}

// parseSize reads 64m, 1GiB, 4096: powers of 1024, as for docker's and mount's own size options.
func parseSize(text string) (int64, error) {
	number := strings.TrimRight(text, "kKmMgGtTiIbB")
	unit := strings.ToLower(text[len(number):])
	unit = strings.TrimSuffix(strings.TrimSuffix(unit, "b"), "i")
	shift, ok := map[string]int{"": 0, "k": 10, "m": 20, "g": 30, "t": 40}[unit]
	n, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil || n <= 0 || n > (1<<62)>>shift {
		return 0, fmt.Errorf("size %q is not a size such as 64m or 2GiB", text)
	}
	return n << shift, nil
}

// parseEntrypoint reads a program, or a JSON array of it and its arguments, as podman does.
func parseEntrypoint(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	if strings.HasPrefix(text, "[") {
		var argv []string
		if err := json.Unmarshal([]byte(text), &argv); err != nil {
			return nil, Usagef("--entrypoint %s: begins with [ and is no JSON array of strings", strconv.Quote(text))
		}
		return argv, nil
	}
	return []string{text}, nil
}

// Choice checks an option that is one of a few words.
func Choice(l Line, flag string, words ...string) (string, error) {
	got := l.String(flag)
	for _, w := range words {
		if got == w {
			return got, nil
		}
	}
	text := fmt.Sprintf("--%s=%s: unknown", flag, strconv.Quote(got))
	if near := config.Nearest(got, words); near != "" {
		text += "; did you mean " + strconv.Quote(near) + "?"
	}
	return "", Usagef("%s (%s)", text, strings.Join(words, ", "))
}
