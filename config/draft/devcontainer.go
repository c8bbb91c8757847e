package draft

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"cove/config"
)

// devcontainers are where https://containers.dev/implementors/spec/#devcontainerjson looks for the file.
var devcontainers = []string{".devcontainer/devcontainer.json", ".devcontainer.json"}

// FindDevcontainer is the name of a project's devcontainer.json below its folder; "" when there is none.
func FindDevcontainer(dir string) string {
	for _, name := range devcontainers {
		if (project{dir}).has(name) {
			return name
		}
	}
	return ""
}

// Import makes a profile for the project in dir of a devcontainer.json, and says of everything in it that has become nothing, or
// something else, why. name is the file's, below dir or anywhere.
func Import(dir, name string) (*Draft, []string, error) {
	file := name
	if !filepath.IsAbs(file) {
		file = filepath.Join(dir, name)
	}
	data, err := config.ReadHint(file)
	if err != nil {
		var path *fs.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return nil, nil, fmt.Errorf("read %s: %w", plain(name), err)
	}
	tree, err := decodeJSONC(data)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", plain(name), err)
	}
	i := &importer{d: &Draft{User: "root", Image: "host"}, dir: dir, base: filepath.Dir(file), tree: tree}
	i.d.About = []string{"What `cove shell` and `cove run` give this project, made of " + plain(name) + ". See `cove help profile`."}
	i.keys()
	i.network()
	slices.Sort(i.left)
	if len(i.left) > 0 {
		i.d.Tail = append([]string{"Not taken over, or not as it was:"}, i.left...)
	}
	return i.d, i.left, nil
}

// plain is what a stranger wrote, quoted, in ASCII, and short.
func plain(text string) string {
	if len(text) > 100 {
		text = text[:100] + "..."
	}
	return strconv.QuoteToASCII(text)
}

type importer struct {
	d         *Draft
	dir, base string
	tree      map[string]any
	left      []string
	published []config.Publish
}

// leave notes what was not taken over; name is quoted where it is not one of ours.
func (i *importer) leave(name, format string, args ...any) {
	i.left = append(i.left, name+": "+fmt.Sprintf(format, args...))
}

// Why keys are left out whatever they hold.
var leftOut = sync.OnceValue(func() map[string]string {
	return map[string]string{
		"dockerComposeFile":           "one sandbox is one container; what the others serve can run in a sandbox of its own, or be reached by host_ports",
		"service":                     "there is no compose file here",
		"runServices":                 "there is no compose file here",
		"workspaceMount":              "the workspace is always the project's folder",
		"initializeCommand":           "nothing of a profile runs outside",
		"onCreateCommand":             "setup runs without the workspace, which this wants; run it inside: what it leaves in the home and the workspace stays",
		"updateContentCommand":        "setup runs without the workspace, which this wants; run it inside: what it leaves in the home and the workspace stays",
		"postCreateCommand":           "setup runs without the workspace, which this wants; run it inside: what it leaves in the home and the workspace stays",
		"postStartCommand":            "nothing runs at a start but the command; run it inside",
		"postAttachCommand":           "nothing runs when a shell joins",
		"waitFor":                     "there are no commands to wait for",
		"portsAttributes":             "a port is published or not",
		"otherPortsAttributes":        "a port is published or not",
		"privileged":                  "no sandbox has this; security.nested lets sandboxes be made inside",
		"securityOpt":                 "security.seccomp and security.new_privileges are for that",
		"hostRequirements":            "what a machine must have is no limit; [limits] is for what may be used",
		"userEnvProbe":                "the environment inside is what [env] says",
		"overrideCommand":             "what runs is what is typed",
		"shutdownAction":              "a sandbox ends with its last shell",
		"updateRemoteUserUID":         "ids are mapped: what is written in the workspace is yours",
		"secrets":                     "[env] pass hands in variables of yours, each by its name",
		"gpu":                         "no device of this machine is inside",
		"overrideFeatureInstallOrder": "there are no features",
	}
})

