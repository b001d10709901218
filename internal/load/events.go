package load

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// stream reads an event stream over HTTP/1.1: chunks, and the events in them.
type stream struct {
	left int    // bytes of the chunk under way, its end of line included; 0: a new one begins
	text []byte // events that are not complete
}

// connectedEvents sends the request for a stream of one view.
func (c *Client) connectedEvents(path string) {
	c.state = stateUpgrading
	c.events = &stream{}
	b := append(append(append(append([]byte("GET "), path...), " HTTP/1.1\r\nHost: "...), c.swarm.host...), c.bearing()+"\r\nAccept: text/event-stream\r\n"...)
	if len(c.Position) > 0 {
		b = append(append(append(b, "Last-Event-ID: "...), c.Position...), '\r', '\n')
	}
	c.line.send(append(b, '\r', '\n'))
}

// feedEvents takes what came behind the header of a stream and returns what is left of it: the beginning of a chunk's length.
func (c *Client) feedEvents(b []byte, at time.Duration) (rest []byte, err error) {
	s := c.events
	for {
		if s.left == 0 {
			end := bytes.IndexByte(b, '\n')
			if end < 0 {
				if len(b) > 20 {
					return nil, errors.New("a chunk without a length")
				}
				return b, nil
			}
			n, ok := hex(bytes.TrimRight(b[:end], "\r"))
			switch {
			case !ok || n > maxFrame:
				return nil, fmt.Errorf("a chunk of %.20q bytes", b[:end])
			case n == 0:
				return nil, errors.New("the server ended the stream")
			}
			s.left, b = n+2, b[end+1:]
		}
		if len(b) == 0 {
			return nil, nil
		}
		n := min(s.left, len(b))
		text := b[:n]
		if over := 2 - (s.left - n); over > 0 { // the end of line behind the chunk
			text = b[:max(0, n-over)]
		}
		s.left, b = s.left-n, b[n:]
		c.swarm.bytes.Add(int64(n))
		if err := c.take(text, at); err != nil {
			return nil, err
		}
	}
}

// hex reads the length of a chunk.
func hex(b []byte) (n int, ok bool) {
	for _, d := range b {
		switch {
		case d >= '0' && d <= '9':
			d -= '0'
		case d >= 'a' && d <= 'f':
			d -= 'a' - 10
		case d >= 'A' && d <= 'F':
			d -= 'A' - 10
		default:
			return 0, false
		}
		if n = n<<4 | int(d); n > 1<<40 {
			return 0, false
		}
	}
	return n, len(b) > 0
}

// take reads the events in a piece of the stream.
func (c *Client) take(text []byte, at time.Duration) error {
	s := c.events
	if len(s.text) > 0 {
		s.text = append(s.text, text...)
		text = s.text
	}
	for {
		end := bytes.Index(text, []byte("\n\n"))
		if end < 0 {
			break
		}
		if err := c.event(text[:end], at); err != nil {
			return err
		}
		text = text[end+2:]
	}
	if len(text) > maxFrame {
		return errFrame
	}
	if s.text = append(s.text[:0], text...); len(text) == 0 && cap(s.text) > 4<<10 {
		s.text = nil
	}
	return nil
}

// event takes one event: the frame of the same name.
func (c *Client) event(lines []byte, at time.Duration) error {
	var kind Kind
	var data []byte
	for len(lines) > 0 {
		line := lines
		if end := bytes.IndexByte(lines, '\n'); end >= 0 {
			line, lines = lines[:end], lines[end+1:]
		} else {
			lines = nil
		}
		switch {
		case bytes.HasPrefix(line, []byte("event: epoch")):
			kind = "epoch"
		case bytes.HasPrefix(line, []byte("event: ")):
			kind = Kind(line[len("event: "):])
		case bytes.HasPrefix(line, []byte("data: ")):
			data = line[len("data: "):]
		}
	}
	if kind == "" || data == nil { // a comment, or how long to wait before coming back
		return nil
	}
	return c.frame(kind, data, at)
}
