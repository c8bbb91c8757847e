package store

// Store is a directory that holds images.
type Store struct {
	dir string
}
