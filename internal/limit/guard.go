package limit

import (
	"fmt"
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"

	"laaster/app"
	"laaster/internal/auth"
	"laaster/internal/kit/run"
	"laaster/internal/wire"
)

// Options of a Guard. Clock is needed.
type Options struct {
	Clock run.Clock
	Rates app.Rates
	Abuse app.Abuse
	// Exempt is where addresses are not one caller: neither the rates of addresses nor abuse count there.
	Exempt []netip.Prefix
	// Cut is told of each caller that is cut, a few in a minute at most: how many others there were before is in skipped. Default: nobody is told.
	Cut func(p auth.Principal, fault Fault, until time.Time, skipped int)
	// Slowed is told of each caller that has many points and comes too fast (why is "faults"), and of each address that opens sockets too fast ("sockets"), once
	// a minute, likewise.
	Slowed func(p auth.Principal, why string, skipped int)
}

// Guard decides. Its methods may be called concurrently and do not wait.
type Guard struct {
	opt       Options
	begun     time.Time
	seed      maphash.Seed
	exempt    []netip.Prefix
	address   level
	principal level
	app       level
	each      [measures]pace // of each table
	bounded   bool           // there is a rate besides those that tables declare
	tables    atomic.Pointer[map[string]*tableRate]
	rates     *table
	open      counts
	scores    scores
	stats     stats
}

// measure is what is counted.
type measure uint8

const (
	messages measure = iota
	bytes
	connections
	subscriptions
	replay
	query
	sockets
	measures
)

func (m measure) String() string {
	return [...]string{"messages", "bytes", "connections", "subscriptions", "replay", "query", "sockets"}[m]
}

// place of a bound: what the metrics call the level.
const (
	ofAddress   = "address"
	ofPrincipal = "principal"
	ofTable     = "table"
	ofApp       = "app"
)

// level is the bounds of one kind of caller.
type level struct {
	name  string
	whose string // in words
	paces [measures]pace
	rates [measures]app.Rate // for messages
	open  int
}

func newLevel(name, whose string, r *app.CallRates) level {
	l := level{name: name, whose: whose, rates: [measures]app.Rate{r.Messages, r.Bytes, r.Connections, r.Subscriptions, r.Replay, r.Query, r.Sockets}, open: r.Open}
	for i, r := range l.rates {
		l.paces[i] = paceOf(r)
	}
	return l
}

func (l *level) bounds() bool { return l.paces != [measures]pace{} || l.open > 0 }

// New returns a guard. Rates that tables declare come with [Guard.Use].
func New(opt Options) *Guard {
	r := &opt.Rates
	g := &Guard{opt: opt, begun: opt.Clock.Now(), seed: maphash.MakeSeed(), rates: newTable(r.Keys)}
	g.address = newLevel(ofAddress, "callers without a token at this address", &r.Address)
	g.principal, g.app = newLevel(ofPrincipal, "this subject", &r.Principal), newLevel(ofApp, "all callers together", &r.App)
	g.each[messages], g.each[bytes] = paceOf(r.Table.Messages), paceOf(r.Table.Bytes)
	g.bounded = g.address.bounds() || g.principal.bounds() || g.app.bounds() || g.each != [measures]pace{}
	g.exempt = opt.Exempt
	g.open.begin()
	g.scores.begin(&opt, r.Keys)
	g.tables.Store(&map[string]*tableRate{})
	return g
}

// now is the time since the guard was made, from 1.
func (g *Guard) now() int64 { return int64(g.opt.Clock.Now().Sub(g.begun)) + 1 }

// caller is who is judged: an address without a token, or a subject with one.
type caller struct {
	p      auth.Principal
	key    uint64
	known  bool // shows a token
	exempt bool // its address is nobody's
}

func (g *Guard) caller(p *auth.Principal) caller {
	if p.Token != nil {
		return caller{*p, g.mix(maphash.String(g.seed, p.Subject), maphash.String(g.seed, p.Token.Issuer)), true, g.isExempt(p.From)}
	}
	return caller{*p, g.addressKey(p.From), false, g.isExempt(p.From)}
}

