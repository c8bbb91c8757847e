// Package wide decodes zstd frames whose window is too wide to be kept in memory.
//
// A window is what a match may reach back over: 8 MiB at the levels that people use, but 128 MiB
// for `zstd --long=27` and --ultra -22, and some layers are packed so. A decoder that keeps it in memory
// takes more than all the rest of a pull. This one keeps the last few megabytes and reads what lies
// farther back from a file, where it has written all it decoded. Such matches are rare and long, so
// that few of them cost a system call that a common frame does not.
//
// It follows RFC 8878; the literals' Huffman codes are left to package huff0. It does frames only,
// one each: skippable ones, and those that github.com/klauspost/compress/zstd decodes faster with
// its window in memory, are the caller's. Dictionaries are not for layers and are refused.
package wide
