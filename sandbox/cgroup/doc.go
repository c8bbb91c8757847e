// Package cgroup holds a sandbox to its limits on memory, processors and processes: it makes a control group of version 2
// (cgroups(7), and Documentation/admin-guide/cgroup-v2.rst of the kernel) with the limits in force, and moves the
// sandbox's init there before that starts anything. What init forks is born there.
//
// The group is a transient scope of the user's systemd, which ends by itself when nothing is left in it, whoever was
// killed; for root it is one of the machine's. Where there is no systemd, it is made below our own group, when that
// was given to us; what a killed cove leaves is removed by the next one.
//
// fuse-overlayfs, slirp4netns and pasta, which serve a sandbox, stay outside of its group: stalled together with what
// they serve, none could go on.
package cgroup