func (g *Guard) addressKey(a netip.Addr) uint64 {
	b := a.As16()
	return maphash.Bytes(g.seed, b[:])
}

func (g *Guard) isExempt(a netip.Addr) bool {
	if !a.IsValid() { // a connection of this process
		return true
	}
	for _, p := range g.exempt {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// mix makes one key of two. It is not 0.
func (g *Guard) mix(a, b uint64) uint64 {
	x := a ^ (b+0x9e3779b97f4a7c15)*0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 29
	return max(x, 1)
}

// levelOf returns the bounds that hold for a caller, nil when there are none.
func (g *Guard) levelOf(c caller) *level {
	switch {
	case c.known:
		return &g.principal
	case c.exempt:
		return nil
	}
	return &g.address
}

// take charges the caller and then the app with what is asked for.
func (g *Guard) take(c caller, m measure, cost float64, now int64) *wire.Problem {
	if problem := g.own(c, m, cost, now); problem != nil {
		return problem
	}
	return g.shared(m, cost, cost, now)
}

// own charges the bounds of the caller alone. They come before what callers share, of which a request that is refused must use nothing up.
func (g *Guard) own(c caller, m measure, cost float64, now int64) *wire.Problem {
	if l := g.levelOf(c); l != nil && l.paces[m].unit > 0 {
		if wait := g.rates.take(g.mix(c.key, uint64(m)), now, l.paces[m], cost, !c.known); wait > 0 {
			return g.refuse(c, l, m, wait)
		}
	}
	return nil
}

// shared charges the app with a part of a request that costs so much.
func (g *Guard) shared(m measure, cost, of float64, now int64) *wire.Problem {
	p := g.app.paces[m]
	if p.unit == 0 {
		return nil
	}
	if problem := oversized(m, of, g.app.rates[m], g.app.whose+" may have at once"); problem != nil {
		return problem.WithField(m.String(), "send less in a request; limits.rates.app."+m.String()+" in laaster.yaml is the bound")
	}
	if wait := g.rates.take(g.mix(appKey, uint64(m)), now, p, cost, false); wait > 0 {
		return g.refuse(caller{exempt: true}, &g.app, m, wait)
	}
	return nil
}

// oversized refuses what is larger than the burst of a rate that callers share: let through, it would leave all of them in debt.
func oversized(m measure, of float64, r app.Rate, whose string) *wire.Problem {
	if of <= max(r.Burst, 1) {
		return nil
	}
	if m == bytes {
		return wire.NewProblem(wire.TooLarge, fmt.Sprintf("%.0f bytes: more than %s: %s", of, whose, r))
	}
	return wire.NewProblem(wire.TooMany, fmt.Sprintf("%.0f rows: more than %s: %s", of, whose, r))
}

// Keys of what is not a caller.
const (
	appKey   = 1
	tableKey = 2
)

// spend charges what has been done already: it may leave the caller in debt, up to twice the burst.
func (g *Guard) spend(c caller, m measure, cost float64, now int64) {
	if l := g.levelOf(c); l != nil && l.paces[m].unit > 0 {
		g.rates.spend(g.mix(c.key, uint64(m)), now, l.paces[m], cost, 2*l.paces[m].burst, !c.known)
	}
	if p := g.app.paces[m]; p.unit > 0 {
		g.rates.spend(g.mix(appKey, uint64(m)), now, p, cost, 2*p.burst, false)
	}
}

// refuse is the problem of a bound that is reached.
func (g *Guard) refuse(c caller, l *level, m measure, wait time.Duration) *wire.Problem {
	g.stats.limited(l.name, m)
	if !c.exempt {
		g.fault(c, Impatient, 1, g.now())
	}
	return tooMuch(m, l.whose, l.rates[m], wait).WithField(m.String(), "wait as long as is said; limits.rates."+l.name+"."+m.String()+" in laaster.yaml is the bound")
}

func tooMuch(m measure, whose string, r app.Rate, wait time.Duration) *wire.Problem {
	return later(wait, "more "+[...]string{"messages", "bytes", "new connections", "subscriptions", "bytes of replay", "reads", "new sockets"}[m]+" than "+whose+" may have: "+r.String())
}

// later is a refusal until so long has passed.
func later(wait time.Duration, detail string) *wire.Problem {
	p := wire.NewProblem(wire.RateLimited, detail)
	p.RetryAfterMS = int((wait + time.Millisecond - 1) / time.Millisecond)
	return p
}

// quiet reports whether there is nothing to look at.
func (g *Guard) quiet() bool { return !g.bounded && !g.scores.any() }

// Ask says why a request or frame of so many bytes may not come now; asked before its body is read.
func (g *Guard) Ask(p auth.Principal, size int) *wire.Problem {
	if g.quiet() {
		return nil
	}
	c, now := g.caller(&p), g.now()
	if problem := g.hampered(c, now); problem != nil {
		return problem
	}
	if !g.bounded {
		return nil
	}
	if problem := g.own(c, messages, 1, now); problem != nil {
		return problem
	}
	if size > 0 {
		if problem := g.own(c, bytes, float64(size), now); problem != nil {
			return problem
		}
		if problem := g.shared(bytes, float64(size), float64(size), now); problem != nil {
			return problem
		}
	}
	return g.shared(messages, 1, 1, now)
}

// Came charges bytes of which [Guard.Ask] did not know.
func (g *Guard) Came(p auth.Principal, size int) {
	if g.bounded {
		g.spend(g.caller(&p), bytes, float64(size), g.now())
	}
}

// Write says why a table may not take a write of so many bytes now. It is asked once the caller may write there at all, before the rows are read.
func (g *Guard) Write(p auth.Principal, table string, size int) *wire.Problem {
	r := g.rateOf(table)
	if problem := g.declaredOwn(&p, table, r, 1); problem != nil {
		return problem
	}
	if size > 0 {
		if problem := g.writeTable(table, bytes, float64(size), float64(size)); problem != nil {
			return problem
		}
	}
	if problem := g.writeTable(table, messages, 1, 1); problem != nil {
		return problem
	}
	return g.declaredShared(table, r, 1)
}

// Rows says why so many rows may not be written; asked when they are read and right, before they are queued. The first is counted by [Guard.Write].
func (g *Guard) Rows(p auth.Principal, table string, rows int) *wire.Problem {
	if rows <= 1 {
		return nil
	}
	r, cost, now := g.rateOf(table), float64(rows-1), g.now()
	if r != nil && float64(rows) > r.rate.Burst {
		return wire.NewProblem(wire.TooMany, fmt.Sprintf("%s takes at most %s rows at once", table, r.rate.BurstText())).
			WithField("table", "send fewer rows in a request")
	}
	if g.bounded {
		if problem := g.own(g.caller(&p), messages, cost, now); problem != nil {
			return problem
		}
	}
	if problem := g.declaredOwn(&p, table, r, cost); problem != nil {
		return problem
	}
	if problem := g.writeTable(table, messages, cost, float64(rows)); problem != nil {
		return problem
	}
	if problem := g.declaredShared(table, r, cost); problem != nil || !g.bounded {
		return problem
	}
	return g.shared(messages, cost, float64(rows), now)
}

// writeTable charges the rates that hold for each table with a part of a request that costs so much.
func (g *Guard) writeTable(name string, m measure, cost, of float64) *wire.Problem {
	if g.each[m].unit == 0 {
		return nil
	}
	rate := g.opt.Rates.Table.Messages
	if m == bytes {
		rate = g.opt.Rates.Table.Bytes
	}
	if problem := oversized(m, of, rate, "may be written to "+name+" at once"); problem != nil {
		return problem.WithField("table", "send less in a request; limits.rates.table."+m.String()+" in laaster.yaml is the bound")
	}
	key := g.mix(g.mix(tableKey, maphash.String(g.seed, name)), uint64(m))
	wait := g.rates.take(key, g.now(), g.each[m], cost, false)
	if wait == 0 {
		return nil
	}
	g.stats.limited(ofTable, m)
	return tooMuch(m, "all callers together may write to "+name, rate, wait).
		WithField("table", "wait as long as is said; limits.rates.table."+m.String()+" in laaster.yaml is the bound")
}

// Frame says why a frame that is not a write may not be carried out now, and whether its connection is to end for what else its sender did.
func (g *Guard) Frame(p auth.Principal, size int) (problem *wire.Problem, end bool) {
	if g.quiet() {
		return nil, false
	}
	c := g.caller(&p)
	if problem := g.scores.cut(c, g.now()); problem != nil {
		return problem, true
	}
	return g.Ask(p, size), false
}

// Cut returns the problem of a caller who is not answered for a while.
func (g *Guard) Cut(p auth.Principal) *wire.Problem {
	if !g.scores.any() {
		return nil
	}
	return g.scores.cut(g.caller(&p), g.now())
}

// hampered returns the problem of a caller who is cut, or slowed and too fast for that.
func (g *Guard) hampered(c caller, now int64) *wire.Problem {
	if !g.scores.any() {
		return nil
	}
	if problem := g.scores.cut(c, now); problem != nil {
		return problem
	}
	return g.slow(c, now)
}

// Connect says why there may be no further live connection of a caller. Its place belongs to Left, also 0.
func (g *Guard) Connect(p auth.Principal) (place uint64, problem *wire.Problem) {
	if g.quiet() {
		return 0, nil
	}
	c, now := g.caller(&p), g.now()
	if problem := g.hampered(c, now); problem != nil {
		return 0, problem
	}
	if l := g.levelOf(c); l != nil && l.open > 0 {
		if !g.open.enter(c.key, l.open) {
			g.stats.limited(l.name, connections)
			p := later(5*time.Second, fmt.Sprintf("as many live connections as one %s may have: %d", l.name, l.open))
			return 0, p.WithField("connections", "close one; limits.rates."+l.name+".open in laaster.yaml is the bound")
		}
		place = c.key
	}
	if problem = g.take(c, connections, 1, now); problem != nil && place != 0 {
		g.open.leave(place)
		place = 0
	}
	return place, problem
}

// Socket returns how long an address has to wait for a further connection, of which nothing has been read yet; 0: it may have it.
func (g *Guard) Socket(from netip.Addr) time.Duration {
	pace := g.address.paces[sockets]
	if pace.unit == 0 {
		return 0
	}
	p := auth.Anonymous()
	p.From = from
	c, now := g.caller(&p), g.now()
	if c.exempt {
		return 0
	}
	wait := g.rates.take(g.mix(c.key, uint64(sockets)), now, pace, 1, true)
	if wait > 0 {
		g.stats.limited(ofAddress, sockets)
		g.tellSlowed(c, socketToldKey, "sockets", now)
	}
	return wait
}

// Left gives the place of a connection back. What had subscribed and was gone again at once counts like unsubscribing.
func (g *Guard) Left(p auth.Principal, place uint64, lived time.Duration, subscribed int) {
	if place != 0 {
		g.open.leave(place)
	}
	if lived < hasty && subscribed > 0 {
		g.churned(p, subscribed)
	}
}

// hasty is how long a connection lasts at least whose subscriptions are not churn.
const hasty = 2 * time.Second

// Subscribe says why there may be no further subscription.
func (g *Guard) Subscribe(p auth.Principal) *wire.Problem {
	if g.quiet() {
		return nil
	}
	c, now := g.caller(&p), g.now()
	if l := g.levelOf(c); l != nil && l.paces[replay].unit > 0 { // of what was replayed before
		if wait := g.rates.take(g.mix(c.key, uint64(replay)), now, l.paces[replay], 0, !c.known); wait > 0 {
			return g.refuse(c, l, replay, wait)
		}
	}
	if pace := g.app.paces[replay]; pace.unit > 0 {
		if wait := g.rates.take(g.mix(appKey, uint64(replay)), now, pace, 0, false); wait > 0 {
			return g.refuse(caller{exempt: true}, &g.app, replay, wait)
		}
	}
	return g.take(c, subscriptions, 1, now)
}

// Unsubscribed is told of subscriptions that a client ended.
func (g *Guard) Unsubscribed(p auth.Principal) { g.churned(p, 1) }

// Replayed charges rows and history that a subscription was begun with.
func (g *Guard) Replayed(p auth.Principal, size int) {
	c, now := g.caller(&p), g.now()
	if g.bounded {
		g.spend(c, replay, float64(size), now)
	}
	if !c.exempt && g.rates.take(g.mix(c.key, floodKey), now, replayFlood(), float64(size), !c.known) > 0 {
		g.fault(c, ReplayFlood, 1, now)
	}
}

// Query says why a caller may not read now: of reads before.
func (g *Guard) Query(p auth.Principal) *wire.Problem {
	if g.quiet() {
		return nil
	}
	c, now := g.caller(&p), g.now()
	if problem := g.hampered(c, now); problem != nil {
		return problem
	}
	if problem := g.own(c, messages, 1, now); problem != nil {
		return problem
	}
	if problem := g.take(c, query, 1, now); problem != nil {
		return problem
	}
	return g.shared(messages, 1, 1, now)
}

// rowsPerCost is how many rows a read looks at for one unit of cost.
const rowsPerCost = 1000

// Queried charges a read with the rows that it looked at, beyond what [Guard.Query] did.
func (g *Guard) Queried(p auth.Principal, rows int) {
	if g.bounded && rows >= rowsPerCost {
		g.spend(g.caller(&p), query, float64(rows/rowsPerCost), g.now())
	}
}

// tableRate is WITH (rate = …) of a table.
type tableRate struct {
	pace pace
	rate app.Rate
	per  app.RatePer
	key  uint64
}

// Use takes the rates that the tables of an app declare. What was used of those that stay is not forgotten.
func (g *Guard) Use(def *app.Definition) {
	all := map[string]*tableRate{}
	for _, t := range def.Tables {
		if r, per, ok := t.Rate(); ok {
			all[t.Name] = &tableRate{paceOf(r), r, per, g.mix(tableKey+1, maphash.String(g.seed, t.Name))}
		}
	}
	g.tables.Store(&all)
}

// rateOf returns the rate that a table declares, nil for none.
func (g *Guard) rateOf(table string) *tableRate { return (*g.tables.Load())[table] }

// declaredOwn charges the rate that a table declares for each caller.
func (g *Guard) declaredOwn(p *auth.Principal, table string, r *tableRate, rows float64) *wire.Problem {
	if r == nil || r.per == app.RateOfAll {
		return nil
	}
	c := g.caller(p)
	subject := r.per == app.RatePerSubject && c.known
	key := g.mix(r.key, c.key)
	if !subject {
		key = g.mix(r.key, g.addressKey(p.From))
	}
	now := g.now()
	wait := g.rates.take(key, now, r.pace, rows, !subject)
	if wait == 0 {
		return nil
	}
	if subject || !c.known { // a subject is not blamed for others at its address
		g.fault(c, Impatient, 1, now)
	}
	return g.beyond(table, r, wait)
}

// declaredShared charges the rate that a table declares for all together.
func (g *Guard) declaredShared(table string, r *tableRate, rows float64) *wire.Problem {
	if r == nil || r.per != app.RateOfAll {
		return nil
	}
	if wait := g.rates.take(r.key, g.now(), r.pace, rows, false); wait > 0 {
		return g.beyond(table, r, wait)
	}
	return nil
}

// beyond is the problem of a rate that a table declares.
func (g *Guard) beyond(table string, r *tableRate, wait time.Duration) *wire.Problem {
	g.stats.limited(ofTable, messages)
	return tooMuch(messages, r.per.Whose()+" may write to "+table, r.rate, wait).
		WithField("table", "wait as long as is said; the table's option rate in app.sql is the bound")
}
