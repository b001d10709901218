package limit

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"laaster/app"
	"laaster/internal/auth"
	"laaster/internal/wire"
)

// Fault is a kind of harm.
type Fault uint8

// The faults.
const (
	BadToken    Fault = iota // a token that is not genuine
	BadRows                  // a write of which every row is refused, or that cannot be read
	BadFrame                 // a frame that cannot be read
	BadQuery                 // a read whose parameters or filter cannot be read
	Churn                    // subscriptions that come and go
	ReplayFlood              // rows and history asked for again and again
	Impatient                // asking again before the time that was told
	faults
)

// String returns the name that metrics and the audit trail have for a fault.
func (f Fault) String() string {
	return [...]string{"token", "rows", "frame", "query", "churn", "replay", "impatient"}[f]
}

// points is what one fault of a kind costs. A point is forgiven after a second.
func (f Fault) points() float64 { return [...]float64{10, 1, 2, 1, 1, 10, 0.2}[f] }

// What nobody does who means well.
func churn() pace       { return paceOf(app.Rate{Count: 50, Per: time.Second, Burst: 1000}) }          // subscriptions that end
func replayFlood() pace { return paceOf(app.Rate{Count: 32 << 20, Per: time.Second, Burst: 2 << 30}) } // bytes
func slowed() pace      { return paceOf(app.Rate{Count: 5, Per: time.Second, Burst: 10}) }             // requests of a caller with many points

// Keys of a caller besides those of measures.
const (
	scoreKey = 100 + iota
	cutKey
	slowKey
	slowToldKey
	socketToldKey
	churnKey
	floodKey
)

// scores is what callers have done. Their table is an eighth of that of the rates: most callers have none.
type scores struct {
	opt    *Options
	table  *table
	latest atomic.Int64 // when the last point of anybody is forgiven
	clock  func() int64
	point  pace
	told   [2]telling // of cuts, of slowed callers
	kinds  [faults]atomic.Int64
	cuts   atomic.Int64
	slows  atomic.Int64
}

// telling bounds how many are told.
type telling struct {
	sync.Mutex
	minute  int64
	count   int
	skipped int
}

const mostTold = 10 // in a minute

func (s *scores) begin(opt *Options, keys int) {
	s.opt, s.table, s.point = opt, newTable(max(keys/8, 1000)), paceOf(app.Rate{Count: 1, Per: time.Second, Burst: 1})
	begun := opt.Clock.Now()
	s.clock = func() int64 { return int64(opt.Clock.Now().Sub(begun)) + 1 }
}

// any reports whether anybody has points. Nearly always nobody has.
func (s *scores) any() bool {
	latest := s.latest.Load()
	return latest > 0 && s.clock() < latest
}

func (s *scores) reaches(at int64) {
	for {
		old := s.latest.Load()
		if old >= at || s.latest.CompareAndSwap(old, at) {
			return
		}
	}
}

func mixed(key uint64, kind uint64) uint64 {
	x := key ^ (kind+1)*0x9e3779b97f4a7c15
	x ^= x >> 32
	return max(x*0xd6e8feb86659fd93, 1)
}

// fault counts n faults and reports whether the caller is cut with this.
func (s *scores) fault(c caller, f Fault, n int, now int64) (cut bool) {
	a := &s.opt.Abuse
	if a.Slow == 0 && a.Cut == 0 {
		return false
	}
	s.kinds[f].Add(int64(n))
	most := 2 * max(a.Slow, a.Cut)
	ahead := s.table.spend(mixed(c.key, scoreKey), now, s.point, f.points()*float64(n), int64(most)*int64(time.Second), false)
	s.reaches(now + ahead)
	if a.Cut == 0 || ahead <= int64(a.Cut)*int64(time.Second) {
		return false
	}
	x := s.table.place(mixed(c.key, cutKey), now, false)
	old := x.at.Load()
	until := now + int64(a.CutFor)
	if old > now || !x.at.CompareAndSwap(old, until) {
		return false
	}
	s.reaches(until)
	s.cuts.Add(1)
	return true
}

// cut returns the problem of a caller who is cut.
func (s *scores) cut(c caller, now int64) *wire.Problem {
	if c.exempt {
		return nil
	}
	wait := s.table.ahead(mixed(c.key, cutKey), now)
	if wait == 0 {
		return nil
	}
	return later(time.Duration(wait), "too much of what came from "+c.who()+" was harm").
		WithHint("nothing from there is answered for a while; laaster.yaml has limits.abuse for what counts")
}

func (c caller) who() string {
	if c.known {
		return "this subject"
	}
	return "callers without a token at this address"
}

// slow returns the problem of a caller with many points who has asked a moment ago.
func (g *Guard) slow(c caller, now int64) *wire.Problem {
	s, a := &g.scores, &g.opt.Abuse
	if c.exempt || a.Slow == 0 || s.table.ahead(mixed(c.key, scoreKey), now) <= int64(a.Slow)*int64(time.Second) {
		return nil
	}
	wait := s.table.take(mixed(c.key, slowKey), now, slowed(), 1, false)
	if wait == 0 {
		return nil
	}
	s.slows.Add(1)
	g.tellSlowed(c, slowToldKey, "faults", now)
	g.fault(c, Impatient, 1, now)
	return later(wait, "too much of what came from "+c.who()+" was refused: only a few requests a second are answered").
		WithHint("correct what is sent; laaster.yaml has limits.abuse for what counts")
}

