package draft

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// number is the version at the beginning of a text: 1.26.3, 22, 3.12. Nothing but digits and dots gets through.
func number(text string) string {
	end := 0
	for end < len(text) && (text[end] >= '0' && text[end] <= '9' || text[end] == '.') {
		end++
	}
	version := strings.Trim(text[:end], ".")
	if len(version) > 12 || strings.Contains(version, "..") || strings.Count(version, ".") > 2 {
		return ""
	}
	return version
}

// wanted is the version that a range asks for at least: ">=3.9,<4" is 3.9, "^18 || ^20" is 20, "~> 1.17" is 1.17.
func wanted(text string) string {
	best := ""
	for one := range strings.SplitSeq(text, "||") {
		fields := strings.FieldsFunc(one, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
		for i, f := range fields {
			if strings.HasPrefix(f, "<") || strings.HasPrefix(f, "!") || i > 0 && strings.HasPrefix(fields[i-1], "<") {
				continue
			}
			if v := number(strings.TrimLeft(f, "^~>=v")); v != "" {
				if best == "" || less(best, v) {
					best = v
				}
				break
			}
		}
	}
	return best
}

func parts(version string) []int {
	var out []int
	for part := range strings.SplitSeq(version, ".") {
		n, _ := strconv.Atoi(part)
		out = append(out, n)
	}
	return out
}

func less(a, b string) bool { return slices.Compare(parts(a), parts(b)) < 0 }

// cut keeps the first n parts of a version.
func cut(version string, n int) string {
	all := strings.Split(version, ".")
	return strings.Join(all[:min(n, len(all))], ".")
}

// tagged is an image of the version that a file names, on the Debian that images of at least that version have.
func tagged(name, version, otherwise, debianSince, from string) (string, string) {
	if version == "" {
		return "library/" + name + ":" + otherwise + "-bookworm", ""
	}
	suffix := "-bookworm"
	if less(version, debianSince) {
		suffix = ""
	}
	return "library/" + name + ":" + version + suffix, "the version that " + from + " names"
}

// after is the rest of the first line that begins with a word, comments and quotes taken off.
func after(text, word string) string {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		rest, ok := strings.CutPrefix(line, word)
		if ok && rest != "" && !unicode.IsLetter(rune(rest[0])) && rest[0] != '_' && rest[0] != '-' {
			rest, _, _ = strings.Cut(rest, "#")
			return strings.Trim(rest, " \t=:(\"',)")
		}
	}
	return ""
}

// toolVersion is what .tool-versions (asdf, mise) says of a tool.
func toolVersion(p project, names ...string) (string, string) {
	for _, name := range names {
		if v := number(after(p.text(".tool-versions"), name)); v != "" {
			return v, ".tool-versions"
		}
	}
	return "", ""
}

// first is the version that the first of these files names at its beginning.
func first(p project, files ...string) (string, string) {
	for _, name := range files {
		text := strings.TrimSpace(p.text(name))
		text = strings.TrimPrefix(strings.TrimPrefix(text, "ruby-"), "python-")
		if v := number(strings.TrimPrefix(text, "v")); v != "" {
			return v, name
		}
	}
	return "", ""
}

func goImage(p project) (string, string) {
	for _, file := range []string{"go.mod", "go.work"} {
		text := p.text(file)
		version := number(strings.TrimPrefix(after(text, "toolchain"), "go"))
		if version == "" {
			version = number(after(text, "go"))
		}
		if version == "" {
			continue
		}
		if less(version, "1.21") { // the directive is the least that the project takes, and such an old Go gets no repairs
			return "library/golang:1-bookworm", fmt.Sprintf("%s takes Go %s and everything newer", file, version)
		}
		return tagged("golang", version, "1", "1.19", file)
	}
	return tagged("golang", "", "1", "", "")
}

func rustImage(p project) (string, string) {
	for _, file := range []string{"rust-toolchain.toml", "rust-toolchain"} {
		channel := after(p.text(file), "channel")
		if channel == "" {
			channel = strings.TrimSpace(p.text(file))
		}
		if strings.HasPrefix(channel, "nightly") {
			return "rustlang/rust:nightly-bookworm", file + " names a nightly one, which rustup fetches if it is another"
		}
		if v := number(channel); v != "" {
			return tagged("rust", v, "1", "1.70", file)
		}
	}
	if v, from := toolVersion(p, "rust"); v != "" {
		return tagged("rust", v, "1", "1.70", from)
	}
	if v := number(after(p.text("Cargo.toml"), "rust-version")); v != "" {
		return tagged("rust", v, "1", "1.70", "rust-version in Cargo.toml")
	}
	return tagged("rust", "", "1", "", "")
}

// nodeNames are the names of Node.js's lines with long support, which .nvmrc may have and images do.
var nodeNames = []string{"hydrogen", "iron", "jod", "krypton"}

