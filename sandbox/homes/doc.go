// Package homes keeps the home folders of projects: what the sandboxes of one project find in their home from run to
// run, shell history and caches among it, and those of no other project do. They lie below $XDG_DATA_HOME/cove/homes, each
// beside a record of whose it is, by which those of projects that are gone are known.
package homes
