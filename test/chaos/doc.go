// Package chaos holds the tests that hurt the real binary: kill -9 at random moments under load, bad input, bad days of the
// disk. It has no code of its own outside its tests.
package chaos
