package config

import "unicode"

// Visible tells a character that a terminal shows and that does nothing else: no control, no change of direction, nothing
// of no width. Some of the last kind count as letters (the fillers of Hangul) or marks (the selectors of variations), so
// unicode.IsPrint alone lets them through.
func Visible(r rune) bool {
	return unicode.IsPrint(r) && (r < 0x80 || !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector))
}
