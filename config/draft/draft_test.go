package draft

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"cove/config"
)

// folder is a project with these files.
func folder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "project")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// load is the profile that a draft makes.
func load(t testing.TB, dir string, d *Draft) *config.Profile {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, config.FileName), d.Text(), 0o644); err != nil {
		t.Fatal(err)
	}
	p, warnings, err := config.Load(config.LoadOptions{Cwd: dir, Home: filepath.Dir(dir)})
	if err != nil || len(warnings) > 0 {
		t.Fatalf("%v %v\n%s", err, warnings, d.Text())
	}
	return p
}

func TestProject(t *testing.T) {
	const hub = "docker.io/library/"
	for _, c := range []struct {
		name  string
		files map[string]string
		image string
		allow string
	}{
		{"nothing", nil, "host", ""},
		{"go", map[string]string{"go.mod": "module x\n\ngo 1.26\n"}, hub + "golang:1.26-bookworm", "proxy.golang.org:443 sum.golang.org:443"},
		{"go toolchain", map[string]string{"go.mod": "module x\n\ngo 1.25.0\n\ntoolchain go1.26.3 // why\n"}, hub + "golang:1.26.3-bookworm", "proxy.golang.org:443 sum.golang.org:443"},
		{"old go", map[string]string{"go.mod": "module x\ngo 1.13\n"}, hub + "golang:1-bookworm", "proxy.golang.org:443 sum.golang.org:443"},
		{"hostile go", map[string]string{"go.mod": "go 1.2\"\nx = 1\n"}, hub + "golang:1-bookworm", "proxy.golang.org:443 sum.golang.org:443"},
		{"npm", map[string]string{"package.json": `{"engines": {"node": ">=18 <21 || ^20.1"}}`}, hub + "node:20-bookworm", "registry.npmjs.org:443"},
		{"nvm", map[string]string{"package.json": `{"engines": {"node": "18"}}`, ".nvmrc": "v20.11.1\n", "pnpm-lock.yaml": ""}, hub + "node:20.11.1-bookworm", "registry.npmjs.org:443"},
		{"nvm by name", map[string]string{"package.json": "{}", ".nvmrc": "lts/iron", "yarn.lock": ""}, hub + "node:iron-bookworm", "registry.yarnpkg.com:443 repo.yarnpkg.com:443"},
		{"hostile nvm", map[string]string{"package.json": "{", ".nvmrc": "x:y\x1b[2J"}, hub + "node:22-bookworm", "registry.npmjs.org:443"},
		{"asdf", map[string]string{"package.json": "{}", ".tool-versions": "ruby 3.3.0\nnodejs 21.2.0 # x\n"}, hub + "node:21.2.0-bookworm", "registry.npmjs.org:443"},
		{"python", map[string]string{"pyproject.toml": "[project]\nrequires-python = \">=3.11,<3.13\"\n"}, hub + "python:3.11-bookworm", "pypi.org:443 files.pythonhosted.org:443"},
		{"poetry", map[string]string{"pyproject.toml": "[tool.poetry.dependencies]\npython = \"^3.12\"\n"}, hub + "python:3.12-bookworm", "pypi.org:443 files.pythonhosted.org:443"},
		{"pyenv", map[string]string{"requirements.txt": "x", ".python-version": "3.12.1"}, hub + "python:3.12.1-bookworm", "pypi.org:443 files.pythonhosted.org:443"},
		{"ruby", map[string]string{"Gemfile": "source 'https://rubygems.org'\nruby '~> 3.3.0'\n"}, hub + "ruby:3.3.0-bookworm", "rubygems.org:443 index.rubygems.org:443"},
		{"rbenv", map[string]string{"Gemfile": "", ".ruby-version": "ruby-3.2.2\n"}, hub + "ruby:3.2.2-bookworm", "rubygems.org:443 index.rubygems.org:443"},
		{"rust", map[string]string{"Cargo.toml": "[package]\nrust-version = \"1.80\"\n"}, hub + "rust:1.80-bookworm", "index.crates.io:443 static.crates.io:443"},
		{"rustup", map[string]string{"Cargo.toml": "", "rust-toolchain.toml": "[toolchain]\nchannel = \"1.82.0\"\n"}, hub + "rust:1.82.0-bookworm", "index.crates.io:443 static.crates.io:443 static.rust-lang.org:443"},
		{"nightly", map[string]string{"Cargo.toml": "", "rust-toolchain": "nightly-2026-01-01\n"}, "docker.io/rustlang/rust:nightly-bookworm", "index.crates.io:443 static.crates.io:443 static.rust-lang.org:443"},
		{"maven", map[string]string{"pom.xml": "<properties><maven.compiler.release>16</maven.compiler.release></properties>"}, hub + "maven:3-eclipse-temurin-17", "repo.maven.apache.org:443"},
		{"old maven", map[string]string{"pom.xml": "<java.version>1.8</java.version>"}, hub + "maven:3-eclipse-temurin-8", "repo.maven.apache.org:443"},
		{"gradle", map[string]string{"build.gradle.kts": "jvmToolchain(17)", "gradle/wrapper/gradle-wrapper.properties": "distributionUrl=https\\://services.gradle.org/distributions/gradle-8.5-bin.zip"},
			hub + "gradle:8.5-jdk17", "repo.maven.apache.org:443 plugins.gradle.org:443 plugins-artifacts.gradle.org:443"},
		{"elixir", map[string]string{"mix.exs": "  elixir: \"~> 1.17\",\n"}, hub + "elixir:1.17", "repo.hex.pm:443 builds.hex.pm:443"},
		{"php", map[string]string{"composer.json": "{}"}, hub + "composer:2", "repo.packagist.org:443 api.github.com:443 codeload.github.com:443"},
		{"make", map[string]string{"Makefile": "all:"}, hub + "gcc:14-bookworm", ""},
		{"go first", map[string]string{"go.mod": "go 1.26", "package.json": "{}", "Makefile": ""}, hub + "golang:1.26-bookworm", "proxy.golang.org:443 sum.golang.org:443"},
		{"dockerfile", map[string]string{"Dockerfile": "ARG X=1\nFROM --platform=linux/amd64 alpine:3.20 AS Base\nRUN x\nfrom base\n"}, hub + "alpine:3.20", ""},
		{"dockerfile with a variable", map[string]string{"Dockerfile": "FROM alpine:${X}\n"}, "host", ""},
		{"devcontainer", map[string]string{".devcontainer/devcontainer.json": "{ // a word\n \"image\": \"mcr.microsoft.com/devcontainers/base:bookworm\", }"}, "mcr.microsoft.com/devcontainers/base:bookworm", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := folder(t, c.files)
			d, _, err := Project(dir)
			if err != nil {
				t.Fatal(err)
			}
			p := load(t, dir, d)
			var allow []string
			for _, e := range p.Network.Allow {
				allow = append(allow, e.String())
			}
			if p.Image != c.image || strings.Join(allow, " ") != c.allow || p.Home.Mode != "project" {
				t.Errorf("%s %s\n%s", p.Image, allow, d.Text())
			}
			for _, g := range p.Grants() {
				if g.Kind != config.GrantImage && g.Kind != config.GrantNetwork {
					t.Errorf("grants %s", g.Text)
				}
			}
			for _, r := range string(d.Text()) {
				if r != '\n' && (r < ' ' || r > '~') {
					t.Errorf("holds %q", r)
				}
			}
		})
	}
}

