//go:build unix

package main

import (
	"io"
	"os"
	"syscall"
	"unsafe"
)

// terminalSize returns the columns and lines of the terminal that w is. A device that has none, such as /dev/null, is no terminal.
func terminalSize(w io.Writer) (width, height int, ok bool) {
	f, is := w.(*os.File)
	if !is {
		return 0, 0, false
	}
	var size struct{ rows, columns, x, y uint16 }
	_, _, err := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), uintptr(syscall.TIOCGWINSZ), uintptr(unsafe.Pointer(&size)))
	if err != 0 {
		return 0, 0, false
	}
	if size.columns == 0 || size.rows == 0 { // a terminal that does not say
		return 80, 24, true
	}
	return int(size.columns), int(size.rows), true
}
