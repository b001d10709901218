//go:build !crashpoints

package fault

// Point is a place at which a test may kill the process. Names are "<room>.<what has just happened>".
func Point(string) {}
