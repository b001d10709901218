package push

import (
	"net"
)

// sink is where a connection's bytes go. Its methods but close have one caller at a time.
type sink interface {
	// try writes what fits without waiting and returns the rest, nil when all is written.
	try(bufs [][]byte) (rest [][]byte, err error)
	// write writes everything, however long it takes, and calls moved after each part that went through.
	write(bufs [][]byte, moved func()) error
	// narrow has the kernel hold no more than about so many bytes that are under way, and of them unsent ones, if it can: what is not sent can
	// still be replaced by newer state.
	narrow(bytes, unsent int)
	// queued returns how many bytes the kernel has that the client's has not acknowledged, 0 where that is not known.
	queued() int
	// away returns the least ms that something took to the client's kernel and back, 0 where that is not known.
	away() int64
	// close ends the connection at once; a write under way returns. Safe to call concurrently and again.
	close()
}

// chunk is the most that is handed to a blocking write at once, so that progress can be seen.
const chunk = 16 << 10

// joinLimit is the size up to which several buffers are copied together to save system calls.
const joinLimit = 32 << 10

// streamSink writes to any net.Conn: TLS, a pipe, a system without our non-blocking write.
type streamSink struct {
	conn net.Conn
}

func (s *streamSink) try(bufs [][]byte) ([][]byte, error) { return bufs, nil }

func (s *streamSink) write(bufs [][]byte, moved func()) error {
	for _, b := range gather(bufs) {
		for len(b) > 0 {
			n, err := s.conn.Write(b[:min(len(b), chunk)])
			if err != nil {
				return err
			}
			moved()
			b = b[n:]
		}
	}
	return nil
}

func (s *streamSink) narrow(int, int) {}

func (s *streamSink) queued() int { return 0 }

func (s *streamSink) away() int64 { return 0 }

func (s *streamSink) close() { s.conn.Close() }

// gather copies runs of small buffers together.
func gather(bufs [][]byte) [][]byte {
	if len(bufs) < 2 {
		return bufs
	}
	var out [][]byte
	for i := 0; i < len(bufs); {
		size, end := len(bufs[i]), i+1
		for end < len(bufs) && size+len(bufs[end]) <= joinLimit {
			size += len(bufs[end])
			end++
		}
		if end == i+1 {
			out = append(out, bufs[i])
		} else {
			one := make([]byte, 0, size)
			for _, b := range bufs[i:end] {
				one = append(one, b...)
			}
			out = append(out, one)
		}
		i = end
	}
	return out
}