func (i *importer) keys() {
	for _, key := range slices.Sorted(maps.Keys(i.tree)) {
		value := i.tree[key]
		switch key {
		case "$schema", "init": // a sandbox has an init anyway
		case "name":
			if s, ok := value.(string); ok {
				i.d.About = append(i.d.About, "It is called "+plain(s)+" there.")
			}
		case "image":
			i.image(value)
		case "build", "dockerFile", "context":
			if key != "context" {
				i.build(key, value)
			}
		case "features":
			table, _ := value.(map[string]any)
			for _, name := range slices.Sorted(maps.Keys(table)) {
				i.leave("features", "%s is a script that runs as root when an image is built; take an image that has it, or add it in setup", plain(name))
			}
		case "forwardPorts", "appPort":
			i.ports(key, value)
		case "mounts":
			i.mounts(value)
		case "containerEnv", "remoteEnv":
			i.env(key, value)
		case "workspaceFolder":
			i.at(value)
		case "remoteUser", "containerUser":
			i.user(key, value)
		case "runArgs":
			i.runArgs(value)
		case "capAdd":
			for _, c := range stringsOf(value) {
				i.cap(key, c)
			}
		case "customizations":
			table, _ := value.(map[string]any)
			for _, name := range slices.Sorted(maps.Keys(table)) {
				i.leave("customizations", "%s is for that program", plain(name))
			}
		default:
			if why, known := leftOut()[key]; known {
				i.leave(key, "%s", why)
			} else {
				i.leave(plain(key), "is not known")
			}
		}
	}
	at := i.d.At
	if at == "" {
		at = i.dir
	}
	i.d.Mounts = slices.DeleteFunc(i.d.Mounts, func(m config.Mount) bool {
		if m.Target == at {
			i.leave("mounts", "%s: the workspace is there", plain(m.Target))
		}
		return m.Target == at
	})
}

func stringsOf(value any) []string {
	if s, ok := value.(string); ok {
		return []string{s}
	}
	list, _ := value.([]any)
	var out []string
	for _, v := range list {
		switch v := v.(type) {
		case string:
			out = append(out, v)
		case json.Number:
			out = append(out, v.String())
		}
	}
	return out
}

func (i *importer) image(value any) {
	s, _ := value.(string)
	ref := imageRef(s)
	if ref == "" {
		i.leave("image", "%s is no image of a registry that cove can name", plain(s))
		return
	}
	i.d.Image, i.d.Why = ref, ""
}

// build takes the image that a Dockerfile begins with. The file is one of the project's, or is not looked at.
func (i *importer) build(key string, value any) {
	name, _ := value.(string)
	if table, ok := value.(map[string]any); ok {
		name, _ = table["dockerfile"].(string)
		for _, k := range slices.Sorted(maps.Keys(table)) {
			if k != "dockerfile" && k != "context" {
				i.leave("build."+bareOr(k), "nothing is built")
			}
		}
	}
	if name == "" {
		return
	}
	file := filepath.Join(i.base, name)
	real, err := filepath.EvalSymlinks(file)
	dir, _ := filepath.EvalSymlinks(i.dir)
	if err != nil || real != dir && !strings.HasPrefix(real, dir+"/") || filepath.IsAbs(name) {
		i.leave(key, "%s is no file of the project", plain(name))
		return
	}
	from := fromOf((project{filepath.Dir(real)}).text(filepath.Base(real)))
	if from == "" {
		i.leave(key, "%s names no image of a registry to begin with", plain(name))
		return
	}
	if i.d.Image == "host" {
		i.d.Image, i.d.Why = from, "what the Dockerfile begins with"
	}
	i.leave(key, "only the image that %s begins with is taken; what it runs can go into setup, what it copies cannot", plain(name))
}

func bareOr(name string) string {
	if config.TOMLKey(name) == name {
		return name
	}
	return plain(name)
}

func (i *importer) ports(key string, value any) {
	var all []string
	if n, ok := value.(json.Number); ok {
		all = []string{n.String()}
	} else {
		all = stringsOf(value)
	}
	for _, text := range all {
		text = strings.TrimPrefix(strings.TrimPrefix(text, "localhost:"), "127.0.0.1:")
		some, err := config.ParsePublishes(text)
		if err != nil {
			i.leave(key, "%s is no port of the sandbox", plain(text))
			continue
		}
		if i.taken(some) {
			i.leave(key, "%s: that port is published already", plain(text))
			continue
		}
		i.d.Publish = append(i.d.Publish, text)
		i.published = append(i.published, some...)
	}
}

