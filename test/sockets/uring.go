//go:build linux

package main

import (
	"sync/atomic"
	"unsafe"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

// uring writes with io_uring: one system call for all sends of a broadcast. The layout is that of linux/io_uring.h.
type uring struct {
	*polled
	fd                     int
	sqTail, sqMask, cqHead *uint32
	cqTail, cqMask         *uint32
	array                  []uint32
	entries                []sqe
	size                   int
	keep                   []byte // what the kernel reads from
}

type sqe struct {
	opcode, flags uint8
	ioprio        uint16
	fd            int32
	off, addr     uint64
	len, opFlags  uint32
	user          uint64
	_             [3]uint64
}

type uringParams struct {
	sqEntries, cqEntries, flags, cpu, idle, features, wq uint32
	_                                                    [3]uint32
	sq                                                   struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		_                                                   uint64
	}
	cq struct {
		head, tail, mask, entries, overflow, entry, flags, _ uint32
		_                                                    uint64
	}
}

const (
	sysSetup, sysEnter = 425, 426
	opSend             = 26
	getEvents          = 1
	offSQ, offSQEs     = 0, 0x10000000
	ringSize           = 4096
)

func newUring() (server, error) {
	var p uringParams
	fd, _, errno := unix.Syscall(sysSetup, ringSize, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, errno
	}
	// The completion ring lies in the same mapping (IORING_FEAT_SINGLE_MMAP, Linux 5.4).
	length := max(int(p.sq.array+p.sqEntries*4), int(p.cq.entry)+int(p.cqEntries)*16)
	ring, err := unix.Mmap(int(fd), offSQ, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, err
	}
	slots, err := unix.Mmap(int(fd), offSQEs, int(p.sqEntries)*64, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, err
	}
	below, err := newPolled(writeRaw)
	if err != nil {
		return nil, err
	}
	at := func(off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&ring[off])) }
	return &uring{polled: below, fd: int(fd), sqTail: at(p.sq.tail), sqMask: at(p.sq.mask), cqHead: at(p.cq.head), cqTail: at(p.cq.tail), cqMask: at(p.cq.mask),
		array: unsafe.Slice(at(p.sq.array), p.sqEntries), entries: unsafe.Slice((*sqe)(unsafe.Pointer(&slots[0])), p.sqEntries), size: int(p.sqEntries)}, nil
}

func (s *uring) send(text []byte) {
	s.keep = ws.MustCompileFrame(ws.NewTextFrame(text))
	for from := 0; from < len(s.fds); from += s.size {
		s.submit(s.fds[from:min(from+s.size, len(s.fds))])
	}
}

// submit sends to each of fds and waits until all are done.
func (s *uring) submit(fds []int) {
	tail := *s.sqTail
	for _, fd := range fds {
		i := tail & *s.sqMask
		s.entries[i] = sqe{opcode: opSend, fd: int32(fd), addr: uint64(uintptr(unsafe.Pointer(&s.keep[0]))), len: uint32(len(s.keep)), opFlags: unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL}
		s.array[i] = i
		tail++
	}
	atomic.StoreUint32(s.sqTail, tail)
	for left := len(fds); ; left = 0 {
		_, _, errno := unix.Syscall6(sysEnter, uintptr(s.fd), uintptr(left), uintptr(len(fds)), getEvents, 0, 0)
		if n := atomic.LoadUint32(s.cqTail) - *s.cqHead; errno != unix.EINTR && int(n) >= len(fds) {
			break
		}
	}
	atomic.StoreUint32(s.cqHead, atomic.LoadUint32(s.cqTail))
}
