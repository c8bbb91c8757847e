// Package unzip decompresses layers and archives, gzip or zstd, in little memory: what a zstd frame may look back over is
// kept in a file where it is much (package wide). It bounds memory, and not what comes out.
package unzip
