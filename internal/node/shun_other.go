//go:build !linux

package node

import (
	"errors"
	"net/netip"
	"syscall"
)

// canShun says whether the kernel can drop what would open connections.
const canShun = false

// dropFrom is Linux's.
func dropFrom(syscall.RawConn, []netip.Addr) error { return errors.ErrUnsupported }
