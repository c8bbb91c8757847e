package fetch

import (
	"encoding/base64"
	"errors"
	"regexp"
	"strings"
	"sync"
	"syscall"

	"cove/fetch/oci"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/docker/config"
	"go.podman.io/image/v5/types"
)

// errNotDir is what a path through a file gives.
const errNotDir = syscall.ENOTDIR

// A wireError is an error whose text was partly written by a registry: clean, and without secrets.
type wireError struct {
	text string
	err  error
}

func (e *wireError) Error() string { return e.text }
func (e *wireError) Unwrap() error { return e.err }

var (
	urlQuery = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(https?://[^\s"'?#]*)\?[^\s"']*`) })
	urlUser  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(https?://)[^\s"'/@]*@`) })
)

// fromWire makes an error that came over the network fit to be shown. Addresses lose their
// queries, which for redirects hold signatures that are as good as passwords, and whatever a
// registry may have echoed of our credentials goes.
func fromWire(err error, sys *types.SystemContext, named reference.Named) error {
	if err == nil {
		return nil
	}
	var already *wireError
	if errors.As(err, &already) {
		return err
	}
	text := urlQuery().ReplaceAllString(err.Error(), "$1?...")
	text = urlUser().ReplaceAllString(text, "$1")
	if named != nil {
		// Asked again here, not kept: most pulls have no error.
		if auth, cerr := config.GetCredentialsForRef(sys, named); cerr == nil {
			basic := base64.StdEncoding.EncodeToString([]byte(auth.Username + ":" + auth.Password))
			for _, secret := range []string{basic, auth.Password, auth.IdentityToken} {
				if len(secret) >= 4 {
					text = strings.ReplaceAll(text, secret, "...")
				}
			}
		}
	}
	return &wireError{oci.Clean(text), err}
}
