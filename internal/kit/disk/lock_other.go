//go:build !unix

package disk

import "os"

// flock does nothing: this system has no such lock, so two processes on one folder are not kept apart.
func flock(*os.File) error { return nil }