func nodeImage(p project) (string, string) {
	for _, file := range []string{".nvmrc", ".node-version"} {
		name := strings.ToLower(strings.TrimPrefix(strings.TrimSpace(p.text(file)), "lts/"))
		if slices.Contains(nodeNames, name) {
			return "library/node:" + name + "-bookworm", "the version that " + file + " names"
		}
		if name == "*" || name == "lts" {
			return "library/node:lts-bookworm", "the version that " + file + " names"
		}
	}
	if v, from := first(p, ".nvmrc", ".node-version"); v != "" {
		return tagged("node", v, "22", "16", from)
	}
	if v, from := toolVersion(p, "nodejs", "node"); v != "" {
		return tagged("node", v, "22", "16", from)
	}
	var about struct {
		Engines map[string]any `json:"engines"`
		Volta   map[string]any `json:"volta"`
	}
	if json.Unmarshal([]byte(p.text("package.json")), &about) == nil {
		for from, table := range map[string]map[string]any{"volta in package.json": about.Volta} {
			if text, ok := table["node"].(string); ok && number(text) != "" {
				return tagged("node", number(text), "22", "16", from)
			}
		}
		if text, ok := about.Engines["node"].(string); ok && wanted(text) != "" {
			// Ranges mean lines: the newest of the line that they begin with has the repairs.
			return tagged("node", cut(wanted(text), 1), "22", "16", "engines in package.json")
		}
	}
	return tagged("node", "", "22", "", "")
}

func pythonImage(p project) (string, string) {
	if v, from := first(p, ".python-version", "runtime.txt"); v != "" {
		return tagged("python", v, "3", "3.7", from)
	}
	if v, from := toolVersion(p, "python"); v != "" {
		return tagged("python", v, "3", "3.7", from)
	}
	text := p.text("pyproject.toml")
	if v := wanted(after(text, "requires-python")); v != "" && !less(v, "3") {
		return tagged("python", cut(v, 2), "3", "3.7", "requires-python in pyproject.toml")
	}
	if v := wanted(after(text, "python")); v != "" && !less(v, "3") { // poetry's
		return tagged("python", cut(v, 2), "3", "3.7", "pyproject.toml")
	}
	if v := number(after(p.text("Pipfile"), "python_version")); v != "" {
		return tagged("python", v, "3", "3.7", "Pipfile")
	}
	return tagged("python", "", "3", "", "")
}

func rubyImage(p project) (string, string) {
	if v, from := first(p, ".ruby-version"); v != "" {
		return tagged("ruby", v, "3", "3.0", from)
	}
	if v, from := toolVersion(p, "ruby"); v != "" {
		return tagged("ruby", v, "3", "3.0", from)
	}
	if v := wanted(after(p.text("Gemfile"), "ruby")); v != "" {
		return tagged("ruby", v, "3", "3.0", "Gemfile")
	}
	return tagged("ruby", "", "3", "", "")
}

func elixirImage(p project) (string, string) {
	v, from := toolVersion(p, "elixir")
	if v == "" {
		v, from = wanted(strings.Trim(after(p.text("mix.exs"), "elixir"), `" `)), "mix.exs"
	}
	if v = cut(v, 2); v == "" {
		return "library/elixir:1.18", ""
	}
	return "library/elixir:" + v, "the version that " + from + " names"
}

// javas are the versions of which there are images of Maven and Gradle.
var javas = []string{"8", "11", "17", "21", "25"}

// java is the least of those that is at least what is asked for.
func java(version string) string {
	version = strings.TrimPrefix(version, "1.") // 1.8
	for _, v := range javas {
		if version != "" && !less(v, cut(version, 1)) {
			return v
		}
	}
	return ""
}

func mavenImage(p project) (string, string) {
	text := p.text("pom.xml")
	for _, tag := range []string{"maven.compiler.release", "java.version", "maven.compiler.source", "maven.compiler.target", "release"} {
		if _, rest, ok := strings.Cut(text, "<"+tag+">"); ok {
			if v := java(number(strings.TrimSpace(rest))); v != "" {
				return "library/maven:3-eclipse-temurin-" + v, "the Java that pom.xml names"
			}
		}
	}
	return "library/maven:3-eclipse-temurin-21", ""
}

func gradleImage(p project) (string, string) {
	gradle, jdk, why := "8", "21", ""
	if _, rest, ok := strings.Cut(p.text("gradle/wrapper/gradle-wrapper.properties"), "/gradle-"); ok {
		if v := number(rest); v != "" {
			gradle, why = v, "the version that gradle-wrapper.properties names"
		}
	}
	for _, file := range []string{"build.gradle.kts", "build.gradle"} {
		text := p.text(file)
		for _, before := range []string{"JavaLanguageVersion.of(", "jvmToolchain(", "JavaVersion.VERSION_"} {
			if _, rest, ok := strings.Cut(text, before); ok {
				if v := java(number(strings.ReplaceAll(rest[:min(len(rest), 8)], "_", "."))); v != "" {
					jdk = v
				}
			}
		}
	}
	return "library/gradle:" + gradle + "-jdk" + jdk, why
}
