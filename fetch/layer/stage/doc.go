// Package stage is "cove-unpack", the half of package layer that runs with the sandbox's ids and
// writes layer directories: it decompresses, unpacks, copies, merges and removes them as the parent asks.
// What the two say to each other is drawn in package layer.
package stage
