//go:build unix && !linux

package config

import "os"

// folderID tells a folder from another one that is made at the same path later, as far as its number does.
func folderID(dir string) string {
	info, err := os.Stat(dir)
	if err != nil {
		return ""
	}
	return inodeOf(info)
}
