package stage

import (
	"errors"
	"fmt"

	"cove/fetch/layer"
	"cove/fetch/oci"
)

// entryError names the entry that an error is about, quoted: names are the image's own words.
func entryError(name string, err error) error {
	if err == nil {
		return nil
	}
	var unmapped *layer.UnmappedIDError
	if errors.As(err, &unmapped) {
		return err // names it already
	}
	return fmt.Errorf("entry %s: %w", oci.Short(name), err)
}
