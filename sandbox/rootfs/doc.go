// Package rootfs puts the root file system of a sandbox together inside its namespaces and moves
// into it: overlay, binds, /proc, /sys, /dev, generated files, pivot_root(2).
//
// Everything that lies on the host is opened first, with the caller's own ids (Open); from then
// on no path of the host is resolved again. Everything inside the new root is resolved with
// openat2(2) RESOLVE_IN_ROOT, since an image may hold links that point anywhere. Mounts are made
// with the descriptor calls of Linux 5.2 and 5.12 (fsopen, open_tree, move_mount, mount_setattr),
// so that neither a colon nor a newline in a name means anything.
package rootfs
