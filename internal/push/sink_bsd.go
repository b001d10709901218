//go:build unix && !linux

package push

import "syscall"

// tuneSocket does nothing here.
func tuneSocket(syscall.RawConn, int) {}
