// Package draft writes profiles for projects that have none: it looks at the files by which their tools know them
// ([Project]), or at a devcontainer.json ([Import]). What it reads is a stranger's: only what has the form of a version, of an
// image's reference or of a port is taken over, and everything else is left out or quoted.
//
// It starts nothing and asks nobody. What tools contact was seen from what they ask a sandbox's network for, and from their
// own pages; the lists are the default registries of each tool and no more.
package draft
