package show

import (
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// The timetable at speed 1.
const (
	Prelude      = 2 * time.Second         // before the first call
	PerJury      = 4 * time.Second         // from one jury's call to the next
	juryTwelve   = 2800 * time.Millisecond // its last points, after a pause
	jurySpread   = 1400 * time.Millisecond // its other points come within this
	PhoneLines   = 120 * time.Second       // how long the phone votes come in
	phonePause   = 4 * time.Second         // between the last jury and the first call
	phoneWaves   = 5                       // how often the calls swell
	phoneSwell   = 0.75                    // how much: the rate goes from 0.57 to 4 times the mean
	intermission = time.Second             // after the last vote
)

// The feeds of votes.
const (
	Jury  = "jury"
	Phone = "phone"
)

// Vote is a row of the table votes, as it is sent. The time is left to the server.
type Vote struct {
	ID     string `json:"id"`
	Run    string `json:"run"`
	Feed   string `json:"feed"`
	From   string `json:"from_country"`
	To     string `json:"to_country"`
	Points int    `json:"points"`
}

// Event is a vote and when it is due, from the start of the show at speed 1.
type Event struct {
	At   time.Duration
	Vote Vote
}

// Timetable is a run of a contest.
type Timetable struct {
	Events []Event       // ascending by At
	Phones time.Duration // when the phone lines open; Length when the contest has no phone votes
	Length time.Duration
}

// Timetable returns the whole run. The jury points come country by country, the highest last; then each phone point is one
// call, drawn in random order from all of them, so that every moment shows a fair sample of the result. The same contest and
// run give the same votes with the same ids, in the same order.
func (c *Contest) Timetable(run string) *Timetable {
	seed := fnv.New64a()
	seed.Write([]byte(c.ID()))
	random := rand.New(rand.NewPCG(seed.Sum64(), 1957))
	t := &Timetable{Events: c.juries(run, random)}
	t.Phones = Prelude + time.Duration(len(c.Givers))*PerJury
	t.Length = t.Phones
	if calls := c.calls(run, random); len(calls) > 0 {
		t.Phones += phonePause
		for i := range calls {
			x := float64(i) / float64(len(calls))
			x -= phoneSwell * math.Sin(2*math.Pi*phoneWaves*x) / (2 * math.Pi * phoneWaves)
			t.Events = append(t.Events, Event{t.Phones + time.Duration(x*float64(PhoneLines)), calls[i]})
		}
		t.Length = t.Phones + PhoneLines
	}
	t.Length += intermission
	return t
}

func (c *Contest) juries(run string, random *rand.Rand) []Event {
	byGiver := map[string][]Points{}
	for _, p := range c.Points {
		if !c.Split {
			p.Jury = p.Total
		}
		if p.Jury > 0 {
			byGiver[p.From] = append(byGiver[p.From], p)
		}
	}
	order := slices.Clone(c.Givers)
	random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	var events []Event
	for n, giver := range order {
		points := byGiver[giver]
		slices.SortFunc(points, func(a, b Points) int { return cmp.Or(cmp.Compare(a.Jury, b.Jury), cmp.Compare(a.To, b.To)) })
		start := Prelude + time.Duration(n)*PerJury
		for i, p := range points {
			at := start + jurySpread*time.Duration(i)/time.Duration(len(points))
			if i == len(points)-1 {
				at = start + juryTwelve
			}
			id := VoteID(run, Jury, p.From, p.To, 0)
			events = append(events, Event{at, Vote{id, run, Jury, p.From, p.To, p.Jury}})
		}
	}
	return events
}

func (c *Contest) calls(run string, random *rand.Rand) []Vote {
	var calls []Vote
	for _, p := range c.Points {
		for n := range p.Phone {
			id := VoteID(run, Phone, p.From, p.To, n)
			calls = append(calls, Vote{id, run, Phone, p.From, p.To, 1})
		}
	}
	random.Shuffle(len(calls), func(i, j int) { calls[i], calls[j] = calls[j], calls[i] })
	return calls
}

// namespace is the name space of our version 5 UUIDs (RFC 9562): a random UUID, made once for this example.
const namespace = "\x6b\x1f\x0e\x52\x9a\x3d\x4c\x77\xb0\x2e\x58\xc4\x1d\x90\xf3\xa6"

// VoteID returns the id of one vote: a version 5 UUID of what makes it that vote. n counts the calls of one country for another.
func VoteID(run, feed, from, to string, n int) string {
	h := sha1.New()
	h.Write([]byte(namespace + run + "|" + feed + "|" + from + "|" + to + "|" + strconv.Itoa(n)))
	b := h.Sum(nil)[:16]
	b[6] = b[6]&0x0f | 0x50
	b[8] = b[8]&0x3f | 0x80
	var s [36]byte
	hex.Encode(s[0:8], b[0:4])
	hex.Encode(s[9:13], b[4:6])
	hex.Encode(s[14:18], b[6:8])
	hex.Encode(s[19:23], b[8:10])
	hex.Encode(s[24:36], b[10:16])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:])
}

// Phase says what is on at a time of the show.
func (t *Timetable) Phase(at time.Duration) string {
	switch {
	case at >= t.Length:
		return "ended"
	case at >= t.Phones:
		return "phone"
	default:
		return "jury"
	}
}

// From returns the index of the first event that is due at or after at.
func (t *Timetable) From(at time.Duration) int {
	i, _ := slices.BinarySearchFunc(t.Events, at, func(e Event, at time.Duration) int { return cmp.Compare(e.At, at) })
	return i
}
