package nexmark

import (
	"math"
	"strconv"
	"time"
)

// Kind tells the three streams apart.
type Kind uint8

// The streams.
const (
	Person Kind = iota
	Auction
	Bid
)

// Names of the streams' tables, by Kind.
func (k Kind) String() string { return [...]string{"person", "auction", "bid"}[k] }

// Event is one row of one stream. Its texts live until the next call of [Generator.Event].
type Event struct {
	Kind    Kind
	Time    int64 // microseconds since 1970, whole milliseconds
	Expires int64 // auctions
	// Person: id. Auction: id, initial_bid, reserve, seller, category. Bid: auction, bidder, price.
	Numbers [5]int64
	// Person: name, email_address, credit_card, city, state, extra. Auction: item_name, description, extra. Bid: channel, url, extra.
	Texts [6][]byte
}

// Options of a generator.
type Options struct {
	Seed  uint64
	Rate  int64 // events per second of event time; default 10,000
	Start int64 // event time of event 0, microseconds since 1970; default 2025-07-01
	// Disorder permutes the events in each group of so many; 0 or 1: none.
	Disorder uint64
	// Repeat gives every so manieth event a second time, ten events later; 0: never.
	Repeat uint64
	// Silent says which events do not come, so that an input can be idle; nil: all come.
	Silent func(n uint64, k Kind) bool
}

// Generator makes events. Not safe for concurrent use.
type Generator struct {
	opt Options
	rnd rng
	buf []byte
}

