package wire

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"go.podman.io/image/v5/pkg/tlsclientconfig"
)

// Certificates reads the certs.d(5) directory of a registry: those of its authorities, which are added to
// the machine's, and the client's own. nil when it has none.
func Certificates(host string) (*tls.Config, error) {
	for _, base := range certDirs() {
		dir := filepath.Join(base, host)
		_, err := os.Stat(dir)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOTDIR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		conf := &tls.Config{MinVersion: tls.VersionTLS12}
		if err := tlsclientconfig.SetupCertificates(dir, conf); err != nil {
			return nil, fmt.Errorf("certificates in %s: %w", dir, err)
		}
		return conf, nil
	}
	return nil, nil
}

func certDirs() []string {
	var out []string
	config := os.Getenv("XDG_CONFIG_HOME")
	if home, err := os.UserHomeDir(); err == nil && !filepath.IsAbs(config) {
		config = filepath.Join(home, ".config")
	}
	if config != "" {
		out = append(out, filepath.Join(config, "containers", "certs.d"))
	}
	return append(out, "/etc/containers/certs.d", "/etc/docker/certs.d")
}
