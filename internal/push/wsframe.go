package push

import (
	"encoding/binary"
	"io"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// The opcodes of RFC 6455.
const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

// The close codes that we send.
const (
	closeNormal      = 1000
	closeGoingAway   = 1001
	closeProtocol    = 1002
	closeUnsupported = 1003
	closeNoStatus    = 1005 // never on the wire: a close frame without a code
	closeBadText     = 1007
	closePolicy      = 1008
	closeTooBig      = 1009
	closeTryLater    = 1013
)

// frameHeader is room for the header of a server's frame: the longest is 10 bytes.
const frameHeader = 10

// sealText turns buf, which starts with frameHeader bytes of room, into an unmasked text frame with the rest as payload.
func sealText(buf []byte) []byte { return sealFrame(buf, opText) }

func sealFrame(buf []byte, op byte) []byte {
	n := len(buf) - frameHeader
	switch {
	case n < 126:
		buf[8], buf[9] = 0x80|op, byte(n)
		return buf[8:]
	case n < 1<<16:
		buf[6], buf[7] = 0x80|op, 126
		binary.BigEndian.PutUint16(buf[8:], uint16(n))
		return buf[6:]
	}
	buf[0], buf[1] = 0x80|op, 127
	binary.BigEndian.PutUint64(buf[2:], uint64(n))
	return buf
}

// closeFrame returns a close frame; closeNoStatus makes an empty one.
func closeFrame(code int, reason string) []byte {
	buf := make([]byte, frameHeader, frameHeader+2+len(reason))
	if code != closeNoStatus {
		buf = binary.BigEndian.AppendUint16(buf, uint16(code))
		buf = append(buf, reason...)
	}
	return sealFrame(buf, opClose)
}

// protocolError is a violation of RFC 6455 by the client: it ends the connection with the code.
type protocolError struct {
	code   int
	reason string
}

func (e *protocolError) Error() string { return "websocket: " + e.reason }

// frameReader reads the messages of a client. It keeps a small buffer while idle and grows with the data that has really
// come, not with what a header announces.
type frameReader struct {
	src     io.Reader
	limit   int    // bytes of a message
	buf     []byte // read from src and not used yet: buf[r:]
	r       int
	message []byte // a fragmented message so far
	op      byte   // its opcode; 0 when none is under way
}

const idleBuffer = 512

// next returns the next complete message (text or binary) or control frame. The payload is valid until the next call. An error
// is a *protocolError or the source's.
func (f *frameReader) next() (op byte, payload []byte, err error) {
	if f.r == len(f.buf) && cap(f.buf) > 4*idleBuffer {
		f.buf, f.r = nil, 0
	}
	if f.op == 0 {
		f.message = nil
	}
	for {
		head, err := f.header()
		if err != nil {
			return 0, nil, err
		}
		body, err := f.take(head.length)
		if err != nil {
			return 0, nil, err
		}
		ws.Cipher(body, head.mask, 0)
		switch {
		case head.op >= opClose:
			return head.op, body, nil
		case head.fin && f.op == 0:
			return checkText(head.op, body)
		}
		if head.op != opContinuation {
			f.op = head.op
		}
		f.message = append(f.message, body...)
		if head.fin {
			op, f.op = f.op, 0
			return checkText(op, f.message)
		}
	}
}

func checkText(op byte, payload []byte) (byte, []byte, error) {
	if op == opText && !utf8.Valid(payload) {
		return 0, nil, &protocolError{closeBadText, "a text message is not valid UTF-8"}
	}
	return op, payload, nil
}

type frameHead struct {
	fin    bool
	op     byte
	length int
	mask   [4]byte
}

func (f *frameReader) header() (frameHead, error) {
	b, err := f.take(2)
	if err != nil {
		return frameHead{}, err
	}
	h := frameHead{fin: b[0]&0x80 != 0, op: b[0] & 15, length: int(b[1] & 127)}
	rsv, masked := b[0]&0x70 != 0, b[1]&0x80 != 0
	extra := 0
	switch h.length {
	case 126:
		extra = 2
	case 127:
		extra = 8
	}
	if err := f.checkHead(h, rsv, masked); err != nil {
		return h, err
	}
	if extra > 0 {
		if b, err = f.take(extra); err != nil {
			return h, err
		}
		n, least := uint64(0), uint64(126)
		for _, c := range b {
			n = n<<8 | uint64(c)
		}
		if extra == 8 {
			least = 1 << 16
		}
		if n < least {
			return h, &protocolError{closeProtocol, "a length not in its shortest form"}
		}
		if n > uint64(f.limit) {
			return h, f.tooBig()
		}
		h.length = int(n)
	}
	if len(f.message)+h.length > f.limit {
		return h, f.tooBig()
	}
	if b, err = f.take(4); err != nil {
		return h, err
	}
	copy(h.mask[:], b)
	return h, nil
}

func (f *frameReader) tooBig() error {
	return &protocolError{closeTooBig, "a message larger than the limit"}
}

func (f *frameReader) checkHead(h frameHead, rsv, masked bool) error {
	wrong := func(reason string) error { return &protocolError{closeProtocol, reason} }
	control := h.op >= opClose
	switch {
	case rsv:
		return wrong("a reserved bit is set")
	case !masked:
		return wrong("a client's frame must be masked")
	case h.op > opBinary && h.op < opClose || h.op > opPong:
		return wrong("an unknown opcode")
	case control && !h.fin:
		return wrong("a control frame in fragments")
	case control && h.length > 125:
		return wrong("a control frame longer than 125 bytes")
	case h.op == opContinuation && f.op == 0:
		return wrong("a continuation of nothing")
	case (h.op == opText || h.op == opBinary) && f.op != 0:
		return wrong("a new message inside a fragmented one")
	}
	return nil
}

// take returns the next n bytes. They are valid until the next call.
func (f *frameReader) take(n int) ([]byte, error) {
	if f.r > 0 && f.r == len(f.buf) {
		f.buf, f.r = f.buf[:0], 0
	}
	for len(f.buf)-f.r < n {
		if err := f.fill(n); err != nil {
			return nil, err
		}
	}
	b := f.buf[f.r : f.r+n : f.r+n]
	f.r += n
	return b, nil
}

// fill reads once, with room for at least part of the n bytes that are wanted.
func (f *frameReader) fill(n int) error {
	if len(f.buf) == cap(f.buf) {
		used := f.buf[f.r:]
		if f.r > cap(f.buf)/2 {
			f.buf = f.buf[:copy(f.buf, used)]
		} else {
			f.buf = append(make([]byte, 0, max(idleBuffer, min(2*cap(f.buf), len(used)+n))), used...)
		}
		f.r = 0
	}
	m, err := f.src.Read(f.buf[len(f.buf):cap(f.buf)])
	f.buf = f.buf[:len(f.buf)+m]
	if m > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// closeCode reads the payload of a client's close frame and returns the code to echo.
func closeCode(payload []byte) int {
	if len(payload) == 0 {
		return closeNoStatus
	}
	if len(payload) == 1 {
		return closeProtocol
	}
	code := int(binary.BigEndian.Uint16(payload))
	switch {
	case code < 1000, code >= 1004 && code <= 1006, code > 1014 && code < 3000, code > 4999:
		return closeProtocol
	case !utf8.Valid(payload[2:]):
		return closeBadText
	}
	return code
}