// New returns a generator.
func New(opt Options) *Generator {
	if opt.Rate == 0 {
		opt.Rate = 10_000
	}
	if opt.Start == 0 {
		opt.Start = time.Date(2025, 7, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	}
	return &Generator{opt: opt}
}

// rng is splitmix64.
type rng uint64

func (r *rng) next() uint64 {
	*r += 0x9E3779B97F4A7C15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

func (r *rng) below(n int64) int64 { return int64(r.next() % uint64(n)) }
func (r *rng) unit() float64       { return float64(r.next()>>11) / (1 << 53) }

// What the suite fixes.
const (
	perEpoch      = 50 // events: 1 person, 3 auctions, 46 bids
	auctions      = 3
	firstID       = 1000
	firstCategory = 10
	inFlight      = 100 // auctions that uniform bids choose from
	active        = 1000
	lead          = 10 // ids that are used before they exist
	hotEvery      = 100
	channels      = 10_000
)

// Event fills e with what comes at place n of the stream. It reports false when nothing does.
func (g *Generator) Event(n uint64, e *Event) bool {
	if r := g.opt.Repeat; r > 0 && n > 10 && n%r == 10 {
		n -= 10
	}
	if d := g.opt.Disorder; d > 1 {
		n = n/d*d + n%d*953%d
	}
	g.rnd = rng(g.opt.Seed*0xD1342543DE82EF95 + n)
	g.buf = g.buf[:0]
	e.Time = g.time(n)
	rem := n % perEpoch
	switch {
	case rem == 0:
		e.Kind = Person
		g.person(n, e)
	case rem <= auctions:
		e.Kind = Auction
		g.auction(n, e)
	default:
		e.Kind = Bid
		g.bid(n, e)
	}
	return g.opt.Silent == nil || !g.opt.Silent(n, e.Kind)
}

// time returns the event time of event n. The permutation of Disorder leaves it with its event.
func (g *Generator) time(n uint64) int64 {
	us := int64(n) * 1_000_000 / g.opt.Rate
	return g.opt.Start + us/1000*1000
}

// lastPerson returns the number of the newest person at event n, counted from 0.
func lastPerson(n uint64) int64 { return int64(n / perEpoch) }

// lastAuction returns the number of the newest auction at event n; -1 before the first.
func lastAuction(n uint64) int64 {
	epoch, rem := int64(n/perEpoch), int64(n%perEpoch)
	switch {
	case rem == 0:
		return epoch*auctions - 1
	case rem <= auctions:
		return epoch*auctions + rem - 1
	}
	return epoch*auctions + auctions - 1
}

func (g *Generator) someone(n uint64) int64 {
	people := lastPerson(n) + 1
	among := min(people, active)
	return people - among + g.rnd.below(among+lead)
}

func (g *Generator) something(n uint64) int64 {
	last := max(lastAuction(n), 0)
	first := max(last-inFlight, 0)
	return first + g.rnd.below(last-first+1+lead)
}

func (g *Generator) price() int64 { return int64(math.Round(100 * math.Pow(10, 6*g.rnd.unit()))) }

func (g *Generator) person(n uint64, e *Event) {
	r := &g.rnd
	first := [...]string{"Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"}
	last := [...]string{"Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"}
	cities := [...]string{"Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"}
	states := [...]string{"AZ", "CA", "ID", "OR", "WA", "WY"}
	e.Numbers[0] = firstID + lastPerson(n)
	e.Texts[0] = g.text(first[r.below(int64(len(first)))], " ", last[r.below(int64(len(last)))])
	e.Texts[1] = g.join(g.letters(7), "@", g.letters(5), ".com")
	e.Texts[2] = g.card()
	e.Texts[3] = g.text(cities[r.below(int64(len(cities)))])
	e.Texts[4] = g.text(states[r.below(int64(len(states)))])
	used := 8
	for _, t := range e.Texts[:5] {
		used += len(t)
	}
	e.Texts[5] = g.extra(200 - used)
}

func (g *Generator) auction(n uint64, e *Event) {
	r := &g.rnd
	seller := lastPerson(n) / hotEvery * hotEvery
	if r.below(4) == 0 {
		seller = g.someone(n)
	}
	bid := g.price()
	e.Numbers = [5]int64{firstID + lastAuction(n), bid, bid + g.price(), firstID + seller, firstCategory + r.below(5)}
	horizon := (g.time(n+inFlight*perEpoch/auctions) - g.time(n)) / 1000
	e.Expires = e.Time + 1000*(1+r.below(max(2*horizon, 1)))
	e.Texts[0] = g.letters(20)
	e.Texts[1] = g.letters(100)
	e.Texts[2] = g.extra(500 - 8*8 - 120)
}

func (g *Generator) bid(n uint64, e *Event) {
	r := &g.rnd
	auction := max(lastAuction(n), 0) / hotEvery * hotEvery
	if r.below(2) == 0 {
		auction = g.something(n)
	}
	bidder := lastPerson(n)/hotEvery*hotEvery + 1
	if r.below(4) == 0 {
		bidder = g.someone(n)
	}
	e.Numbers = [5]int64{firstID + auction, firstID + bidder, g.price()}
	if r.below(2) == 0 {
		hot := [...]string{"Google", "Facebook", "Baidu", "Apple"}
		c := r.below(4)
		e.Texts[0], e.Texts[1] = g.text(hot[c]), g.url(uint64(c)+channels, false)
	} else {
		c := r.below(channels)
		e.Texts[0] = g.text("channel-", strconv.FormatInt(c, 10))
		e.Texts[1] = g.url(uint64(c), r.below(10) > 0)
	}
	e.Texts[2] = g.extra(100 - 32)
}

// url returns the address that belongs to a channel, the same each time.
func (g *Generator) url(channel uint64, withID bool) []byte {
	keep := g.rnd
	g.rnd = rng(channel * 0xA24BAED4963EE407)
	a, b, c := g.letters(5), g.letters(5), g.letters(5)
	id := g.rnd.next() >> 33
	g.rnd = keep
	from := len(g.buf)
	g.buf = append(g.buf, "https://www.nexmark.com/"...)
	for i, t := range [][]byte{a, b, c} {
		if i > 0 {
			g.buf = append(g.buf, '/')
		}
		g.buf = append(g.buf, t...)
	}
	g.buf = append(g.buf, "/item.htm?query=1"...)
	if withID {
		g.buf = append(g.buf, "&channel_id="...)
		g.buf = strconv.AppendUint(g.buf, id, 10)
	}
	return g.since(from)
}

func (g *Generator) card() []byte {
	from := len(g.buf)
	for i := range 4 {
		if i > 0 {
			g.buf = append(g.buf, ' ')
		}
		n := 10_000 + g.rnd.below(10_000)
		g.buf = append(g.buf, strconv.FormatInt(n, 10)[1:]...)
	}
	return g.since(from)
}

// extra fills a row up to its usual size, a fifth more or less.
func (g *Generator) extra(size int) []byte {
	size = max(size, 10)
	return g.letters(size - size/5 + int(g.rnd.below(int64(2*(size/5)+1))))
}

func (g *Generator) letters(n int) []byte {
	from := len(g.buf)
	for n > 0 {
		r := g.rnd.next()
		for range min(n, 12) {
			g.buf = append(g.buf, byte('a'+r%26))
			r /= 26
		}
		n -= min(n, 12)
	}
	return g.since(from)
}

func (g *Generator) text(parts ...string) []byte {
	from := len(g.buf)
	for _, p := range parts {
		g.buf = append(g.buf, p...)
	}
	return g.since(from)
}

func (g *Generator) join(a []byte, at string, b []byte, end string) []byte {
	from := len(g.buf)
	g.buf = append(append(append(append(g.buf, a...), at...), b...), end...)
	return g.since(from)
}

// since returns what was appended; growing the buffer later leaves it where it is.
func (g *Generator) since(from int) []byte { return g.buf[from:len(g.buf):len(g.buf)] }