// What is no regular file, or is too large, is no hint, and is not waited for.
func TestProjectOddFiles(t *testing.T) {
	dir := folder(t, map[string]string{"Cargo.toml/x": "", "package.json": strings.Repeat(" ", 2<<20)})
	d, name, err := Project(dir)
	if err != nil || name != "" || d.Image != "host" {
		t.Errorf("%q %+v %v", name, d, err)
	}
}

func TestWanted(t *testing.T) {
	for text, want := range map[string]string{">=3.9,<4": "3.9", "^18 || ^20": "20", "~> 1.17": "1.17", "< 20": "", "<20 || 18": "18", ">= 18": "18", "*": "", "v20.1": "20.1", "1..2": "", "1.2.3.4": ""} {
		if got := wanted(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

const whole = `{
	// The name.
	"$schema": "https://x",
	"name": "My\u202e project",
	"image": "mcr.microsoft.com/devcontainers/go:1-1.23-bookworm",
	"features": { "ghcr.io/devcontainers/features/node:1": {}, /* two */ "./local": {}, },
	"forwardPorts": [3000, "localhost:8080", "db:5432"],
	"appPort": "9000:9001",
	"mounts": [
		"source=${localEnv:HOME}/.cache/x,target=/x,type=bind,readonly",
		{ "source": "vol", "target": "/v", "type": "volume" },
		"source=/var/run/docker.sock,target=/var/run/docker.sock,type=bind",
		"src=${localWorkspaceFolder}/data,dst=/data,type=bind",
	],
	"containerEnv": { "A": "1", "B": "${localEnv:B}", "PATH": "/x:${containerEnv:PATH}" },
	"remoteEnv": { "A": "2", "C": null },
	"workspaceFolder": "/workspaces/${localWorkspaceFolderBasename}",
	"remoteUser": "vscode",
	"runArgs": ["--cap-add=SYS_PTRACE", "--memory", "2g", "--cpus=.5", "--privileged", "--device=/dev/kvm", "--init", "-e", "D=4"],
	"capAdd": ["sys_ptrace"],
	"postCreateCommand": "make",
	"customizations": { "vscode": { "extensions": [] } },
	"odd\u001b": 1,
}`

func TestImport(t *testing.T) {
	dir := folder(t, map[string]string{".devcontainer/devcontainer.json": whole, "go.mod": "module x\ngo 1.23\n"})
	d, left, err := Import(dir, FindDevcontainer(dir))
	if err != nil {
		t.Fatal(err)
	}
	p := load(t, dir, d)
	home := filepath.Dir(dir)
	if p.Image != "mcr.microsoft.com/devcontainers/go:1-1.23-bookworm" || p.Workspace.At != "/workspaces/project" || p.User != "root" || len(p.Network.Allow) != 2 {
		t.Errorf("%+v", p)
	}
	if want := map[string]string{"A": "2", "D": "4"}; !reflect.DeepEqual(p.Env.Set, want) || !reflect.DeepEqual(p.Env.Pass, []string{"B"}) {
		t.Errorf("environment %v, %v", p.Env.Set, p.Env.Pass)
	}
	if want := []config.Mount{{Source: home + "/.cache/x", Target: "/x", Mode: "ro"}, {Source: dir + "/data", Target: "/data", Mode: "rw", Within: true}}; !reflect.DeepEqual(p.Mounts, want) {
		t.Errorf("mounts %+v", p.Mounts)
	}
	var ports []string
	for _, one := range p.Network.Publish {
		ports = append(ports, one.String())
	}
	if got := strings.Join(ports, " "); got != "127.0.0.1:9000:9001/tcp 127.0.0.1:3000:3000/tcp 127.0.0.1:8080:8080/tcp" {
		t.Errorf("ports %s", got)
	}
	if p.Limits.MemoryBytes != 2<<30 || p.Limits.CPUs != 0.5 || !reflect.DeepEqual(p.Security.Caps, []string{"default", "SYS_PTRACE"}) {
		t.Errorf("%+v %v", p.Limits, p.Security.Caps)
	}
	told := strings.Join(left, "\n")
	for _, want := range []string{`features: "./local" is a script`, `features: "ghcr.io/devcontainers/features/node:1"`, `forwardPorts: "db:5432" is no port`, `mounts: "/v" is a volume`,
		`docker's socket`, `containerEnv: "PATH" = "/x:${containerEnv:PATH}"`, `remoteEnv: "C" is not unset`, `remoteUser: "vscode"`, "--privileged", `"--device /dev/kvm"`,
		"postCreateCommand: ", `customizations: "vscode"`, `"odd\x1b": is not known`, "network: a dev container reaches everything"} {
		if !strings.Contains(told, want) {
			t.Errorf("does not say %s:\n%s", want, told)
		}
	}
	if text := string(d.Text()); !strings.Contains(text, `It is called "My\u202e project" there.`) || !strings.Contains(text, "# postCreateCommand: ") {
		t.Errorf("%s", text)
	}
}

func TestImportBuild(t *testing.T) {
	for name, c := range map[string]struct{ json, image, told string }{
		"dockerfile":  {`{"build": {"dockerfile": "Dockerfile", "context": "..", "args": {"X": "1"}}}`, "docker.io/library/debian:12", "only the image"},
		"above":       {`{"dockerFile": "../Dockerfile.dev"}`, "docker.io/library/alpine:3", "only the image"},
		"outside":     {`{"build": {"dockerfile": "../../../Dockerfile"}}`, "host", "is no file of the project"},
		"absolute":    {`{"build": {"dockerfile": "/etc/passwd"}}`, "host", "is no file of the project"},
		"compose":     {`{"dockerComposeFile": "x.yml", "service": "app"}`, "host", "dockerComposeFile: one sandbox"},
		"host":        {`{"image": "host"}`, "host", "no image of a registry"},
		"variable":    {`{"image": "x:${localEnv:TAG}"}`, "host", "no image of a registry"},
		"own network": {`{"runArgs": ["--network", "host"], "forwardPorts": [80]}`, "host", "forwardPorts: needs a network"},
	} {
		dir := folder(t, map[string]string{".devcontainer/devcontainer.json": c.json, ".devcontainer/Dockerfile": "FROM debian:12\n", "Dockerfile.dev": "FROM alpine:3\n"})
		d, left, err := Import(dir, ".devcontainer/devcontainer.json")
		if err != nil {
			t.Fatal(err)
		}
		if p := load(t, dir, d); p.Image != c.image || !strings.Contains(strings.Join(left, "\n"), c.told) {
			t.Errorf("%s: %s, %q", name, p.Image, left)
		}
	}
	for text, want := range map[string]string{"{": "unexpected", "null": "no object", "[]": "cannot unmarshal", "{} x": "behind the object's end", "{ /* x": "a comment has no end", "{\n\n\"a\": x}": "line 3", "{\"a\": [,]}": "invalid", "{,}": "invalid"} {
		dir := folder(t, map[string]string{"x.json": text})
		if _, _, err := Import(dir, "x.json"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzImport: whatever a devcontainer.json holds, what is made of it is a profile, in ASCII, which asks for no more than it says,
// and what is told of it does nothing to a terminal. What is JSON means what it means to encoding/json.
func FuzzImport(f *testing.F) {
	f.Add(whole)
	for _, seed := range []string{"{}", `{"image":"a","build":{"dockerfile":"x"}}`, `{"mounts":["source=/a,target=/b,type=bind","source=/c,target=/b,type=bind"]}`,
		`{"forwardPorts":[1,1,"1:2"],"appPort":[1]}`, `{"containerEnv":{"A":"${localEnv:A}"},"remoteEnv":{"A":"x"}}`, `{"workspaceFolder":"/x","mounts":["source=/a,target=/x,type=bind"]}`,
		`{"runArgs":["--cpus","1e3","--pids-limit=-1","-m=x","-p","1-3:1-3"]}`, `{"workspaceFolder":"/proc/x"}`, `{"containerEnv":{"A=":"","\u0000":"","é":"\u202e"}}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1<<16 {
			return
		}
		var plainTree map[string]any
		if tree, err := decodeJSONC([]byte(text)); json.Unmarshal([]byte(text), &plainTree) == nil && plainTree != nil && (err != nil || len(tree) != len(plainTree)) {
			t.Fatalf("is JSON, and read as %v, %v", tree, err)
		}
		dir := folder(t, map[string]string{"x.json": text})
		d, left, err := Import(dir, "x.json")
		if err != nil {
			return
		}
		load(t, dir, d)
		for _, r := range string(d.Text()) + strings.Join(left, "") {
			if r != '\n' && !config.Visible(r) {
				t.Errorf("holds %q", r)
			}
		}
	})
}
