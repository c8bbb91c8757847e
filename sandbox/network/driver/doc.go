// Package driver is the parent half of the sandbox's network: it runs on the host, starts a user-mode
// network for a sandbox's network namespace (Attach) and publishes ports (Publish). What is to be
// done inside goes to package network beside it as a spec.Link.
//
// The network is cove's own, package builtin's, unless the profile names another driver.
//
// Two helper programs can carry the packets instead, slirp4netns and pasta, with the addresses that
// rootlesskit gives them. Rootlesskit's drivers tell what the installed slirp4netns can do; starting the
// helpers is done here, for what those drivers do at a start (v3.3):
//
//   - Both: the helper gets this process's whole environment, and who uses them never learns that it died.
//   - pasta: it is let become a daemon, which no PDEATHSIG reaches, and its clean-up is empty; so it
//     outlives a killed cove and holds the network namespace.
//   - slirp4netns: the interface is made by ip(8) under nsenter(1), which loses its capabilities when it is
//     exec'ed unless the caller's id is 0 inside. It fails for user = "me", and for root. What ip says goes
//     to this process's stderr.
//
// Here a helper runs in the foreground with PDEATHSIG, forked by a thread that lives as long as it
// does, with no environment and no descriptor but its own.
//
// Either helper forwards to whatever the host can reach. The link's Closed lists what the sandbox
// must not; package network closes it inside. The helpers' own options close the host's loopback
// once more.
package driver
