//go:build !linux

package disk

import "os"

// Allocate makes f size bytes long and takes the space for them on the disk, so that writing there later cannot fail for want of it. A full
// disk is an error that [IsFull] knows.
func Allocate(f *os.File, size int64) error { return writeZeros(f, size) }
