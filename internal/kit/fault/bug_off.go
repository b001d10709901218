//go:build !plantedbugs

package fault

// Bug reports whether the planted bug of this name is on. It is a constant false in an ordinary build.
func Bug(string) bool { return false }
