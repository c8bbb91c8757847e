// Package layer turns a layer's tar stream into a directory that overlayfs can stack, and back.
//
// A tar is written by a stranger, so it is unpacked where its names can mean nothing else: in a
// stage of this binary ("cove-unpack") with the sandbox's own id mapping, no network, few capabilities,
// a list of system calls, and every unpacking thread pivoted into the layer's directory. The parent hashes what comes off the wire
// and pipes it in; the stage decompresses, hashes and unpacks in the same pass. This package is the
// parent's half, and light, for a sandbox's start links it too; package stage is the other:
//
//	parent                             cove-unpack (PID 1 inside, uid 0 of the mapping)
//	  | ---- Hello{dirs, idmap} -----> |  opens dirs by path, changes ids, has no other root than them
//	  |                                |  drops capabilities, loads its filter
//	  | <--- ready ------------------- |
//	  | ---- unpack{dir, name} + pipe> |  a thread of its own: unshare, pivot_root, drop caps, filter
//	  | ==== compressed bytes =======> |
//	  | <--- needs below ------------- |  only when an entry's parent or link target is not in this layer
//	  | ---- below{names} -----------> |
//	  | <--- {diffID, bytes, entries} or error text
//	  | ---- remove | copy | flatten > |  likewise answered, each by its number
//	  | ---- pack{dir, tree} + pipe -> |  the way back, on such a thread too
//	  | <=== the tar, uncompressed === |
//
// The directory is in overlayfs's own format: a whiteout is a character device 0:0, an opaque
// directory has user.overlay.opaque=y (overlayfs.rst, "userxattr"). Layers do not know each
// other, except where the format needs it: see below_linux.go in package stage.
//
// It follows the OCI image-spec 1.1 layer.md, and pax(5) and tar(5) by way of archive/tar.
package layer
