package expr

import "unsafe"

// viewString returns s as a string without copying: for calls that read it and keep nothing.
func viewString(s []byte) string { return unsafe.String(unsafe.SliceData(s), len(s)) }

// isSpace reports what C's isspace does in the C locale.
func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func trimSpace(s []byte) []byte {
	for len(s) > 0 && isSpace(s[0]) {
		s = s[1:]
	}
	for len(s) > 0 && isSpace(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}
