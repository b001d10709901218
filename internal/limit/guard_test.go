package limit

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"laaster/app"
	"laaster/internal/auth"
	"laaster/internal/kit/run"
	"laaster/internal/wire"
)

// bench is a guard with a clock that is moved by hand.
type bench struct {
	t      *testing.T
	clock  *run.Manual
	guard  *Guard
	cut    []string
	slowed []string
}

func newBench(t *testing.T, rates app.Rates, abuse app.Abuse, def *app.Definition) *bench {
	t.Helper()
	b := &bench{t: t, clock: run.NewManual(time.Unix(1_700_000_000, 0))}
	if rates.Keys == 0 {
		rates.Keys = 1000
	}
	b.guard = New(Options{Clock: b.clock, Rates: rates, Abuse: abuse, Exempt: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Cut: func(p auth.Principal, f Fault, until time.Time, skipped int) {
			b.cut = append(b.cut, fmt.Sprintf("%s for %s until +%s, %d more", Describe(p), f, until.Sub(b.clock.Now()), skipped))
		},
		Slowed: func(p auth.Principal, why string, skipped int) {
			b.slowed = append(b.slowed, fmt.Sprintf("%s for %s, %d more", Describe(p), why, skipped))
		}})
	if def != nil {
		b.guard.Use(def)
	}
	return b
}

func anon(from string) auth.Principal {
	p := auth.Anonymous()
	p.From = netip.MustParseAddr(from)
	return p
}

func subject(name, from string) auth.Principal {
	return auth.Principal{Subject: name, Role: "member", From: netip.MustParseAddr(from), Token: &auth.Token{Issuer: "https://issuer"}}
}

