// Package list is the form of a layer's listing: what the unpacking made, written beside the layer
// once and never changed, so that a later look at the disk can be compared with it.
//
//	"cove layer listing 1\n"   another number is another format
//	label                      the layer's diffID: a listing of another layer is none
//	entry                      the root directory itself
//	block                      what is in it, by name, up to an end mark
//	block...                   of each directory in the last block, by name; and so on down
//	entries bytes disk         of the whole, 8 bytes each
//	sha256                     of everything before it
//
// There are no paths in it: a directory's block comes where it has to come, so that who walks the
// tree in the same order compares the two as streams, and a million entries take no memory. Numbers
// are varints, names and other text a length and then bytes, whichever they are. A file that has
// several names has a number, by which the later ones name it.
//
// A file's content is known by its size and its CRC-32C, and so is the value of an extended
// attribute. That finds what a disk, a file system or a mishap does to a file: every run of up to 32
// changed bits, and of anything else all but one in four thousand million. It is no seal against
// somebody who changes a file so that the sum stays: who can write in the store can write the
// listing too. Against that there is the digest of the layer, at the next pull.
package list
