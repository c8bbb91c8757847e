// Package driver is the parent half of the sandbox's network: it runs on the host, starts a user-mode network
// for a sandbox's network namespace (Attach) and publishes ports (Publish). What is to be done inside
// goes to package network beside it as a spec.Link.
//
// Two helper programs can carry the packets:
//
//   - slirp4netns, through rootlesskit's driver. That starts it with PDEATHSIG and kills it on clean-up; here it is
//     called on a thread that lives as long as the helper, since the signal belongs to the thread.
//   - pasta, started here and not through rootlesskit's driver: that lets pasta become a daemon, which no PDEATHSIG
//     reaches, and its clean-up is empty, so pasta would outlive a killed cove, and hold the network namespace.
//
// Either forwards to whatever the host can reach. Closed lists what the sandbox must not; package network
// closes it inside. The helpers' own options close the host's loopback once more.
package driver