func parsed(t *testing.T, text string) app.Rate {
	t.Helper()
	r, err := app.ParseRate(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// passes expects n to be let through and the next one to be told to wait so long, in words or "" for none refused.
func (b *bench) passes(what string, n int, ask func() *wire.Problem, wait string) {
	b.t.Helper()
	for i := range n {
		if p := ask(); p != nil {
			b.t.Errorf("%s: number %d of %d: %s", what, i+1, n, p.Detail)
			return
		}
	}
	p := ask()
	switch {
	case wait == "" && p != nil:
		b.t.Errorf("%s: one more: %s", what, p.Detail)
	case wait == "":
	case p == nil:
		b.t.Errorf("%s: one more than %d passes", what, n)
	case p.Code != wire.RateLimited || p.Status != 429 || p.Retry != wire.RetryAfter || p.Field == "" && p.Hint == "" || p.Detail == "":
		b.t.Errorf("%s: %+v", what, p)
	case (time.Duration(p.RetryAfterMS) * time.Millisecond).String() != wait:
		b.t.Errorf("%s: to wait %s, not %s", what, time.Duration(p.RetryAfterMS)*time.Millisecond, wait)
	}
}

// The rate of sockets is of addresses alone, and each that is beyond it is told of once a minute.
func TestSockets(t *testing.T) {
	b := newBench(t, app.Rates{Address: app.CallRates{Sockets: parsed(t, "10/s burst 20")}}, app.Abuse{}, nil)
	opens := func(what, from string, n, want int) {
		t.Helper()
		got := 0
		for range n {
			wait := b.guard.Socket(netip.MustParseAddr(from))
			if wait == 0 {
				got++
			} else if wait != 100*time.Millisecond {
				t.Errorf("%s: to wait %s", what, wait)
			}
		}
		if got != want {
			t.Errorf("%s: %d of %d sockets, want %d", what, got, n, want)
		}
	}
	opens("an address", "192.0.2.1", 50, 20)
	opens("another", "192.0.2.2", 20, 20)
	opens("one that is exempt", "127.0.0.1", 50, 50)
	b.clock.Advance(time.Second)
	opens("a second later", "192.0.2.1", 50, 10)
	if p := b.guard.Ask(anon("192.0.2.1"), 0); p != nil {
		t.Errorf("requests on the others: %+v", p)
	}
	if got := fmt.Sprint(b.slowed); got != "[address 192.0.2.1 for sockets, 0 more]" {
		t.Errorf("told of %s", got)
	}
	b.clock.Advance(time.Minute)
	opens("a minute later", "192.0.2.1", 21, 20)
	if len(b.slowed) != 2 {
		t.Errorf("told of %s", b.slowed)
	}
	if got := fmt.Sprint(b.guard.Counts()[0]); got != "{limited [address sockets] 71}" {
		t.Errorf("counted %s", got)
	}
	if free := newBench(t, app.Rates{}, app.Abuse{}, nil).guard; free.Socket(netip.MustParseAddr("192.0.2.1")) != 0 {
		t.Error("there is no rate")
	}
}

func TestLevels(t *testing.T) {
	b := newBench(t, app.Rates{
		Address:   app.CallRates{Messages: parsed(t, "10/s burst 20"), Bytes: parsed(t, "1KiB/s"), Connections: parsed(t, "1/s burst 3"), Subscriptions: parsed(t, "1/s burst 4"), Query: parsed(t, "10/s burst 10")},
		Principal: app.CallRates{Messages: parsed(t, "10/s burst 30"), Replay: parsed(t, "1000/s burst 1000"), Open: 2},
		App:       app.CallRates{Connections: parsed(t, "1/min burst 8")},
	}, app.Abuse{}, nil)
	g := b.guard
	a1, a2, s1, s2, near := anon("192.0.2.1"), anon("192.0.2.2"), subject("ada", "192.0.2.1"), subject("bob", "192.0.2.1"), anon("127.0.0.1")
	ask := func(p auth.Principal, size int) func() *wire.Problem {
		return func() *wire.Problem { return g.Ask(p, size) }
	}
	b.passes("messages of an address", 20, ask(a1, 0), "100ms")
	b.passes("another address", 20, ask(a2, 0), "100ms")
	b.passes("a subject at the address", 30, ask(s1, 0), "100ms")
	b.passes("its subject elsewhere", 0, ask(subject("ada", "192.0.2.9"), 0), "100ms")
	b.passes("another subject at the address", 30, ask(s2, 1<<20), "100ms")
	b.passes("loopback", 1000, ask(near, 1<<20), "")
	other := s1
	other.Token = &auth.Token{Issuer: "https://another"}
	b.passes("the same name of another issuer", 30, ask(other, 0), "100ms")
	b.clock.Advance(300 * time.Millisecond)
	b.passes("after a while", 3, ask(a1, 0), "100ms")
	b.clock.Advance(time.Minute)
	b.passes("bytes of an address", 2, ask(a1, 1024), "1s")
	b.clock.Advance(time.Minute)
	b.passes("a body larger than the burst", 1, ask(a1, 10_240), "10s")
	g.Came(a2, 1<<30) // twice the burst at most
	b.passes("after a body of unknown size", 0, ask(a2, 1), "2.001s")

	connect := func(p auth.Principal) func() *wire.Problem {
		return func() *wire.Problem { _, problem := g.Connect(p); return problem }
	}
	b.passes("connections of an address", 3, connect(a1), "1s")
	b.passes("connections of a subject", 2, connect(s1), "5s")
	place, _ := g.Connect(s2)
	g.Left(s2, place, time.Hour, 3)
	b.passes("connections after one has left", 2, connect(s2), "5s")
	b.passes("connections of all", 0, connect(subject("eve", "192.0.2.8")), "1m0s")
	subscribe := func(p auth.Principal) func() *wire.Problem { return func() *wire.Problem { return g.Subscribe(p) } }
	b.passes("subscriptions of an address", 4, subscribe(a1), "1s")
	b.passes("subscriptions of a subject", 100, subscribe(s1), "")
	g.Replayed(s1, 1500)
	b.passes("subscriptions of a subject in debt", 0, subscribe(s1), "500ms")
	b.clock.Advance(500 * time.Millisecond)
	b.passes("subscriptions once it is paid", 10, subscribe(s1), "")
	b.clock.Advance(time.Minute)
	query := func(p auth.Principal) func() *wire.Problem { return func() *wire.Problem { return g.Query(p) } }
	g.Queried(a1, 5500)
	b.passes("reads after one of many rows", 5, query(a1), "100ms")
	var counts []string
	for _, c := range g.Counts() {
		if c.Name == "limited" {
			counts = append(counts, fmt.Sprintf("%s %s %d", c.Labels[0], c.Labels[1], c.N))
		}
	}
	if got, want := strings.Join(counts, " "), "address messages 3 address bytes 3 address connections 1 address subscriptions 1 address query 1 "+
		"principal messages 4 principal connections 2 principal replay 1 app connections 1"; got != want {
		t.Errorf("counts:\n%s\nnot\n%s", got, want)
	}
}

func TestTableRates(t *testing.T) {
	table := func(name, rate, burst string) *app.Table {
		o := map[string]string{"rate": rate}
		if burst != "" {
			o["burst"] = burst
		}
		return &app.Table{Name: name, Options: o}
	}
	def := &app.Definition{Tables: []*app.Table{table("votes", "20/s per subject", "40"), table("taps", "60/min per address", "5"), table("all", "10/s", ""), {Name: "free"}}}
	b := newBench(t, app.Rates{Table: app.DataRates{Bytes: parsed(t, "1KiB/s burst 1MiB")}}, app.Abuse{}, def)
	g := b.guard
	write := func(p auth.Principal, table string, rows int) func() *wire.Problem {
		return func() *wire.Problem {
			if problem := g.Write(p, table, 1); problem != nil {
				return problem
			}
			return g.Rows(p, table, rows)
		}
	}
	a1, a2, near, ada, bob := anon("192.0.2.1"), anon("192.0.2.2"), anon("127.0.0.1"), subject("ada", "192.0.2.1"), subject("bob", "192.0.2.1")
	b.passes("votes of an address", 40, write(a1, "votes", 1), "50ms")
	b.passes("votes of another", 40, write(a2, "votes", 1), "50ms")
	b.passes("votes of a subject", 4, write(ada, "votes", 10), "50ms")
	b.passes("votes of another subject there", 1, write(bob, "votes", 40), "50ms")
	b.passes("also on loopback", 40, write(near, "votes", 1), "50ms")
	b.passes("taps of an address", 3, write(a1, "taps", 1), "")
	b.passes("taps of a subject at the address", 1, write(ada, "taps", 1), "1s")
	b.passes("all together", 10, write(a1, "all", 1), "")
	b.passes("all together, another", 9, write(ada, "all", 1), "100ms")
	b.passes("no rate", 500, write(a1, "free", 100), "")
	b.passes("no table", 5, write(a1, "none", 1), "")
	b.clock.Advance(time.Hour)
	if p := g.Rows(a1, "votes", 41); p == nil || p.Code != wire.TooMany || p.Detail != "votes takes at most 40 rows at once" {
		t.Errorf("more rows than the burst: %v", p)
	}
	b.passes("which cost nothing", 40, write(a1, "votes", 1), "50ms")
	if p := g.Write(a1, "free", 1<<20+1); p == nil || p.Code != wire.TooLarge || p.Field != "table" || p.Hint == "" || p.RetryAfterMS != 0 {
		t.Errorf("more than all may have at once: %+v", p)
	}
	if p := g.Write(a1, "free", 1<<20); p != nil {
		t.Errorf("the whole burst of bytes: %v", p)
	}
	if p := g.Write(ada, "free", 1); p == nil || p.Field != "table" || p.RetryAfterMS != 1 {
		t.Errorf("bytes of the table: %+v", p)
	}
	if p := g.Write(ada, "taps", 1); p != nil {
		t.Errorf("another table: %v", p)
	}
	// A changed rate takes effect at once; what was used stays used.
	g.Use(&app.Definition{Tables: []*app.Table{table("votes", "1/s per subject", "1")}})
	b.passes("after a change", 0, write(a1, "votes", 1), "2s")
}

// TestSharedLast: what is refused for its sender's own rate uses nothing up of what callers share, and nobody leaves others in debt.
func TestSharedLast(t *testing.T) {
	table := func(name, rate, burst string) *app.Table {
		return &app.Table{Name: name, Options: map[string]string{"rate": rate, "burst": burst}}
	}
	def := &app.Definition{Tables: []*app.Table{table("own", "1/s per subject", "10"), table("all", "1/s", "100"), {Name: "free"}}}
	rates := app.Rates{
		Address: app.CallRates{Messages: parsed(t, "1/s burst 5"), Bytes: parsed(t, "1/s burst 5"), Query: parsed(t, "1/s burst 1")},
		Table:   app.DataRates{Messages: parsed(t, "1/s burst 50"), Bytes: parsed(t, "1/s burst 500")},
		App:     app.CallRates{Messages: parsed(t, "1/min burst 120"), Bytes: parsed(t, "1/min burst 1000")},
	}
	greedy, ada, bob := anon("192.0.2.1"), subject("ada", "192.0.2.2"), subject("bob", "192.0.2.3")
	for _, c := range []struct {
		name string
		ask  func(g *Guard) *wire.Problem // which is refused in the end
		rest func(g *Guard) *wire.Problem // passes, as if that had not been
	}{
		{"rows of its own rate, a table's", func(g *Guard) *wire.Problem { return g.Rows(greedy, "all", 6) }, func(g *Guard) *wire.Problem { return g.Rows(ada, "all", 40) }},
		{"rows of its own rate, all tables'", func(g *Guard) *wire.Problem { return g.Rows(greedy, "free", 6) }, func(g *Guard) *wire.Problem { return g.Rows(ada, "free", 40) }},
		{"a write of its own rate there", func(g *Guard) *wire.Problem { return g.Write(bob, "own", 10) }, func(g *Guard) *wire.Problem { return g.Write(ada, "own", 400) }},
		{"a request of its bytes", func(g *Guard) *wire.Problem { return g.Ask(greedy, 5) }, func(g *Guard) *wire.Problem { return g.Ask(ada, 990) }},
		{"a read", func(g *Guard) *wire.Problem { return g.Query(greedy) }, func(g *Guard) *wire.Problem { return g.Rows(ada, "none", 50) }},
	} {
		b := newBench(t, rates, app.Abuse{}, def)
		refused := 0
		for range 500 {
			if p := c.ask(b.guard); p != nil {
				refused++
			}
		}
		if refused < 490 {
			t.Errorf("%s: %d of 500 refused", c.name, refused)
		}
		if p := c.rest(b.guard); p != nil {
			t.Errorf("%s: of another: %s", c.name, p.Detail)
		}
	}

	b := newBench(t, rates, app.Abuse{Slow: 20, Cut: 50, CutFor: app.Duration(time.Minute)}, def)
	g := b.guard
	for name, p := range map[string]*wire.Problem{
		"rows beyond what all may write there":  g.Rows(ada, "free", 51),
		"rows beyond what all may write at all": New(Options{Clock: b.clock, Rates: app.Rates{Keys: 1000, App: rates.App}}).Rows(ada, "free", 121),
	} {
		if p == nil || p.Code != wire.TooMany || p.Field == "" || p.Hint == "" {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if p := g.Ask(ada, 1001); p == nil || p.Code != wire.TooLarge || p.Field != "bytes" {
		t.Errorf("bytes beyond what all may send: %+v", p)
	}
	b.passes("which left nobody in debt", 1, func() *wire.Problem { return g.Rows(bob, "free", 50) }, "48s")
	for range 400 {
		g.Write(bob, "own", 0)
	}
	if g.Cut(bob) == nil {
		t.Error("hundreds of writes beyond a subject's rate are no fault")
	}
	if g.Cut(ada) != nil {
		t.Error("another subject is cut")
	}
}

func TestAbuse(t *testing.T) {
	abuse := app.Abuse{Slow: 20, Cut: 50, CutFor: app.Duration(time.Minute)}
	b := newBench(t, app.Rates{}, abuse, nil)
	g := b.guard
	a1, a2, near := anon("192.0.2.1"), anon("192.0.2.2"), anon("127.0.0.1")
	ada, bob := subject("ada", "192.0.2.1"), subject("bob", "192.0.2.1")
	ask := func(p auth.Principal) func() *wire.Problem { return func() *wire.Problem { return g.Ask(p, 100) } }
	for range 30 {
		g.Wrote(near, wire.InvalidRow)
		g.Fault(near, BadToken)
	}
	b.passes("loopback is nobody", 100, ask(near), "")
	g.Wrote(a1, wire.Conflict) // not a fault, nor what the server is to blame for
	g.Wrote(a1, wire.Busy)
	g.Wrote(a1, wire.Forbidden)
	b.passes("no fault", 100, ask(a1), "")
	g.Fault(a1, BadToken)
	g.Fault(a1, BadToken)
	b.passes("two bad tokens", 100, ask(a1), "")
	g.Misread(a1, wire.InvalidJSON)
	if len(b.slowed) != 0 {
		t.Errorf("slowed too early: %q", b.slowed)
	}
	b.passes("slowed", 10, ask(a1), "200ms")
	if _ = g.Ask(a1, 1); len(b.slowed) != 1 || b.slowed[0] != "address 192.0.2.1 for faults, 0 more" {
		t.Errorf("told of %q", b.slowed)
	}
	b.passes("another address", 100, ask(a2), "")
	b.passes("subjects at the address", 100, ask(ada), "")
	if _, end := g.Frame(a1, 1); end || g.Cut(a1) != nil {
		t.Error("cut too early")
	}
	for range 3 {
		g.Fault(a1, BadToken)
	}
	if len(b.cut) != 1 || b.cut[0] != "address 192.0.2.1 for token until +1m0s, 0 more" {
		t.Errorf("told of %q", b.cut)
	}
	b.passes("cut", 0, ask(a1), "1m0s")
	if _, p := g.Connect(a1); p == nil {
		t.Error("a caller who is cut connects")
	}
	if p, end := g.Frame(a1, 1); p == nil || !end {
		t.Error("the connection of a caller who is cut goes on")
	}
	b.passes("subjects at an address that is cut", 100, ask(ada), "")
	if _, p := g.Connect(bob); p != nil {
		t.Error(p)
	}
	for range 60 { // of a subject: its address does not suffer, nor others at it
		g.Wrote(bob, wire.InvalidRow)
	}
	b.passes("the subject is cut", 0, ask(bob), "1m0s")
	b.passes("elsewhere too", 0, ask(subject("bob", "198.51.100.7")), "1m0s")
	b.passes("its neighbour is not", 100, ask(ada), "")
	b.clock.Advance(61 * time.Second)
	b.passes("after the time", 100, ask(a1), "")
	if g.scores.any() {
		b.clock.Advance(100 * time.Second)
	}
	if g.scores.any() {
		t.Error("points that are forgiven are looked for")
	}
	b.passes("forgiven", 1000, ask(bob), "")
	for i := range 25 {
		for range 6 {
			g.Fault(anon(fmt.Sprintf("203.0.113.%d", i)), BadToken)
		}
	}
	if len(b.cut) != 2+10 {
		t.Errorf("told of %d cuts in a minute", len(b.cut))
	}
	b.clock.Advance(2 * time.Minute)
	for range 6 {
		g.Fault(a2, BadToken)
	}
	if last := b.cut[len(b.cut)-1]; last != "address 192.0.2.2 for token until +1m0s, 15 more" {
		t.Errorf("told %q", last)
	}
}

// TestObstinate has a caller who is slowed and goes on asking: it is cut. One who waits as told is not.
func TestObstinate(t *testing.T) {
	b := newBench(t, app.Rates{}, app.Abuse{Slow: 20, Cut: 50, CutFor: app.Duration(time.Minute)}, nil)
	patient, obstinate := anon("192.0.2.1"), anon("192.0.2.2")
	for range 3 {
		b.guard.Fault(patient, BadToken)
		b.guard.Fault(obstinate, BadToken)
	}
	for range 200 {
		if p := b.guard.Ask(patient, 1); p != nil {
			b.clock.Advance(time.Duration(p.RetryAfterMS) * time.Millisecond)
			if p := b.guard.Ask(patient, 1); p != nil {
				t.Fatalf("waited as told: %s", p.Detail)
			}
		}
	}
	if len(b.cut) > 0 {
		t.Fatalf("cut %q", b.cut)
	}
	for range 15 {
		b.guard.Fault(obstinate, BadFrame)
	}
	for range 200 {
		b.guard.Ask(obstinate, 1)
	}
	if len(b.cut) != 1 || b.cut[0][:17] != "address 192.0.2.2" {
		t.Errorf("cut %q", b.cut)
	}
}

func TestChurnAndFlood(t *testing.T) {
	abuse := app.Abuse{Slow: 20, Cut: 50, CutFor: app.Duration(time.Minute)}
	b := newBench(t, app.Rates{}, abuse, nil)
	g := b.guard
	steady, churner, flooder, hasty := anon("192.0.2.1"), anon("192.0.2.2"), anon("192.0.2.3"), anon("192.0.2.4")
	for range 40 { // seconds
		for range 20 {
			g.Unsubscribed(steady)
		}
		for range 60 {
			g.Unsubscribed(churner)
		}
		g.Left(steady, 0, 3*time.Second, 1000)
		g.Left(hasty, 0, time.Second, 100)
		g.Replayed(steady, 16<<20)
		g.Replayed(flooder, 512<<20)
		b.clock.Advance(time.Second)
	}
	for name, c := range map[string]struct {
		p   auth.Principal
		cut bool
	}{"steady": {steady, false}, "churner": {churner, false}, "hasty": {hasty, true}, "flooder": {flooder, true}} {
		if got := g.Cut(c.p) != nil; got != c.cut {
			t.Errorf("%s cut: %v", name, got)
		}
	}
	for range 2000 {
		g.Unsubscribed(churner)
	}
	if g.Cut(churner) == nil {
		t.Error("2000 subscriptions that end at once, and not cut")
	}
	off := newBench(t, app.Rates{}, app.Abuse{}, nil)
	for range 1000 {
		off.guard.Fault(steady, BadToken)
	}
	if off.guard.Ask(steady, 1) != nil || len(off.cut) > 0 {
		t.Error("abuse is off and counts")
	}
}

// TestFull fills the table of scores: the worst are remembered, memory is bounded.
func TestFull(t *testing.T) {
	b := newBench(t, app.Rates{Keys: 8000}, app.Abuse{Slow: 20, Cut: 50, CutFor: app.Duration(time.Minute)}, nil)
	worst := anon("192.0.2.1")
	for range 9 {
		b.guard.Fault(worst, BadToken)
	}
	for i := range 100_000 {
		b.guard.Fault(anon(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)), BadRows)
	}
	if b.guard.Cut(worst) == nil {
		t.Error("a flood of addresses made the worst one forgotten")
	}
	if _, bytes, evicted := b.guard.Size(); bytes > 1<<20 || evicted == 0 {
		t.Errorf("%d bytes, %d evicted", bytes, evicted)
	}
}

func BenchmarkAsk(b *testing.B) {
	open, _ := app.ParseRate("1000000000/s")
	for _, c := range []struct {
		name  string
		rates app.Rates
		p     auth.Principal
	}{{"off", app.Rates{Keys: 1000}, anon("192.0.2.1")}, {"address", app.Rates{Keys: 1000, Address: app.CallRates{Messages: open, Bytes: open}}, anon("192.0.2.1")},
		{"subject", app.Rates{Keys: 1000, Principal: app.CallRates{Messages: open, Bytes: open}}, subject("ada", "192.0.2.1")}} {
		b.Run(c.name, func(b *testing.B) {
			g := New(Options{Clock: run.System{}, Rates: c.rates, Abuse: app.Abuse{Slow: 60, Cut: 300, CutFor: app.Duration(time.Minute)}})
			b.ReportAllocs()
			for b.Loop() {
				if p := g.Ask(c.p, 10); p != nil {
					b.Fatal(p)
				}
			}
		})
	}
}

// TestGuardTogether uses everything at once, for the race detector. What was opened is closed in the end.
func TestGuardTogether(t *testing.T) {
	def := &app.Definition{Tables: []*app.Table{{Name: "votes", Options: map[string]string{"rate": "20/s per subject"}}}}
	b := newBench(t, app.Rates{Address: app.CallRates{Messages: parsed(t, "1000/s"), Open: 5}, Principal: app.CallRates{Bytes: parsed(t, "1MiB/s"), Open: 5}},
		app.Abuse{Slow: 20, Cut: 50, CutFor: app.Duration(time.Second)}, def)
	g := b.guard
	var cut, slowed atomic.Int64 // the lists of the bench are for one goroutine
	g.opt.Cut = func(auth.Principal, Fault, time.Time, int) { cut.Add(1) }
	g.opt.Slowed = func(auth.Principal, string, int) { slowed.Add(1) }
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			p := []auth.Principal{anon("192.0.2.1"), anon("192.0.2.2"), subject("ada", "192.0.2.1"), subject("bob", "192.0.2.1")}[i]
			for n := range 2000 {
				if place, problem := g.Connect(p); problem == nil {
					g.Left(p, place, time.Minute, 1)
				}
				g.Ask(p, n)
				g.Write(p, "votes", 1)
				g.Rows(p, "votes", 2)
				g.Frame(p, 1)
				g.Subscribe(p)
				g.Replayed(p, 100)
				g.Query(p)
				g.Queried(p, 5000)
				if n%50 == 0 {
					g.Wrote(p, wire.InvalidRow)
					g.Misread(p, wire.InvalidJSON)
					g.Use(def)
					g.Counts()
					g.Size()
					b.clock.Advance(time.Millisecond)
				}
			}
		})
	}
	wg.Wait()
	if cut.Load() == 0 || slowed.Load() == 0 {
		t.Errorf("told of %d cut and %d slowed", cut.Load(), slowed.Load())
	}
	for i := range g.open.shards {
		if n := len(g.open.shards[i].open); n > 0 {
			t.Errorf("%d callers have connections that nobody has", n)
		}
	}
}
