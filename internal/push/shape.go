package push

import (
	"encoding/binary"
	"slices"
	"sort"
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

// shape is what connections have in common whose frames are equal byte for byte: encoding, subscriptions, rate. Each frame is
// assembled once for all of them and kept in a short log. Guarded by Hub.mu; members and key never change.
type shape struct {
	key     string
	enc     encoding
	members []member
	every   time.Duration // least time between two frames; 0: none
	conns   map[*conn]struct{}

	dirty bool      // something changed after base that is in no frame yet
	base  uint64    // with dirty: nothing changed between the last frame and base
	due   time.Time // with every: not before

	told   uint64       // the last position named in a frame
	start  uint64       // cursors below it cannot be continued from frames
	frames []shapeFrame // ascending, without overlap
	bytes  int          // of frames
}

// shapeFrame is one run of epochs, framed and ready to be written.
type shapeFrame struct {
	from     uint64 // what the frame names as its beginning: a client must have been told this position or a later one
	base, to uint64 // merged from base to to: right for cursors from the previous frame's to up to base
	bytes    []byte // none when the run came to nothing
}

// shapeKey makes the key of a shape. members are sorted by id.
func shapeKey(enc encoding, every time.Duration, members []member) string {
	b := binary.AppendUvarint([]byte{byte(enc)}, uint64(every))
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

// trim drops frames that everybody has, and the oldest ones beyond limit bytes. It returns how many bytes it dropped.
func (s *shape) trim(everybody uint64, limit int) (dropped int) {
	n := 0
	for n < len(s.frames) && (s.frames[n].to <= everybody || s.bytes-dropped > limit) {
		dropped += len(s.frames[n].bytes)
		s.start = s.frames[n].to
		n++
	}
	if n == 0 {
		return 0
	}
	s.bytes -= dropped
	// A new array: others may be reading the old one.
	s.frames = append(make([]shapeFrame, 0, len(s.frames)-n+1), s.frames[n:]...)
	return dropped
}

// part is what one subscription contributes to an epoch frame.
type part struct {
	id   string
	body []byte // a fragment's; empty: nothing
}

// epochFrame assembles a frame, header and all.
func (h *Hub) epochFrame(enc encoding, parts []part, from, to uint64, stamp int64) []byte {
	var room [2][96]byte
	position := h.position(room[0][:0], to)
	var since []byte
	if from+1 < to {
		since = h.position(room[1][:0], from)
	}
	size := 256
	for _, p := range parts {
		size += len(p.id) + len(p.body) + 8
	}
	if enc == eventStream {
		return eventStreamEpoch(make([]byte, 0, size), parts, position, since, stamp)
	}
	b := append(make([]byte, frameHeader, size), `{"type":"epoch",`...)
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
