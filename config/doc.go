// Package config is what the user asked for: it finds the profile (cove.toml), reads it together with the user's own
// config.toml, fills in the defaults, lays the flags on top, checks everything, and says where each value came from.
// It reads and writes the lock beside a profile ([Lock]), which says what the profile's image is, and whether the two agree.
// It also says what a profile grants ([Profile.Grants]), remembers what the user agreed to ([Trust]), and knows the
// XDG folders.
//
// BurntSushi/toml decodes. It tells one mistake at a time and no position of keys, so scan.go finds the places of all
// keys and parse.go decodes again without the statement that was wrong, until the whole file has been looked at.
//
// Package draft below it writes profiles for projects that have none.
//
// Package config starts nothing, resolves no image and asks no questions. It follows https://toml.io/en/v1.0.0 and
// the XDG Base Directory Specification, https://specifications.freedesktop.org/basedir-spec/latest/.
package config
