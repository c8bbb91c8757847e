// Package registrytest is a registry in this process, on loopback, for tests: it serves images
// made up on the spot, asks for credentials when told to, and fails in the ways that real
// registries do.
//
// It speaks the pull and the push side of the OCI distribution specification 1.1.
package registrytest
