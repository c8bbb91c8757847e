// Package change compares a copy-on-write view with the project that it is of, shows the differences, and carries them over:
// all, some paths, or some hunks; and back again.
//
// The view was written by a program that nobody trusts: package tree reads it, in a stage. The project is read and written
// here, with the caller's own rights, below its folder only and through no link (openat2(2)), while others may change it.
//
// There is no snapshot of the project. What changed outside since the view was made has a later ctime, which no program
// can set back; what cove itself wrote there is remembered by inode and ctime (state.json). Where the two do not agree, it is a
// conflict, and nothing is overwritten unless that is forced.
//
// An apply writes down what it is going to do (journal.json), and what was there before (old/), to the disk, before it changes
// anything; then each file comes under a temporary name in its own folder, is synced, and takes its place in one rename that
// shows what was there: what turns out to be something else goes back. So a file is old or new at any time, a kill leaves a
// journal that the next apply takes up, and an undo is an apply of what was there before.
//
//	STORE/reviews/KEY/apply/state.json    what was applied, and what cove wrote outside
//	STORE/reviews/KEY/apply/journal.json  the last apply, its steps, and how far it came
//	STORE/reviews/KEY/apply/steps-ID      what was made under which inode, a line a step
//	STORE/reviews/KEY/apply/old/N         what was at the N-th step's path before
//	STORE/reviews/KEY/apply/log           a line for each path that was applied or taken back, for people
package change
