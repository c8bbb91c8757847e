// Package image is what an image reference stands for once its files are on this machine: Image, and
// Find, which finds one in the store without a network and without the packages that speak to one.
//
// Package fetch does the rest, by the same code where both do the same: its Pull returns what Find
// returns, and gets what Find does not find. Find is apart from it for the sake of starting: what
// package fetch links takes longer to initialise than it takes to find an image here.
package image
