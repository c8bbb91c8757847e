// Package oci has the words of images: digests, platforms, and the JSON documents of the OCI image
// specification 1.1 that cove reads, with the same fields as github.com/opencontainers/image-spec
// and go-digest, which its test compares it with.
//
// It is here for what it leaves out. Those packages compile regular expressions when a program
// starts, and a sandbox of an image that is in the store starts without needing one.
package oci
