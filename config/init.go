package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// toolchain is what a file in a project's folder tells about the project.
type toolchain struct {
	name    string
	files   []string // any of these
	image   string   // name and tag on docker.io
	version func(dir string) string
	caches  []string // below home; worth sharing between projects
	env     string   // an example for env.set
	port    string   // what its servers usually listen on
}

var toolchains = []toolchain{
	{name: "Go", files: []string{"go.mod", "go.work"}, image: "library/golang", version: goVersion,
		caches: []string{"~/.cache/go-build", "~/go/pkg/mod"}, env: `CGO_ENABLED = "0"`, port: "8080"},
	{name: "Rust", files: []string{"Cargo.toml"}, image: "library/rust:1-bookworm",
		caches: []string{"~/.cargo/registry"}, env: `RUST_BACKTRACE = "1"`, port: "8080"},
	{name: "Node.js", files: []string{"package.json"}, image: "library/node:22-bookworm",
		caches: []string{"~/.npm"}, env: `NODE_ENV = "development"`, port: "3000"},
	{name: "Python", files: []string{"pyproject.toml", "setup.py", "requirements.txt", "Pipfile"}, image: "library/python:3-bookworm",
		caches: []string{"~/.cache/pip"}, env: `PYTHONDONTWRITEBYTECODE = "1"`, port: "8000"},
	{name: "Ruby", files: []string{"Gemfile"}, image: "library/ruby:3-bookworm",
		caches: []string{"~/.bundle"}, env: `RAILS_ENV = "development"`, port: "3000"},
	{name: "Java (Maven)", files: []string{"pom.xml"}, image: "library/maven:3-eclipse-temurin-21",
		caches: []string{"~/.m2"}, env: `MAVEN_OPTS = "-Xmx1g"`, port: "8080"},
	{name: "Java (Gradle)", files: []string{"build.gradle", "build.gradle.kts"}, image: "library/gradle:8-jdk21",
		caches: []string{"~/.gradle"}, env: `GRADLE_OPTS = "-Xmx1g"`, port: "8080"},
	{name: "PHP", files: []string{"composer.json"}, image: "library/composer:2",
		caches: []string{"~/.composer/cache"}, env: `APP_ENV = "dev"`, port: "8000"},
	{name: "Elixir", files: []string{"mix.exs"}, image: "library/elixir:1.18",
		caches: []string{"~/.hex"}, env: `MIX_ENV = "dev"`, port: "4000"},
	{name: "C or C++", files: []string{"CMakeLists.txt", "meson.build", "configure.ac", "Makefile"}, image: "library/gcc:14-bookworm",
		caches: []string{"~/.cache/ccache"}, env: `CFLAGS = "-O2"`, port: "8080"},
}

// Template is a profile to begin with for the project in a folder. It grants nothing: what reaches past the folder is
// there as a comment.
func Template(dir string) ([]byte, error) {
	t := toolchain{image: "library/debian:bookworm", caches: []string{"~/.cache/example"}, env: `LANG = "C.UTF-8"`, port: "8080"}
	for _, known := range toolchains {
		there, err := hasAny(dir, known.files)
		if err != nil {
			return nil, err
		}
		if there {
			t = known
			break
		}
	}
	if t.version != nil {
		t.image += t.version(dir)
	}
	var b strings.Builder
	if t.name != "" {
		fmt.Fprintf(&b, "# What `cove shell` and `cove run` give this %s project. See `cove help profile`.\n\n", t.name)
	} else {
		b.WriteString("# What `cove shell` and `cove run` give this project. See `cove help profile`.\n\n")
	}
	b.WriteString("# host: this machine's own /usr, /etc, /opt and /nix, read-only. An image has its own tools:\n")
	b.WriteString("image = \"host\"\n")
	fmt.Fprintf(&b, "# image = \"docker.io/%s\"\n", t.image)
	b.WriteString("# command = [\"bash\", \"-l\"]          # what `cove shell` starts; default: the image's shell\n")
	b.WriteString("user = \"root\"                      # root: root inside is you outside; me: your own name; image: the image's user\n\n")
	b.WriteString("[workspace]                        # this folder\n")
	b.WriteString("mode = \"rw\"                        # rw, ro, review, none\n")
	fmt.Fprintf(&b, "# protect = %s   # read-only even so\n\n", showValue(DefaultProtect()))
	b.WriteString("[home]\nmode = \"project\"                   # project: kept for this project; temp: gone afterwards\n\n")
	b.WriteString("[network]\nmode = \"none\"                      # none, user (outward, no private addresses), host\n")
	fmt.Fprintf(&b, "# publish = [%q]               # needs mode = \"user\"\n\n", t.port)
	fmt.Fprintf(&b, "[env]\n# set = { %s }\n# pass = [\"EDITOR\"]                # from your environment\n", t.env)
	b.WriteString("\n# More of this machine. cove asks you once before it believes lines like these; so it does for the network.\n")
	for _, cache := range t.caches {
		fmt.Fprintf(&b, "# [[mount]]\n# source = %q\n# target = %q\n# mode = \"rw\"\n", cache, cache)
	}
	return []byte(b.String()), nil
}

func hasAny(dir string, names []string) (bool, error) {
	var failed error
	there := slices.ContainsFunc(names, func(name string) bool {
		info, err := statRegular(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = fmt.Errorf("look at project %s: %w", showName(dir), bare(err))
		}
		return err == nil && info
	})
	return there, failed
}

// goVersion is the tag for the go line of go.mod. The file may be anybody's: only digits and dots get through.
func goVersion(dir string) string {
	const otherwise = ":1-bookworm"
	data, err := readSmall(filepath.Join(dir, "go.mod"))
	if err != nil {
		return otherwise
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "go" {
			continue
		}
		parts := strings.Split(fields[1], ".")
		if len(parts) < 2 || len(fields[1]) > 10 || !only(fields[1], digits+".") || slices.Contains(parts, "") {
			return otherwise
		}
		return ":" + parts[0] + "." + parts[1] + "-bookworm"
	}
	return otherwise
}
