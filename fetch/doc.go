// Package fetch turns an image reference into directories: Pull(ref) -> Image.
//
// Package wire asks registries, and go.podman.io/image says what references, registries.conf and
// credentials mean. Layouts and archives, which lie on this machine and may be anybody's, are read
// here, under the same limits as what comes from afar. Every byte is checked against the digest
// and size that named it before it is believed: manifests, configs, and layers both as sent and
// unpacked. Package layer unpacks them in a stage of its own, package store keeps them, and package
// image finds them there again without this one.
//
// It follows the OCI image and distribution specifications 1.1 and docker's schema 2.
package fetch
