package push

import (
	"encoding/binary"
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

// inbound cuts what a client sends into messages and control frames. The zero value stands between two of them and holds nothing; what
// has come of a frame or message that is not complete is in part. Not safe for concurrent use.
type inbound struct {
	part *partial
}

// partial is a message or control frame of which something is missing. It grows with the data that has really come, not with what a header
// announces.
type partial struct {
	message []byte // of the data message under way: what its frames have brought, unmasked
	checked int    // of message, when it is text: bytes that are whole characters
	control []byte // of the control frame under way
	frame   frameHead
	got     int // bytes of frame's payload that have come
	op      byte
	inFrame bool // frame's header is complete; else the header's bytes so far are in head
	headLen uint8
	head    [longestHead]byte
}

// longestHead is the longest header of a client's frame.
const longestHead = 14

// holds returns the memory that waits for the rest of something.
func (in *inbound) holds() int {
	if in.part == nil {
		return 0
	}
	return cap(in.part.message) + cap(in.part.control)
}

// next takes the next complete message (text or binary) or control frame out of data, which it may change, and returns what follows it. op is 0
// when data was used up without completing one. The payload is valid until the next call and as long as data is. An error is a
// *protocolError, found as soon as the bytes that break a rule are there.
func (in *inbound) next(data []byte, limit int) (op byte, payload, rest []byte, err error) {
	if in.part == nil {
		h, size, err := readHead(data, 0, 0, limit)
		if err != nil {
			return 0, nil, nil, err
		}
		if whole := size > 0 && len(data)-size >= h.length; whole && h.fin { // the common case: nothing is kept, nothing copied
			body := data[size : size+h.length : size+h.length]
			ws.Cipher(body, h.mask, 0)
			if h.op == opText && !utf8.Valid(body) {
				return 0, nil, nil, badText()
			}
			return h.op, body, data[size+h.length:], nil
		}
		if len(data) == 0 {
			return 0, nil, nil, nil
		}
		in.part = &partial{}
	}
	p := in.part
	for {
		if !p.inFrame {
			if data, err = p.readHead(data, limit); err != nil || !p.inFrame {
				return 0, nil, nil, err
			}
		}
		if data, err = p.readBody(data); err != nil || p.got < p.frame.length {
			return 0, nil, nil, err
		}
		p.inFrame, p.headLen, p.got = false, 0, 0
		switch {
		case p.frame.op >= opClose:
			op, payload, p.control = p.frame.op, p.control, nil
			if p.op == 0 {
				in.part = nil
			}
			return op, payload, data, nil
		case p.frame.fin:
			in.part = nil
			if p.op == opText && p.checked < len(p.message) {
				return 0, nil, nil, badText()
			}
			return p.op, p.message, data, nil
		}
	}
}

func badText() error { return &protocolError{closeBadText, "a text message is not valid UTF-8"} }

// readHead completes the header of the frame under way as far as data reaches.
func (p *partial) readHead(data []byte, limit int) (rest []byte, err error) {
	for {
		h, size, err := readHead(p.head[:p.headLen], p.op, len(p.message), limit)
		if err != nil {
			return nil, err
		}
		if size > 0 {
			p.frame, p.inFrame = h, true
			if h.op == opText || h.op == opBinary {
				p.op = h.op
			}
			return data, nil
		}
		if len(data) == 0 {
			return nil, nil
		}
		n := copy(p.head[p.headLen:headSize(p.head[:p.headLen])], data)
		p.headLen += uint8(n)
		data = data[n:]
	}
}

// readBody takes what data has of the frame's payload.
func (p *partial) readBody(data []byte) (rest []byte, err error) {
	body := data[:min(len(data), p.frame.length-p.got)]
	ws.Cipher(body, p.frame.mask, p.got)
	p.got += len(body)
	rest = data[len(body):]
	if p.frame.op >= opClose {
		p.control = append(p.control, body...)
		return rest, nil
	}
	p.message = append(p.message, body...)
	if p.op == opText {
		n, ok := wholeText(p.message[p.checked:])
		if !ok {
			return nil, badText()
		}
		p.checked += n
	}
	return rest, nil
}

// wholeText returns how many bytes of b are whole characters, when what follows them may still become one.
func wholeText(b []byte) (n int, ok bool) {
	n = len(b)
	for i := len(b) - 1; i >= 0 && i >= len(b)-utf8.UTFMax+1; i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				n = i
			}
			break
		}
	}
	return n, utf8.Valid(b[:n])
}

type frameHead struct {
	fin    bool
	op     byte
	length int
	mask   [4]byte
}

// headSize returns how many bytes a frame's header has as far as its beginning tells.
func headSize(b []byte) int {
	if len(b) < 2 {
		return 2
	}
	switch b[1] & 127 {
	case 126:
		return 8
	case 127:
		return longestHead
	}
	return 6
}

// readHead reads the header of a client's frame. size is 0 when b does not hold all of it. op is that of the message under way, 0 for none,
// and have what has come of it.
func readHead(b []byte, op byte, have, limit int) (h frameHead, size int, err error) {
	if len(b) < 2 {
		return h, 0, nil
	}
	h = frameHead{fin: b[0]&0x80 != 0, op: b[0] & 15, length: int(b[1] & 127)}
	if err := checkHead(h, b[0]&0x70 != 0, b[1]&0x80 != 0, op); err != nil {
		return h, 0, err
	}
	size = headSize(b)
	if extra := size - 6; extra > 0 {
		if len(b) < 2+extra {
			return h, 0, nil
		}
		n, least := uint64(0), uint64(126)
		for _, c := range b[2 : 2+extra] {
			n = n<<8 | uint64(c)
		}
		if extra == 8 {
			least = 1 << 16
		}
		if n < least {
			return h, 0, &protocolError{closeProtocol, "a length not in its shortest form"}
		}
		h.length = int(min(n, uint64(limit)+1))
	}
	if h.op < opClose && have+h.length > limit {
		return h, 0, &protocolError{closeTooBig, "a message larger than the limit"}
	}
	if len(b) < size {
		return h, 0, nil
	}
	copy(h.mask[:], b[size-4:size])
	return h, size, nil
}

func checkHead(h frameHead, rsv, masked bool, op byte) error {
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
	case h.op == opContinuation && op == 0:
		return wrong("a continuation of nothing")
	case (h.op == opText || h.op == opBinary) && op != 0:
		return wrong("a new message inside a fragmented one")
	}
	return nil
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
