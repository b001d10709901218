//go:build unix

package node

import "syscall"

// openFiles returns how many files the process may have open, 0 when that is not known.
func openFiles() int64 {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil || uint64(r.Cur) > 1<<40 {
		return 0
	}
	return int64(r.Cur)
}
