package draft

import "sync"

// tool is what builds a kind of project.
type tool struct {
	name    string
	files   []string // any of these tells it
	image   func(p project) (image, why string)
	allow   func(p project) []Host
	allowIs []string    // comments on the list
	set     [][2]string // so that what is fetched comes to lie in the home, where the image has another place for it
	caches  string
	port    string // what its servers usually listen on
}

// Where root's home is inside, for variables, which know no ~.
const home = "/root"

var tools = sync.OnceValue(func() []tool {
	return []tool{
		{name: "Go", files: []string{"go.mod", "go.work"}, image: goImage, caches: "go", port: "8080",
			allow:   always(Host{"proxy.golang.org:443", "modules"}, Host{"sum.golang.org:443", "their checksums"}),
			allowIs: []string{"For a large module the first may send on to storage.googleapis.com:443. Anybody's files are there: add it if it is asked for."},
			set:     [][2]string{{"GOMODCACHE", home + "/go/pkg/mod"}}},
		{name: "Rust", files: []string{"Cargo.toml"}, image: rustImage, caches: "cargo", port: "8080", allow: rustHosts,
			set: [][2]string{{"CARGO_HOME", home + "/.cargo"}}},
		{name: "Ruby", files: []string{"Gemfile"}, image: rubyImage, caches: "bundle", port: "3000",
			allow: always(Host{"rubygems.org:443", "gems"}, Host{"index.rubygems.org:443", "which there are"}),
			set:   [][2]string{{"BUNDLE_PATH", home + "/.bundle/gems"}}},
		{name: "Elixir", files: []string{"mix.exs"}, image: elixirImage, caches: "mix", port: "4000",
			allow: always(Host{"repo.hex.pm:443", "packages"}, Host{"builds.hex.pm:443", "mix local.hex and local.rebar"})},
		{name: "PHP", files: []string{"composer.json"}, image: fixed("library/composer:2", "composer and the PHP that it brings"), caches: "composer", port: "8000",
			allow: always(Host{"repo.packagist.org:443", "which packages there are"}, Host{"api.github.com:443", "where most packages are"},
				Host{"codeload.github.com:443", "where the former sends"}),
			set: [][2]string{{"COMPOSER_HOME", home + "/.composer"}}},
		{name: "Java (Maven)", files: []string{"pom.xml"}, image: mavenImage, caches: "mvn", port: "8080",
			allow: always(Host{"repo.maven.apache.org:443", "Maven Central"})},
		{name: "Java (Gradle)", files: []string{"build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts"}, image: gradleImage, caches: "gradle", port: "8080",
			allow: always(Host{"repo.maven.apache.org:443", "Maven Central"}, Host{"plugins.gradle.org:443", "plugins"},
				Host{"plugins-artifacts.gradle.org:443", "where the former sends"}),
			allowIs: []string{"`gradle` is the image's; ./gradlew would fetch its own from services.gradle.org, which sends on to GitHub."}},
		{name: "Python", files: []string{"pyproject.toml", "requirements.txt", "setup.py", "Pipfile", "uv.lock", "poetry.lock"}, image: pythonImage, caches: "pip", port: "8000",
			allow:   always(Host{"pypi.org:443", "which packages there are"}, Host{"files.pythonhosted.org:443", "packages"}),
			allowIs: []string{"Packages are kept in a virtual environment in the project: python -m venv .venv"}},
		{name: "Node.js", files: []string{"package.json"}, image: nodeImage, caches: "the package manager", port: "3000", allow: nodeHosts},
		{name: "C or C++", files: []string{"CMakeLists.txt", "meson.build", "configure.ac", "Makefile"}, image: fixed("library/gcc:14-bookworm", "a compiler and make"), caches: "ccache",
			allow: always()},
	}
})

func always(hosts ...Host) func(project) []Host { return func(project) []Host { return hosts } }

func fixed(image, why string) func(project) (string, string) {
	return func(project) (string, string) { return image, why }
}

func rustHosts(p project) []Host {
	hosts := []Host{{"index.crates.io:443", "which crates there are"}, {"static.crates.io:443", "crates"}}
	if p.has("rust-toolchain.toml", "rust-toolchain") {
		hosts = append(hosts, Host{"static.rust-lang.org:443", "the toolchain that rust-toolchain names, where the image has another"})
	}
	return hosts
}

func nodeHosts(p project) []Host {
	switch manager(p) {
	case "yarn":
		return []Host{{"registry.yarnpkg.com:443", "packages"}, {"repo.yarnpkg.com:443", "yarn itself, where package.json names its version"}}
	case "pnpm":
		return []Host{{"registry.npmjs.org:443", "packages, and pnpm itself (corepack)"}}
	}
	return []Host{{"registry.npmjs.org:443", "packages"}}
}

// manager is the package manager of a Node.js project, by what it leaves there.
func manager(p project) string {
	switch {
	case p.has("pnpm-lock.yaml"):
		return "pnpm"
	case p.has("yarn.lock"):
		return "yarn"
	}
	return "npm"
}
