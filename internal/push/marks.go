package push

import (
	"encoding/binary"
	"sync/atomic"
)

// A mark is a ping behind what a slow WebSocket client is sent. Its answer says that the client has read so far, which TCP does not know: bytes that it has
// acknowledged may lie in the client's own buffer for long. With the answer awaited before anything more is written, what a client has is as old as one frame
// takes over its line. A client that leaves one unanswered for half of Options.StallTimeout although all was sent is judged by the kernel's buffers alone from then on.
//
// A new client is on trial: whether it is slow would only be known once the kernel's buffers and its own, 13 KB and more, are full of what is old then. So it has
// no more bytes unread than a window, with a mark behind each half of it, until it has answered some soon. A late answer makes it slow at once. The time that
// a byte needs there and back does not count.

const (
	trialWindow = 2 << 10  // bytes that a client on trial may have unread when it is sent more
	trialMarks  = 8        // answers after which a trial is over
	trialLate   = 500      // ms beyond the way there and back after which an answer is late
	trialEnough = 16 << 10 // bytes a second that make a client not slow whatever its answers take
	trialBehind = 64 << 10 // bytes of frames that wait for an answer at most: who reads nothing must not be sent everything in one piece later
	trialLapse  = 5000     // ms after which a trial ends without an answer: the client may give none at all
)

// marks is the state of a connection's marks. The owner of out sets, the reader answers.
type marks struct {
	last     atomic.Uint32 // the newest one sent, 0: none
	answered atomic.Uint32 // the newest one answered
	at       atomic.Int64  // when last was sent, unix ms; 0: it is answered
	bytes    atomic.Int64  // that went before it
	line     atomic.Int64  // bytes a second that went through, by the answers; 0: not known
	trial    atomic.Bool   // the client is on trial
	away     atomic.Int64  // ms that a byte needs to the client and back, when last was sent
	held     atomic.Bool   // something may wait for the answer
	lapsed   atomic.Bool   // the trial ends without one
	useless  atomic.Bool   // the client answers none
}

// send returns the frame of a new mark behind n bytes. away is how many ms anything takes there and back.
func (m *marks) send(n int, now, away int64) []byte {
	mark := max(1, m.last.Load()+1)
	m.away.Store(away)
	m.at.Store(now)
	m.bytes.Store(int64(n))
	m.last.Store(mark)
	return binary.BigEndian.AppendUint32([]byte{0x80 | opPing, 4}, mark)
}

// answer is told of a pong. It returns what the line of a client on trial carries in a second if that is found slow, else 0.
func (m *marks) answer(payload []byte, now int64) (late int64) {
	if len(payload) != 4 {
		return 0
	}
	mark := binary.BigEndian.Uint32(payload)
	if mark == 0 || mark != m.last.Load() || m.at.Load() == 0 {
		return 0
	}
	switch took := max(1, now-m.at.Load()-m.away.Load()); {
	case m.trial.Load():
		if line := max(1, m.bytes.Load()*1000/took); took >= trialLate && line < trialEnough {
			late = line
			m.line.Store(late)
		}
		m.trial.Store(late == 0 && mark < trialMarks)
	case mark > 1: // the first one had to wait for all that was on its way when the client was found slow
		line := max(1, m.bytes.Load()*1000/took)
		if was := m.line.Load(); was > 0 { // one answer may be late for reasons of its own
			line = max(1, was+(line-was)/4)
		}
		m.line.Store(line)
	}
	m.at.Store(0)
	m.answered.Store(mark)
	return late
}

// giveUp has nobody wait for answers any more.
func (m *marks) giveUp() { m.useless.Store(true) }

// hold reports whether a client on trial has as much unread as it may: no changes are written then, and the answer has the connection look again. since is what
// was written behind the last mark. The caller owns out.
func (m *marks) hold(since int) bool {
	if !m.trial.Load() {
		return false
	}
	m.held.Store(true) // before the look at the answer, which looks at it after it has come
	if m.lapsed.Load() || !m.due() || m.bytes.Load()+int64(since) < trialWindow {
		m.held.Store(false)
		return false
	}
	return true
}

// tried goes on with a client on trial: late is what its line carries, 0 if it is not slow as far as is known.
func (c *conn) tried(late int64) {
	if late > 0 {
		c.mu.Lock()
		c.mu.late = late
		c.mu.Unlock()
	}
	c.kick(true)
}

// lapse ends a trial whose answer takes too long, and reports whether it did. A client that answers none behind so little will not later either.
func (m *marks) lapse(now int64) bool {
	at := m.at.Load()
	if at == 0 || now-at < trialLapse {
		return false
	}
	if m.answered.Load() == 0 && m.bytes.Load() < 2*trialWindow {
		m.giveUp()
	}
	return m.trial.Load() && m.lapsed.CompareAndSwap(false, true)
}

// used reports whether there is a point in marks.
func (m *marks) used() bool { return !m.useless.Load() }

// due reports whether an answer is to be awaited.
func (m *marks) due() bool { return m.answered.Load() != m.last.Load() && m.used() }

// known returns what the line carries by the answers of a client that gives some, else 0.
func (m *marks) known() int64 {
	if !m.used() {
		return 0
	}
	return m.line.Load()
}
