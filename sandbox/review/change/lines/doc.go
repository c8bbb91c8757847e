// Package lines compares texts line by line: Myers's difference algorithm in linear space (E. Myers, An O(ND) Difference
// Algorithm and Its Variations, 1986), and the hunks of a unified diff, of which some can be taken and others left.
//
// It is pure. What it is given may be hostile: its time is bounded, at the price of a longer difference than need be.
package lines
