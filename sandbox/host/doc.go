// Package host finds out what this kernel and this machine allow, by trying it: a version number
// says little about a kernel with back-ports, a sysctl or an AppArmor policy in the way.
//
// Probe returns a Host, plain data that sandbox.Plan decides by and `cove doctor` prints. Cheap
// facts are read every time. Those that need a process (a user namespace, an overlay mounted in
// it) are tried in a stage of their own, cove-probe, and kept for as long as nothing changed
// that they depend on: this boot, the kernel, the helpers' files, the sysctls, the store's device.
// With a good cache Probe starts nothing and costs well under a millisecond.
//
// The environment variable COVE_HIDE names facts to take away, so that one machine can show what
// a lesser one would do: "overlay", "fuse-overlayfs", "newuidmap", "slirp4netns", "pasta",
// "userns", "landlock", "landlock-scope", "systemd" and "cgroup", separated by commas. It never adds anything.
package host
