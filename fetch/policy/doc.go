// Package policy judges images by their signatures: it reads containers-policy.json(5) and says whether an image may
// come in, and whether it was signed with a certain key.
//
// The judging is our own and not that of go.podman.io/image/signature, which without cgo can only be built with a
// build tag. What it accepts is what that one accepts; requirements that need Fulcio, a PKI or Rekor are refused by name.
// The two formats of signatures are containers-signature(5), which is JSON in an OpenPGP message, and sigstore's: JSON
// beside a bare signature, kept in the registry as cosign keeps it.
//
// It asks nobody: who calls it brings the manifest and the signatures. Nothing of a signature is believed, or looked at, before the
// signature was found right.
package policy
