package image

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// PolicyFile returns the first policy.json that there is, as containers-policy.json(5) has the order, or "". What is
// there and cannot be read is an error: a protection that nobody can read is not none.
func PolicyFile() (string, error) {
	if file := os.Getenv("CONTAINERS_POLICY_JSON"); file != "" {
		return file, nil // who names one wants that one, missing or not
	}
	config := os.Getenv("XDG_CONFIG_HOME")
	if home, err := os.UserHomeDir(); err == nil && !filepath.IsAbs(config) {
		config = filepath.Join(home, ".config")
	}
	files := []string{"/etc/containers/policy.json", "/usr/share/containers/policy.json"}
	if filepath.IsAbs(config) {
		files = append([]string{filepath.Join(config, "containers", "policy.json")}, files...)
	}
	for _, f := range files {
		_, err := os.Stat(f)
		if err == nil {
			return f, nil
		}
		// ENOTDIR is what a path through a file gives.
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return "", err
		}
	}
	return "", nil
}
