// Package store keeps images on disk: one directory per layer and id mapping, the manifests and
// configs, and the names that users know them by.
//
//	version                        "1": a store of a newer format is refused
//	lock                           shared by who adds, exclusive for who collects
//	names/HASH.json                a reference and platform -> manifest digest
//	images/HEX.KEY.json            an image's record, for one id mapping: written last
//	images/HEX.KEY.lock            held shared while something runs from that image
//	blobs/{sha256,sha512}/HEX      manifests and configs, as sent
//	layers/KEY/HEX/                a layer; HEX is its diffID or, where it depended on what lies below, its chainID
//	layers/KEY/.tmp-ID-N/          a layer being made by session ID
//	layers/KEY/.old-HEX-ID/        a damaged layer that was replaced, as long as something may run from it
//	lists/KEY/HEX                  what unpacking made of that layer: package list
//	lists/KEY/HEX.damaged          a check found that layer damaged: the next pull replaces it
//	locks/KEY.HEX                  held while that layer is made
//	tmp/ID/                        a session's own files; its lock is on the directory
//	setups/KEY.{lock,log}          held while an image is set up; what the commands wrote
//	persist/HASH/                  a root file system's changes that are kept: like a run's directory, and persisted.json,
//	                               which says what they are of; the lock is on the directory
//	reviews/                     projects' views, which are package review's (sandbox/review)
//	prepared/BOOT.DIGEST/layer/    what cove puts above an image at each start of a kind; who runs from it holds the folder's lock
//	                               shared. It is made in the run's directory below
//	run/ID/{upper,work}            a sandbox's writable files; the lock is on the directory
//
// Everything but what is prepared is made under another name, synced, and renamed, so that a kill at any moment
// leaves nothing that a later pull would believe. A full disk, a quota, a read-only file system and whatever else
// a write may end with are the same to it: an error, and what was made is removed. Locks are flock(2): they die with their holder,
// and what is left over is known by its free lock and swept by the next command.
//
// Names that a version of cove does not know are left alone, by it and by those before: lists came later, and a
// layer without one is used as ever.
package store
