package load

import (
	"syscall"
	"time"
	"unsafe"
)

// cpuClock reads the processor-time clock of another process, to the nanosecond: /proc has hundredths of a second.
func cpuClock(pid int) (time.Duration, bool) {
	id := int32(^pid)<<3 | 2 // as clock_getcpuclockid makes it: the clock that the scheduler keeps
	var t syscall.Timespec
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(id), uintptr(unsafe.Pointer(&t)), 0)
	return time.Duration(t.Nano()), errno == 0
}