// taken says whether one of these ports is published already; what is said twice is no mistake, and published once.
func (i *importer) taken(ports []config.Publish) bool {
	return slices.ContainsFunc(ports, func(p config.Publish) bool {
		return slices.ContainsFunc(i.published, func(q config.Publish) bool { return p.HostPort == q.HostPort && p.Proto == q.Proto })
	})
}

// env takes over what is said outright, and passes what has the same name outside.
func (i *importer) env(key string, value any) {
	table, _ := value.(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(table)) {
		text, isText := table[name].(string)
		switch {
		case name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(text, "\x00"):
			i.leave(key, "%s is no variable", plain(name))
		case !isText:
			i.leave(key, "%s is not unset: of the outside nothing comes in", plain(name))
		case text == "${localEnv:"+name+"}" || text == "${env:"+name+"}":
			if !slices.Contains(i.d.Pass, name) {
				i.d.Pass = append(i.d.Pass, name)
			}
			i.unset(name)
		case strings.Contains(text, "${"):
			i.leave(key, "%s = %s: what stands in ${...} is not known before it runs", plain(name), plain(text))
		default:
			i.unset(name)
			i.d.Set = append(i.d.Set, [2]string{name, text})
			i.d.Pass = slices.DeleteFunc(i.d.Pass, func(p string) bool { return p == name })
		}
	}
}

// unset forgets a value: remoteEnv stands above containerEnv, and a name is set once.
func (i *importer) unset(name string) {
	i.d.Set = slices.DeleteFunc(i.d.Set, func(s [2]string) bool { return s[0] == name })
}

func (i *importer) at(value any) {
	s, _ := value.(string)
	s = strings.ReplaceAll(s, "${localWorkspaceFolderBasename}", filepath.Base(i.dir))
	if s == "${localWorkspaceFolder}" || strings.Contains(s, "\x00") {
		return
	}
	if at := filepath.Clean(s); filepath.IsAbs(s) && !strings.Contains(s, "$") && config.CheckTarget(at) == nil {
		i.d.At = at
		return
	}
	i.leave("workspaceFolder", "%s cannot be where the project is inside", plain(s))
}

func (i *importer) user(key string, value any) {
	s, _ := value.(string)
	if s == "root" || s == "0" {
		return
	}
	i.leave(key, "%s: inside one is root, who is you outside; user = \"me\" and \"image\" are the others", plain(s))
}

func (i *importer) cap(key, name string) {
	all, err := config.ChangeCaps([]string{"default"}, []string{name}, nil)
	if err != nil || strings.EqualFold(name, "all") {
		i.leave(key, "%s is no capability that is taken over", plain(name))
		return
	}
	if len(i.d.Caps) == 0 {
		i.d.Caps = []string{"default"}
	}
	for _, c := range all {
		if !slices.Contains(config.DefaultCaps(), c) && !slices.Contains(i.d.Caps, c) {
			i.d.Caps = append(i.d.Caps, c)
		}
	}
}

// network opens what the project's tool fetches from, where it is known. A dev container reaches everything, which no profile
// has without a word.
func (i *importer) network() {
	if i.d.Mode != "" {
		if len(i.d.Publish) > 0 {
			i.leave("forwardPorts", "needs a network of the sandbox's own; the mode is %s", i.d.Mode)
			i.d.Publish = nil
		}
		return
	}
	for _, t := range tools() {
		if (project{i.dir}).has(t.files...) {
			i.d.Allow, i.d.AllowIs = t.allow(project{i.dir}), t.allowIs
			break
		}
	}
	if len(i.d.Allow) > 0 {
		i.leave("network", "a dev container reaches everything; this reaches what network.allow lists")
		return
	}
	i.leave("network", "a dev container reaches everything, this nothing; `cove run --learn-network` writes down what is asked for")
}
