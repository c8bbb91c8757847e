package config

// Nearest is the word of known that was probably meant by word, or "" when none is close enough.
func Nearest(word string, known []string) string { return nearest(word, known) }
