// Package review is the store of copy-on-write views: of each project at most one, kept from when a sandbox first
// works in it until it is applied or discarded.
//
//	STORE/reviews/KEY/               one project's; KEY is made of its folder's path. flock(2) on the directory: somebody uses it
//	STORE/reviews/KEY/record.json    what the view is of, written last: a folder without it is a leftover
//	STORE/reviews/KEY/user           the name of the sandbox that uses it, or used it last
//	STORE/reviews/KEY/N/{upper,work} the N-th View, of an overlay or fuse-overlayfs
//	STORE/reviews/KEY/N/tree         of a copy
//	STORE/reviews/KEY/settled        all in it was applied: who works in it next begins anew
//	STORE/reviews/KEY/apply/         package change's; it outlives the view
//
// What lies in a view was made inside a sandbox, and is owned by the ids that were mapped there: it takes a user namespace
// to read or remove all of it. Names in it are not to be followed: an upper directory may hold any link.
//
// What a view holds in comparison to the project, and how that gets there, is package change's.
package review