// tellSlowed tells of a caller, once a minute for each reason.
func (g *Guard) tellSlowed(c caller, key uint64, why string, now int64) {
	if g.opt.Slowed == nil {
		return
	}
	x := g.scores.table.place(mixed(c.key, key), now, false)
	if old := x.at.Load(); old <= now && x.at.CompareAndSwap(old, now+int64(time.Minute)) {
		if skipped, tell := g.scores.told[1].tell(now); tell {
			g.opt.Slowed(c.p, why, skipped)
		}
	}
}

// fault counts faults of a caller.
func (g *Guard) fault(c caller, f Fault, n int, now int64) {
	if c.exempt || !g.scores.fault(c, f, n, now) || g.opt.Cut == nil {
		return
	}
	if skipped, tell := g.scores.told[0].tell(now); tell {
		g.opt.Cut(c.p, f, g.opt.Clock.Now().Add(time.Duration(g.opt.Abuse.CutFor)), skipped)
	}
}

// tell reports whether one more is told, and how many were not since the last one.
func (t *telling) tell(now int64) (skipped int, tell bool) {
	t.Lock()
	defer t.Unlock()
	if minute := now / int64(time.Minute); t.minute != minute {
		t.minute, t.count = minute, 0
	}
	if t.count == mostTold {
		t.skipped++
		return 0, false
	}
	t.count++
	skipped, t.skipped = t.skipped, 0
	return skipped, true
}

// Fault counts a fault of a caller.
func (g *Guard) Fault(p auth.Principal, f Fault) {
	g.fault(g.caller(&p), f, 1, g.now())
}

// Wrote is told of the problem of a write: what cannot be read or does not fit its table is a fault.
func (g *Guard) Wrote(p auth.Principal, code wire.Code) {
	switch code {
	case wire.InvalidJSON, wire.InvalidRow, wire.InvalidRequest, wire.Constraint, wire.UnknownColumn, wire.BadFilter:
		g.Fault(p, BadRows)
	}
}

// Misread is told of the problem of a frame or a read.
func (g *Guard) Misread(p auth.Principal, code wire.Code) {
	switch code {
	case wire.InvalidJSON, wire.InvalidRequest, wire.TooLarge:
		g.Fault(p, BadFrame)
	case wire.BadFilter, wire.UnknownColumn:
		g.Fault(p, BadQuery)
	}
}

func (g *Guard) churned(p auth.Principal, n int) {
	c := g.caller(&p)
	if c.exempt {
		return
	}
	now := g.now()
	if g.rates.take(g.mix(c.key, churnKey), now, churn(), float64(n), !c.known) > 0 {
		g.fault(c, Churn, n, now)
	}
}

// counts is how many connections each caller has. Its size is bounded by the connections that there may be.
type counts struct {
	shards [16]struct {
		sync.Mutex
		open map[uint64]int
	}
}

func (o *counts) begin() {
	for i := range o.shards {
		o.shards[i].open = map[uint64]int{}
	}
}

// enter counts one more, unless there are as many as there may be.
func (o *counts) enter(key uint64, most int) bool {
	s := &o.shards[key%uint64(len(o.shards))]
	s.Lock()
	defer s.Unlock()
	if s.open[key] >= most {
		return false
	}
	s.open[key]++
	return true
}

func (o *counts) leave(key uint64) {
	s := &o.shards[key%uint64(len(o.shards))]
	s.Lock()
	defer s.Unlock()
	if s.open[key]--; s.open[key] <= 0 {
		delete(s.open, key)
	}
}

// stats counts refusals by level and measure.
type stats struct {
	refused [4][measures]atomic.Int64
}

func (s *stats) limited(level string, m measure) {
	for i, name := range levels() {
		if name == level {
			s.refused[i][m].Add(1)
		}
	}
}

func levels() [4]string { return [4]string{ofAddress, ofPrincipal, ofTable, ofApp} }

// Count is one number of [Guard.Counts].
type Count struct {
	Name   string // limited, faults, cuts, slowed
	Labels [2]string
	N      int64
}

// Counts returns what was refused since the start, by level and measure, the faults by kind, and how often somebody was slowed and cut.
func (g *Guard) Counts() []Count {
	var out []Count
	for i, l := range levels() {
		for m := range measures {
			if n := g.stats.refused[i][m].Load(); n > 0 {
				out = append(out, Count{"limited", [2]string{l, m.String()}, n})
			}
		}
	}
	for f := range faults {
		if n := g.scores.kinds[f].Load(); n > 0 {
			out = append(out, Count{"faults", [2]string{f.String()}, n})
		}
	}
	return append(out, Count{Name: "cuts", N: g.scores.cuts.Load()}, Count{Name: "slowed", N: g.scores.slows.Load()})
}

// Size returns how many callers and tables have a place, the bytes of all places, and how many places changed hands before their time.
func (g *Guard) Size() (keys, bytes int, evicted int64) {
	k1, b1 := g.rates.size()
	k2, b2 := g.scores.table.size()
	return k1 + k2, b1 + b2, g.rates.evicted.Load() + g.scores.table.evicted.Load()
}

// Describe returns a caller for a log line: the subject of a token, or an address.
func Describe(p auth.Principal) string {
	if p.Token != nil {
		return "subject " + strconv.Quote(p.Subject)
	}
	return "address " + p.From.String()
}
