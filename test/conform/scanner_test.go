package conform

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// class names a boundary between two bytes by where in the conversation it is.
type class string

// The classes. Between two frames or events is a boundary too: there, nothing is half.
const (
	inHead    class = "head"    // inside the HTTP head
	inHeader  class = "header"  // inside a WebSocket frame's header
	inPayload class = "payload" // in the middle of a frame's payload
	inLine    class = "line"    // inside a line of an event
	inEvent   class = "event"   // behind a line of an event, before the blank line that ends it
	inBody    class = "body"    // inside the body of any other request or answer
	between   class = "between" // behind a frame or an event
)

// scanner reads one direction of a connection byte by byte. The zero value is at its beginning.
type scanner struct {
	up   bool
	at   class // of the boundary behind the last byte; empty: one of no class
	unit int   // how many heads, frames and events are complete

	mode  class // of what follows the head: inPayload, inLine or inBody
	head  []byte
	frame []byte // the header of a frame so far
	size  uint64 // of its payload
	have  uint64 // of its payload
	chunk chunks
	line  int  // bytes of the line
	blank bool // the line is the first of its event, or nothing of an event came yet
}

// chunks is the framing of a body in chunks; on is false when there is none.
type chunks struct {
	on   bool
	size []byte // the line with the size, so far
	left uint64 // bytes of the chunk, its line end included
}

// next takes a byte.
func (s *scanner) next(c byte) {
	switch s.mode {
	case "":
		s.inHead(c)
	case inPayload:
		s.inFrame(c)
	case inLine:
		if s.chunk.data(c) {
			s.inStream(c)
		} else {
			s.at = ""
		}
	default:
		s.at = inBody
	}
}

func (s *scanner) inHead(c byte) {
	s.head = append(s.head, c)
	s.at = ""
	if len(s.head) >= 20 {
		s.at = inHead
	}
	if !bytes.HasSuffix(s.head, []byte("\r\n\r\n")) {
		return
	}
	h := strings.ToLower(string(s.head))
	s.unit, s.at, s.mode = 1, between, inBody
	switch {
	case strings.Contains(h, "upgrade: websocket") && (s.up || strings.HasPrefix(h, "http/1.1 101")):
		s.mode = inPayload
	case !s.up && strings.Contains(h, "content-type: text/event-stream"):
		s.mode, s.blank = inLine, true
		s.chunk.on = strings.Contains(h, "transfer-encoding: chunked")
	}
}

func (s *scanner) inFrame(c byte) {
	if s.size == 0 {
		s.frame = append(s.frame, c)
		s.at = inHeader
		if len(s.frame) < 2 {
			return
		}
		size, header := uint64(s.frame[1]&127), 2
		if size >= 126 {
			header += map[uint64]int{126: 2, 127: 8}[size]
		}
		if s.frame[1]&128 != 0 {
			header += 4
		}
		if len(s.frame) < header {
			return
		}
		if size >= 126 {
			n := map[uint64]int{126: 2, 127: 8}[size]
			size = 0
			for _, b := range s.frame[2 : 2+n] {
				size = size<<8 | uint64(b)
			}
		}
		s.frame, s.size, s.have = s.frame[:0], size, 0
		if s.at = ""; size == 0 {
			s.complete()
		}
		return
	}
	s.have++
	switch {
	case s.have == s.size:
		s.size = 0
		s.complete()
	case s.have >= (s.size+1)/2:
		s.at = inPayload
	default:
		s.at = ""
	}
}

func (s *scanner) complete() { s.at, s.unit = between, s.unit+1 }

func (s *scanner) inStream(c byte) {
	switch {
	case c == '\n' && s.line == 0 && s.blank: // a blank line after a blank line
		s.at = between
	case c == '\n' && s.line == 0:
		s.blank = true
		s.complete()
	case c == '\n':
		s.line, s.blank, s.at = 0, false, inEvent
	default:
		s.line++
		s.at = ""
		if s.line > 6 {
			s.at = inLine
		}
	}
}

// data reports whether the byte is one of the body and not of its framing.
func (k *chunks) data(c byte) bool {
	switch {
	case !k.on:
		return true
	case k.left > 2:
		k.left--
		return true
	case k.left > 0:
		k.left--
		return false
	}
	if k.size = append(k.size, c); c == '\n' {
		var n uint64
		_, _ = fmt.Sscanf(string(k.size), "%x", &n) // framing that cannot be read: nothing is cut in it
		k.size, k.left = k.size[:0], n+2
	}
	return false
}

// TestScanner: each boundary of a conversation has the class that it should.
func TestScanner(t *testing.T) {
	classes := func(up bool, text string) []string {
		var out []string
		s := scanner{up: up}
		for _, c := range []byte(text) {
			s.next(c)
			if is := fmt.Sprintf("%s %d", s.at, s.unit); len(out) == 0 || out[len(out)-1] != is {
				out = append(out, is)
			}
		}
		return out
	}
	for _, c := range []struct {
		name string
		up   bool
		text string
		want string
	}{
		{"answer", false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", " 0, head 0, between 1, body 1"},
		{"socket", false, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x04abcd\x89\x00\x81\x7e\x00\x80" + strings.Repeat("x", 128),
			" 0, head 0, between 1, header 1,  1, payload 1, between 2, header 2, between 3, header 3,  3, payload 3, between 4"},
		{"client", true, "GET /v1/live HTTP/1.1\r\nUpgrade: websocket\r\n\r\n\x81\x82mask{}", " 0, head 0, between 1, header 1,  1, payload 1, between 2"},
		{"stream", false, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: epoch\ndata: {}\n\n: beat\n\n",
			" 0, head 0, between 1,  1, line 1, event 1,  1, line 1, event 1, between 2,  2, event 2, between 3"},
		{"stream in chunks", false, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: {}\n\r\n1\r\n\n\r\n",
			" 0, head 0, between 1,  1, line 1, event 1,  1, between 2,  2"},
	} {
		got := strings.Join(slices.Compact(classes(c.up, c.text)), ", ")
		if got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}
