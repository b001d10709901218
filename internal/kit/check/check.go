// Package check states what must be true.
//
// Assertions are about our own mistakes and stay on in production: a broken invariant ends the goroutine's group through
// kit/run, with the sentence that was broken. Bad input is never asserted; it is answered with an error.
package check

import "fmt"

// That panics with the formatted sentence when ok is false.
func That(ok bool, format string, args ...any) {
	if !ok {
		panic("broken invariant: " + fmt.Sprintf(format, args...))
	}
}
