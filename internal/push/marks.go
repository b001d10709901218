package push

import (
	"encoding/binary"
	"sync/atomic"
)

// A mark is a ping behind what a slow WebSocket client is sent. Its answer says that the client has read so far, which TCP does not know: bytes that it has
// acknowledged may lie in the client's own buffer for long. With the answer awaited before anything more is written, what a client has is as old as one frame
// takes over its line. A client that leaves one unanswered for half of Options.StallTimeout although all was sent is judged by the kernel's buffers alone from then on.

// marks is the state of a connection's marks. The owner of out sets, the reader answers.
type marks struct {
	last     atomic.Uint32 // the newest one sent, 0: none
	answered atomic.Uint32 // the newest one answered
	at       atomic.Int64  // when last was sent, unix ms; 0: it is answered
	bytes    atomic.Int64  // that went before it
	line     atomic.Int64  // bytes a second that went through, by the answers; 0: not known
	useless  atomic.Bool   // the client answers none
}

// send returns the frame of a new mark behind n bytes.
func (m *marks) send(n int, now int64) []byte {
	mark := max(1, m.last.Load()+1)
	m.at.Store(now)
	m.bytes.Store(int64(n))
	m.last.Store(mark)
	return binary.BigEndian.AppendUint32([]byte{0x80 | opPing, 4}, mark)
}

// answer is told of a pong.
func (m *marks) answer(payload []byte, now int64) {
	if len(payload) != 4 {
		return
	}
	mark := binary.BigEndian.Uint32(payload)
	if mark == 0 || mark != m.last.Load() || m.at.Load() == 0 {
		return
	}
	if mark > 1 { // the first one had to wait for all that was on its way when the client was found slow
		line := max(1, m.bytes.Load()*1000/max(1, now-m.at.Load()))
		if was := m.line.Load(); was > 0 { // one answer may be late for reasons of its own
			line = max(1, was+(line-was)/4)
		}
		m.line.Store(line)
	}
	m.at.Store(0)
	m.answered.Store(mark)
}

// giveUp has nobody wait for answers any more.
func (m *marks) giveUp() { m.useless.Store(true) }

// used reports whether there is a point in marks.
func (m *marks) used() bool { return !m.useless.Load() }

// due reports whether an answer is to be awaited.
func (m *marks) due() bool { return m.answered.Load() != m.last.Load() && m.used() }

// known returns what the line carries by the answers of a client that gives some, else 0.
func (m *marks) known() int64 { return m.line.Load() }
