package draft

import (
	"strconv"
	"strings"
	"sync"

	"cove/config"
)

// mounts takes over folders of this machine. Volumes are what the project's home is.
func (i *importer) mounts(value any) {
	list, _ := value.([]any)
	for _, one := range list {
		fields := map[string]string{}
		switch m := one.(type) {
		case string:
			for part := range strings.SplitSeq(m, ",") {
				k, v, _ := strings.Cut(part, "=")
				fields[mountField(k)] = v
			}
		case map[string]any:
			for k, v := range m {
				if s, ok := v.(string); ok {
					fields[mountField(k)] = s
				}
			}
		}
		i.mount("mounts", fields)
	}
}

// mountField has one name for each of those that docker's --mount knows.
func mountField(name string) string {
	switch name {
	case "src":
		return "source"
	case "dst", "destination":
		return "target"
	case "ro":
		return "readonly"
	}
	return name
}

func (i *importer) mount(key string, fields map[string]string) {
	source, target := i.local(fields["source"]), fields["target"]
	isVolume := fields["type"] == "volume" || fields["type"] == "" && !strings.ContainsAny(fields["source"], "/$")
	mode := "rw"
	if v, ro := fields["readonly"]; ro && v != "false" {
		mode = "ro"
	}
	switch {
	case isVolume:
		i.leave(key, "%s is a volume; what is in the home is kept for the project anyway", plain(target))
	case fields["type"] == "tmpfs":
		i.leave(key, "%s: `cove run --tmpfs` makes one", plain(target))
	case fields["source"] == "" || strings.Contains(source, "$") || strings.ContainsAny(source+target, "\x00") || config.CheckTarget(target) != nil:
		i.leave(key, "%s at %s cannot be mounted", plain(fields["source"]), plain(target))
	case strings.HasSuffix(source, "/docker.sock"):
		i.leave(key, "%s: who has docker's socket is root outside", plain(fields["source"]))
	default:
		for _, m := range i.d.Mounts {
			if m.Target == target {
				i.leave(key, "%s: something is mounted there already", plain(target))
				return
			}
		}
		i.d.Mounts = append(i.d.Mounts, config.Mount{Source: source, Target: target, Mode: mode})
	}
}

// local writes what stands for folders of this machine as a profile does; "" is a path that none can have.
func (i *importer) local(source string) string {
	for variable, stands := range map[string]string{"${localWorkspaceFolder}": ".", "${localEnv:HOME}": "~", "${env:HOME}": "~"} {
		if rest, ok := strings.CutPrefix(source, variable); ok && (rest == "" || rest[0] == '/') {
			return stands + rest
		}
	}
	if strings.HasPrefix(source, "/") {
		return source
	}
	return "./" + strings.TrimPrefix(source, "./")
}

// runArgs are options of docker run: --name=value, --name value.
func (i *importer) runArgs(value any) {
	args := stringsOf(value)
	for n := 0; n < len(args); n++ {
		name, text, has := strings.Cut(args[n], "=")
		if !has && takesValue()[name] && n+1 < len(args) {
			n++
			text = args[n]
		}
		i.runArg(name, text)
	}
}

// takesValue are the options that are known and have a value; what is not known is told word by word.
var takesValue = sync.OnceValue(func() map[string]bool {
	return map[string]bool{"--network": true, "--net": true, "--cap-add": true, "--cap-drop": true, "--memory": true, "-m": true, "--cpus": true,
		"--pids-limit": true, "--publish": true, "-p": true, "--env": true, "-e": true, "--volume": true, "-v": true, "--mount": true,
		"--name": true, "--hostname": true, "-h": true, "--security-opt": true, "--shm-size": true, "--add-host": true, "--device": true,
		"--gpus": true, "--env-file": true, "--user": true, "-u": true, "--ipc": true, "--pid": true, "--userns": true, "--ulimit": true, "--label": true, "-l": true}
})

func (i *importer) runArg(name, text string) {
	const key = "runArgs"
	switch name {
	case "--network", "--net":
		switch text {
		case "none", "host":
			i.d.Mode = text
		default:
			i.leave(key, "--network %s: there are the modes none, user and host", plain(text))
		}
	case "--cap-add":
		i.cap(key, text)
	case "--memory", "-m":
		i.limit("memory", text, config.TOML(text))
	case "--cpus":
		n, _ := strconv.ParseFloat(text, 64) // TOML has no .5
		i.limit("cpus", text, strconv.FormatFloat(n, 'f', -1, 64))
	case "--pids-limit":
		n, _ := strconv.ParseFloat(text, 64)
		i.limit("pids", text, strconv.FormatFloat(n, 'f', 0, 64))
	case "--publish", "-p":
		i.ports(key, text)
	case "--env", "-e":
		k, v, set := strings.Cut(text, "=")
		if !set {
			v = "${localEnv:" + k + "}"
		}
		i.env(key, map[string]any{k: v})
	case "--volume", "-v":
		parts := strings.Split(text, ":")
		fields := map[string]string{"source": parts[0]}
		if len(parts) > 1 {
			fields["target"] = parts[1]
		}
		if len(parts) > 2 && parts[2] == "ro" {
			fields["readonly"] = "true"
		}
		i.mount(key, fields)
	case "--mount":
		i.mounts([]any{text})
	case "--init", "--rm", "-it", "-i", "-t", "--name", "--label", "-l": // so it is, or it is only a name
	case "--privileged":
		i.leave(key, "--privileged: no sandbox has this; security.nested lets sandboxes be made inside")
	default:
		i.leave(key, "%s has no counterpart, or none that is taken over", plain(strings.TrimSpace(name+" "+text)))
	}
}

// limit takes over a number as it stands, when the profile takes it.
func (i *importer) limit(name, text, toml string) {
	if config.CheckLimit(name, text) != nil {
		i.leave("runArgs", "the limit %s on %s is none that a profile can have", plain(text), name)
		return
	}
	for n := range i.d.Limits {
		if i.d.Limits[n][0] == name { // the last word holds
			i.d.Limits[n][1] = toml
			return
		}
	}
	i.d.Limits = append(i.d.Limits, [2]string{name, toml})
}
