//go:build unix && !linux

package push

import "syscall"

// tuneSocket does nothing here.
func tuneSocket(syscall.RawConn, int) {}

// queuedBytes is not known here.
func queuedBytes(syscall.RawConn) int { return 0 }

func roundTrip(syscall.RawConn) int64 { return 0 }

// narrowSocket bounds what the kernel holds.
func narrowSocket(raw syscall.RawConn, bytes, _ int) {
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, bytes)
	})
}
