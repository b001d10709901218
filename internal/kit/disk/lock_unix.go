//go:build unix

package disk

import (
	"os"
	"syscall"
)

// flock takes an exclusive lock without waiting; the kernel releases it with the last descriptor of f.
func flock(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
