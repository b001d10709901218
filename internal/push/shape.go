package push

import (
	"encoding/binary"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"laaster/internal/change"
	"laaster/internal/wire"
)

// encoding is how frames are put on a connection.
type encoding uint8

const (
	webSocket encoding = iota
	eventStream
)

// member is one subscription that follows live: its id on the connection and what it follows.
type member struct {
	id   string
	feed *feed
}

// shape is what connections have in common whose frames are equal byte for byte: encoding, subscriptions, pace. Each frame is
// assembled once for all of them and kept in a short log. Guarded by Hub.mu; members and key never change.
type shape struct {
	key     string
	enc     encoding
	members []member
	pace    pace
	conns   map[*conn]struct{}

	built bool      // got a frame in the flush under way; with pace.each
	dirty bool      // something changed after base that is in no frame yet
	base  uint64    // with dirty: nothing changed between the last frame and base
	due   time.Time // with every: not before

	told   uint64       // the last position named in a frame
	start  uint64       // cursors below it cannot be continued from frames
	frames []shapeFrame // ascending, without overlap
	log    []byte       // the frames' bytes, one behind the other. What is here never changes: readers need no lock
	before uint64       // where log begins, counted over all bytes that were ever in it
}

// pace is how often connections want frames.
type pace struct {
	every time.Duration // least time between two frames; 0: none
	each  bool          // one frame for each epoch
}

// shapeFrame is one run of epochs, framed and ready to be written.
type shapeFrame struct {
	from     uint64 // what the frame names as its beginning: a client must have been told this position or a later one
	base, to uint64 // merged from base to to: right for cursors from the previous frame's to up to base
	stamp    int64
	begin    uint64 // its bytes in the log, see shape.before; none when the run came to nothing
	end      uint64
}

func (f *shapeFrame) size() int { return int(f.end - f.begin) }

// shapeKey makes the key of a shape. members are sorted by id.
func shapeKey(enc encoding, p pace, members []member) string {
	b := binary.AppendUvarint([]byte{byte(enc)}, uint64(p.every))
	b = strconv.AppendBool(b, p.each)
	for _, m := range members {
		b = binary.AppendUvarint(b, m.feed.id)
		b = binary.AppendUvarint(b, uint64(len(m.id)))
		b = append(b, m.id...)
	}
	return string(b)
}

func sortMembers(members []member) {
	slices.SortFunc(members, func(a, b member) int { return strings.Compare(a.id, b.id) })
}

// reached returns the position up to which frames hold everything that concerns the shape. head is the hub's position.
func (s *shape) reached(head uint64) uint64 {
	if s.dirty {
		return s.base
	}
	return head
}

// after returns the frames that bring a connection at cursor to what the shape has reached. It is false when frames cannot: the
// cursor is older than they are, or lies inside a merged run.
func (s *shape) after(cursor uint64) ([]shapeFrame, bool) {
	if cursor < s.start {
		return nil, false
	}
	i := sort.Search(len(s.frames), func(i int) bool { return s.frames[i].to > cursor })
	rest := s.frames[i:len(s.frames):len(s.frames)]
	if len(rest) > 0 && cursor > rest[0].base {
		return nil, false
	}
	return rest, true
}

// slice returns the bytes of frames, which are neighbours in the log.
func (s *shape) slice(frames []shapeFrame) []byte {
	if len(frames) == 0 {
		return nil
	}
	begin, end := frames[0].begin-s.before, frames[len(frames)-1].end-s.before
	return s.log[begin:end:end]
}

// add appends a frame to the log. A log that is full goes on in a new one, with what is still needed of it; those who are reading
// the old one keep it.
func (s *shape) add(f shapeFrame, bytes []byte) (added int) {
	end := s.before + uint64(len(s.log))
	f.begin, f.end = end, end+uint64(len(bytes))
	if len(s.log)+len(bytes) > cap(s.log) {
		kept := s.slice(s.frames)
		room := len(kept) + len(bytes)
		if len(kept) > 0 || len(s.conns) > fewConns {
			room = max(2*room, min(cap(s.log), 64<<10))
		}
		s.before = end - uint64(len(kept))
		s.log = append(make([]byte, 0, room), kept...)
	}
	s.log = append(s.log, bytes...)
	s.frames = append(s.frames, f)
	return len(bytes)
}

// fewConns is how many connections a shape has that needs no room for the next frames: looking at them all after each is cheap.
const fewConns = 16

// trim drops frames that everybody has, and the oldest ones beyond limit bytes. It returns how many bytes it dropped.
func (s *shape) trim(everybody uint64, limit int) (dropped int) {
	n, size := 0, size(s.frames)
	for n < len(s.frames) && (s.frames[n].to <= everybody || size-dropped > limit) {
		dropped += s.frames[n].size()
		s.start = s.frames[n].to
		n++
	}
	if n == 0 {
		return 0
	}
	s.frames = slices.Delete(s.frames, 0, n)
	if len(s.frames) == 0 && len(s.conns) <= fewConns {
		s.before += uint64(len(s.log))
		s.log = nil
	}
	return dropped
}

// part is what one subscription contributes to an epoch frame.
type part struct {
	id   string
	body []byte // a fragment's; empty: nothing
}

// epochFrame assembles a frame, header and all, in memory of its own.
func (h *Hub) epochFrame(enc encoding, parts []part, from, to uint64, stamp int64) []byte {
	return h.epochFrameIn(nil, enc, parts, from, to, stamp)
}

// epochFrameIn is epochFrame in the memory of scratch when there is enough.
func (h *Hub) epochFrameIn(scratch []byte, enc encoding, parts []part, from, to uint64, stamp int64) []byte {
	var room [2][96]byte
	position := h.position(room[0][:0], to)
	var since []byte
	if from+1 < to {
		since = h.position(room[1][:0], from)
	}
	if size := frameSize(parts); cap(scratch) < size {
		scratch = make([]byte, 0, size)
	}
	if enc == eventStream {
		return eventStreamEpoch(scratch[:0], parts, position, since, stamp)
	}
	b := append(scratch[:frameHeader], `{"type":"epoch",`...)
	b = wire.AppendEpochHead(b, position, since, stamp)
	b = append(b, `,"changes":{`...)
	first := true
	for _, p := range parts {
		if len(p.body) == 0 {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(wire.AppendString(b, p.id), ':', '{')
		b = append(append(b, p.body...), '}')
	}
	return sealText(append(b, '}', '}'))
}

// frameSize is about how many bytes a frame of parts takes, seldom less.
func frameSize(parts []part) int {
	size := 256
	for _, p := range parts {
		size += len(p.id) + len(p.body) + 8
	}
	return size
}

func eventStreamEpoch(b []byte, parts []part, position, since []byte, stamp int64) []byte {
	b = append(append(append(b, "id: "...), position...), "\nevent: epoch\ndata: {"...)
	b = wire.AppendEpochHead(b, position, since, stamp)
	for _, p := range parts {
		if len(p.body) > 0 {
			b = append(append(b, ','), p.body...)
		}
	}
	return append(b, "}\n\n"...)
}

// position appends the text of a position.
func (h *Hub) position(dst []byte, seq uint64) []byte {
	return change.Position{Log: h.opt.Log, Shard: h.opt.Shard, Seq: seq}.Append(dst)
}
