package disk

import (
	"errors"
	"os"
	"syscall"
)

// Allocate makes f size bytes long and takes the space for them on the disk, so that writing there later cannot fail for want of it. A full
// disk is an error that [IsFull] knows.
func Allocate(f *os.File, size int64) error {
	for {
		err := syscall.Fallocate(int(f.Fd()), 0, 0, size)
		switch {
		case err == syscall.EINTR:
		case errors.Is(err, syscall.EOPNOTSUPP):
			return writeZeros(f, size)
		default:
			return os.NewSyscallError("fallocate", err)
		}
	}
}
