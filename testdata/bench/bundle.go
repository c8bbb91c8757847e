package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// bundle is the image in a plain directory, with the configuration of a container that runs `true`: for runc and crun alone,
// and for what a file costs where no overlay is between.
func (b *bench) bundle() string { return filepath.Join(b.dir, "bundle") }

func (b *bench) makeBundle() error {
	if _, err := os.Stat(filepath.Join(b.bundle(), "config.json")); err == nil {
		return nil
	}
	part := b.bundle() + ".part"
	if err := b.remove(part); err != nil {
		return err
	}
	if err := b.do("umoci", "unpack", "--rootless", "--image", b.oci("one")+":bench", part); err != nil {
		return err
	}
	config := filepath.Join(part, "config.json")
	var c map[string]any
	if err := readJSON(config, &c); err != nil {
		return err
	}
	process, ok := c["process"].(map[string]any)
	linux, also := c["linux"].(map[string]any)
	if !ok || !also {
		return errors.New("umoci's config.json has no process or no linux")
	}
	process["terminal"], process["args"] = false, []string{"true"}
	namespaces, _ := linux["namespaces"].([]any)
	linux["namespaces"] = append(namespaces, map[string]string{"type": "network"})
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := os.WriteFile(config, data, 0o644); err != nil {
		return fmt.Errorf("write the bundle's configuration: %w", err)
	}
	return os.Rename(part, b.bundle())
}
