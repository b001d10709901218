//go:build plantedbugs

package fault

import "os"

// Bug reports whether the planted bug of this name is on.
func Bug(name string) bool { return os.Getenv("LAASTER_BUG") == name }
