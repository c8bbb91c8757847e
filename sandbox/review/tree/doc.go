// Package tree reads the folders that a copy-on-write view was written into, and puts them right.
//
// What lies in them was written by a program that nobody trusts, under ids that are not the caller's, with modes that
// shut the caller out. So they are opened by a stage of this binary ("cove-review") in the view's own id mapping, in which there
// is nothing but these folders: no network, no other file, few capabilities, a list of system calls. It never sees the
// project: contents travel as descriptors, and the caller, with the caller's own rights, is who writes outside.
//
//	parent                             cove-review (PID 1 inside, uid 0 of the mapping)
//	  | ---- Hello{uppers, idmap} ---> |  opens uppers by path, changes ids, has no other root than them
//	  |                                |  drops capabilities, loads its filter
//	  | <--- ready ------------------- |
//	  | ---- walk{view} -------------> |
//	  | <--- entries, entries, done -- |  one folder after the other, parents first
//	  | ---- open{view, path} -------> |
//	  | <--- entry + descriptor ------ |
//	  | ---- remove | merge | put ---> |  likewise answered, one at a time
//
// Package stage is the other half.
package tree
