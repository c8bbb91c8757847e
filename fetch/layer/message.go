package layer

import (
	"errors"
	"fmt"

	"cove/userns"

	"golang.org/x/sys/unix"
)

// hello is the first message: what the stage may touch, and the ids it has.
type hello struct {
	Dirs  []string     `json:"dirs"` // absolute; opened by path while the stage is still the caller
	IDMap userns.IDMap `json:"idmap"`
}

// place is a directory in one of hello.Dirs. Name is a single component, or "" for the directory itself.
type place struct {
	Dir  int    `json:"dir"`
	Name string `json:"name,omitempty"`
}

type op string

const (
	opUnpack  op = "unpack"  // the pipe comes with it
	opBelow   op = "below"   // answers a reply with NeedsBelow, for the same ID
	opRemove  op = "remove"  // what At names, and all in it
	opCopy    op = "copy"    // From[0] into At, owners translated from the mapping Was
	opFlatten op = "flatten" // From, lowest first, merged into At
)

type request struct {
	ID     uint64       `json:"id"`
	Op     op           `json:"op"`
	At     place        `json:"at"`
	From   []place      `json:"from,omitempty"`
	Lowest bool         `json:"lowest,omitempty"` // unpack: nothing lies below
	Limits Limits       `json:"limits,omitzero"`
	Was    userns.IDMap `json:"was,omitzero"`
	Fail   bool         `json:"fail,omitempty"` // below: there will be none
}

type reply struct {
	ID         uint64     `json:"id"`
	Ready      bool       `json:"ready,omitempty"`
	NeedsBelow bool       `json:"needsBelow,omitempty"` // not the last reply to this request
	Result     Result     `json:"result,omitzero"`
	Err        *wireError `json:"err,omitempty"`
}

// Result says what a layer became.
type Result struct {
	DiffID  string `json:"diffID,omitempty"` // sha256:HEX of the whole stream, decompressed
	Bytes   int64  `json:"bytes"`            // contents of regular files, holes included
	Entries int64  `json:"entries"`
	Devices int64  `json:"devices,omitempty"` // device nodes, which are never made
	Xattrs  int64  `json:"xattrs,omitempty"`  // extended attributes that were dropped
	// Dependent says that what lies below had a part in the result, so that it is right on top
	// of those layers only.
	Dependent bool `json:"dependent,omitempty"`
}

// wireError carries an error over the socket so that the parent can still tell its kind.
type wireError struct {
	Text     string           `json:"text"`
	Unmapped *UnmappedIDError `json:"unmapped,omitempty"`
	Limit    *LimitError      `json:"limit,omitempty"`
	Errno    unix.Errno       `json:"errno,omitempty"`
}

func toWire(err error) *wireError {
	if err == nil {
		return nil
	}
	w := &wireError{Text: err.Error()}
	errors.As(err, &w.Unmapped)
	errors.As(err, &w.Limit)
	errors.As(err, &w.Errno)
	return w
}

func (w *wireError) Error() string { return w.Text }

// Unwrap offers the typed error first, then the errno (ENOSPC, EDQUOT).
func (w *wireError) Unwrap() []error {
	var out []error
	if w.Unmapped != nil {
		out = append(out, w.Unmapped)
	}
	if w.Limit != nil {
		out = append(out, w.Limit)
	}
	if w.Errno != 0 {
		out = append(out, w.Errno)
	}
	return out
}

// entryError names the entry that an error is about, quoted: names are the image's own words.
func entryError(name string, err error) error {
	var unmapped *UnmappedIDError
	if errors.As(err, &unmapped) {
		return err // names it already
	}
	return fmt.Errorf("entry %s: %w", short(name), err)
}

// short quotes a name or the start of one: a tar may hold a megabyte of it.
func short(name string) string {
	const shown = 256
	if len(name) > shown {
		return fmt.Sprintf("%q...", name[:shown])
	}
	return fmt.Sprintf("%q", name)
}
