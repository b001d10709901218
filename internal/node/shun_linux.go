package node

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// canShun says whether the kernel can drop what would open connections.
const canShun = true

// Offsets in packets that open connections, as a filter of a TCP socket sees them (linux/filter.h: a negative one is from the network header).
const (
	networkHeader = 0xfff00000 // SKF_NET_OFF
	ipv4Source    = networkHeader + 12
	ipv6Source    = networkHeader + 8
	tcpFlags      = 13 // of the TCP header, where the packet begins
	syn, ack      = 2, 16
)

// dropFrom has a listening socket ignore what would open a connection from these addresses, IPv6 by the first 64 bits. With none it ignores nothing. The
// connections that it accepts keep the filter of their moment, which lets everything pass that opens none.
func dropFrom(socket syscall.RawConn, from []netip.Addr) (err error) {
	filter := shunFilter(from)
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if oops := socket.Control(func(fd uintptr) {
		if len(from) == 0 {
			if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0); errors.Is(err, unix.ENOENT) {
				err = nil // there was none
			}
		} else {
			err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)
		}
	}); oops != nil { // the listener is closed
		return nil
	}
	return err
}

// shunFilter is that program, for the kernel's classic packet filter.
func shunFilter(from []netip.Addr) []unix.SockFilter {
	const (
		load8  = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
		load32 = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		and    = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		jump   = unix.BPF_JMP | unix.BPF_JA
		end    = unix.BPF_RET | unix.BPF_K
	)
	pass, drop := unix.SockFilter{Code: end, K: 1<<32 - 1}, unix.SockFilter{Code: end}
	var v4, v6 []unix.SockFilter
	for _, a := range from {
		if a.Is4() {
			b := a.As4()
			v4 = append(v4, unix.SockFilter{Code: equal, Jf: 1, K: binary.BigEndian.Uint32(b[:])}, drop)
			continue
		}
		b := a.As16()
		v6 = append(v6, unix.SockFilter{Code: load32, K: ipv6Source}, unix.SockFilter{Code: equal, Jf: 3, K: binary.BigEndian.Uint32(b[:])},
			unix.SockFilter{Code: load32, K: ipv6Source + 4}, unix.SockFilter{Code: equal, Jf: 1, K: binary.BigEndian.Uint32(b[4:])}, drop)
	}
	out := []unix.SockFilter{
		{Code: load8, K: tcpFlags}, {Code: and, K: syn | ack}, {Code: equal, K: syn, Jt: 1}, pass,
		{Code: load8, K: networkHeader}, {Code: and, K: 0xf0}, {Code: equal, K: 0x60, Jf: 1}, {Code: jump, K: uint32(len(v4) + 2)},
		{Code: load32, K: ipv4Source},
	}
	out = append(append(out, v4...), pass)
	return append(append(out, v6...), pass)
}
