package disk

import (
	"os"
	"syscall"
)

// SyncData makes a file's bytes durable, and of its metadata only what reading them back needs.
func SyncData(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

// Free returns the bytes that an unprivileged process can still write below dir.
func Free(dir string) (uint64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, os.NewSyscallError("statfs", err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}

const fadviseDontNeed = 4

// forget asks the kernel to drop clean cached pages of a range; n 0 is to the end. It is advice: a failure means that a later read may come from memory.
func forget(f *os.File, off, n int64) {
	_, _, _ = syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), uintptr(off), uintptr(n), fadviseDontNeed, 0, 0)
}
