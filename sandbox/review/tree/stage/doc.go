// Package stage is cove-review, the inner half of package tree: what opens a view's folders.
//
// The whole process is confined before it looks at the first of them: its root is a tmpfs that holds these folders and
// nothing else, so that no name in them, link or not, leads elsewhere; of capabilities it has those that it takes to read,
// remove and make files of the mapping's ids, and of system calls those that it makes. Nothing in the folders is opened but
// folders and regular files.
package stage
