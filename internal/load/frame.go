package load

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Opcodes of RFC 6455.
const (
	opContinuation = 0
	opText         = 1
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

// maxFrame bounds a frame of the server: more is an error of its or of ours.
const maxFrame = 64 << 20

// errFrame says that what came is not a frame that a server may send.
var errFrame = errors.New("not a WebSocket frame of a server")

// nextFrame cuts the first frame off b. ok is false when it is not complete; need is then how many bytes the frame has, 0 when that is not known yet.
func nextFrame(b []byte) (op byte, fin bool, payload, rest []byte, need int, err error) {
	if len(b) < 2 {
		return 0, false, nil, b, 0, nil
	}
	if b[0]&0x70 != 0 || b[1]&0x80 != 0 {
		return 0, false, nil, b, 0, errFrame
	}
	head, n := 2, uint64(b[1])
	switch n {
	case 126:
		if head = 4; len(b) < head {
			return 0, false, nil, b, 0, nil
		}
		n = uint64(binary.BigEndian.Uint16(b[2:]))
	case 127:
		if head = 10; len(b) < head {
			return 0, false, nil, b, 0, nil
		}
		n = binary.BigEndian.Uint64(b[2:])
	}
	if n > maxFrame {
		return 0, false, nil, b, 0, fmt.Errorf("a frame of %d bytes: more than %d", n, maxFrame)
	}
	if end := head + int(n); len(b) >= end {
		return b[0] & 15, b[0]&0x80 != 0, b[head:end], b[end:], end, nil
	} else {
		return 0, false, nil, b, end, nil
	}
}

// appendFrame appends a frame as a client sends it. Its mask is zero, which is a mask: proxies that it would have to outwit are not between.
func appendFrame(b []byte, op byte, payload []byte) []byte {
	b = append(b, 0x80|op)
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

// Kind is what a frame of the server is: the value of its member type.
type Kind string

// kindOf returns the type of a frame: its first member.
func kindOf(payload []byte) Kind {
	const head = `{"type":"`
	if !bytes.HasPrefix(payload, []byte(head)) {
		return ""
	}
	rest := payload[len(head):]
	end := bytes.IndexByte(rest[:min(len(rest), 32)], '"')
	if end < 0 {
		return ""
	}
	switch k := rest[:end]; string(k) { // without allocating for those that come all the time
	case "epoch":
		return "epoch"
	case "snapshot":
		return "snapshot"
	default:
		return Kind(k)
	}
}

// text returns the string member name of a frame: its first occurrence.
func text(payload []byte, name string) string {
	v, _ := member(payload, name)
	return string(v)
}

func member(payload []byte, name string) ([]byte, bool) {
	at := bytes.Index(payload, []byte(`"`+name+`":"`))
	if at < 0 {
		return nil, false
	}
	rest := payload[at+len(name)+4:]
	end := bytes.IndexByte(rest, '"')
	if end < 0 {
		return nil, false
	}
	return rest[:end], true
}

// sequence returns the sequence of a frame's position.
func sequence(payload []byte) (uint64, bool) {
	const name = `"position":"`
	at := bytes.Index(payload, []byte(name))
	if at < 0 {
		return 0, false
	}
	rest := payload[at+len(name):]
	end := bytes.IndexByte(rest, '"')
	if end < 0 {
		return 0, false
	}
	dash := bytes.LastIndexByte(rest[:end], '-')
	if dash < 0 {
		return 0, false
	}
	n, left, ok := number(rest[dash+1 : end])
	return uint64(n), ok && len(left) == 0
}
