package fetch

import "cove/fetch/store"

// Handle names what the store is to keep while the image is in use; false when nothing of the store is.
func (i *Image) Handle() (store.Handle, bool) { return i.handle, i.Kind == Stored }
