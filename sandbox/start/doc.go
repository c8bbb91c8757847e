// Package start is the story of a start up to the decision: from the options that were typed for `cove run` or
// `cove shell`, by way of the profile, what was agreed to, the machine and the image, to a Spec.
//
// It is apart from package cli, which parses command lines with urfave/cli, pulls images and gives advice, because
// those link in what takes longer to initialise than a sandbox takes to start. Go initialises packages in the order
// of their import paths among those that are ready (Go 1.21); what is reached from here is ready before the regular
// expressions of the image libraries, and must stay so: neither regexp, nor net, nor anything below that sorts behind
// regexp (text/template, unique and so net/netip). Package quick lives on that, and a test of package main keeps it.
package start
