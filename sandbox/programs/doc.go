// Package programs finds what runs outside for a sandbox: PATH may name a folder of the project, as direnv and npm have it, and what
// the sandbox wrote there under the name of git, of slirp4netns, or of something that xdg-open calls would run with all of
// the caller's rights.
package programs
