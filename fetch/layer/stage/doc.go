// Package stage is "cove-unpack", the half of package layer that runs with the sandbox's ids and
// writes layer directories: it decompresses, unpacks, copies, merges and removes them as the parent asks.
// What the two say to each other is drawn in package layer.
//
// Where those who read the same tars differ, an image is here what it is in docker, containerd and podman:
//
//   - A PAX global header is passed over, as by all three, though pax(1) and GNU tar apply its records to the entries
//     that follow. What ships has a comment there (git archive). umoci refuses it.
//   - Extended attributes are those of SCHILY.xattr records. Of them user.* and security.capability are kept, but none
//     that overlayfs, fuse-overlayfs or containers/storage would take for its own.
//   - A device node is as if its entry were not there: nothing is made, and what has its name stays. A node 0:0, which
//     containerd would make for root, would be a whiteout.
//   - What follows the end of the tar counts for the diffID and for nothing else.
package stage
