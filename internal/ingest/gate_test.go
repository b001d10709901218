package ingest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"laaster/app"
	"laaster/internal/auth"
)

// plant is a gate and a server behind it, step by step in virtual time: what is let in is served in deficit round robin at a
// rate, and answered a fixed time later.
type plant struct {
	gate
	now     time.Time
	rate    float64 // bytes a second
	fixed   time.Duration
	credit  float64
	turns   turns
	under   map[*part]*planned // in turns
	leaving []leaving
	waiting []*planned
	delays  map[string][]time.Duration // of what was accepted, by sender
	refused map[string]int
	retries []time.Duration
	passed  map[string]int // bytes
}

type leaving struct {
	at time.Time
	x  *planned
}

type planned struct {
	who      string
	cost     int
	priority app.Priority
	sent     time.Time
	since    time.Time
	s        *sender
	w        *waiter
}

func newPlant(rate float64, fixed time.Duration, limit int) *plant {
	p := &plant{now: time.Unix(1000, 0), rate: rate, fixed: fixed, delays: map[string][]time.Duration{}, refused: map[string]int{}, passed: map[string]int{},
		under: map[*part]*planned{}}
	p.open(limit, 2*time.Second, p.now)
	return p
}

// send has a write arrive.
func (p *plant) send(who string, bytes int, priority app.Priority) {
	x := &planned{who: who, cost: bytes + overhead, priority: priority, sent: p.now}
	x.s = p.sender(auth.Principal{Subject: who}, p.now)
	switch {
	case x.s.before(priority) == 0 && p.room(x.s, x.cost, priority, p.now):
		p.take(x.s, x.cost)
		p.checks(x.cost, 1)
		p.charge(x.s, x.cost, p.now)
		p.begin(x)
	case p.hopeless(x.s, x.cost, priority, p.now):
		p.lacks(x.s, p.now)
		p.turnAway(x)
	default:
		p.lacks(x.s, p.now)
		x.w = p.queue(x.s, x.cost, priority, p.now)
		p.waiting = append(p.waiting, x)
	}
}

func (p *plant) turnAway(x *planned) {
	problem, _ := p.refuse(x.s, x.cost, x.priority, p.now)
	p.refused[x.who]++
	p.retries = append(p.retries, time.Duration(problem.RetryAfterMS)*time.Millisecond)
}

func (p *plant) begin(x *planned) {
	x.since = p.now
	part := partOf(0, x.cost)
	part.of, part.received = x.s, p.now
	part.cost = x.cost
	p.turns.push(x.s, part)
	p.under[part] = x
	p.checks(x.cost, -1)
}

// step moves the time by a millisecond.
func (p *plant) step() {
	p.now = p.now.Add(time.Millisecond)
	p.credit = min(p.credit+p.rate/1000, p.rate/1000+float64(1<<20))
	for part := p.turns.next(); part != nil && float64(part.cost) <= p.credit; part = p.turns.next() {
		p.turns.pop()
		p.credit -= float64(part.cost)
		x := p.under[part]
		delete(p.under, part)
		p.leaving = append(p.leaving, leaving{p.now.Add(p.fixed), x})
	}
	if p.turns.front == nil {
		p.credit = 0
	}
	for len(p.leaving) > 0 && !p.leaving[0].at.After(p.now) {
		x := p.leaving[0].x
		p.leaving = p.leaving[1:]
		p.leave(x.s, x.cost, true)
		p.look(p.now.Sub(x.since), p.now)
		p.delays[x.who] = append(p.delays[x.who], p.now.Sub(x.sent))
		p.passed[x.who] += x.cost
	}
	p.admit(p.now)
	kept := p.waiting[:0]
	for _, x := range p.waiting {
		select {
		case problem := <-x.w.in:
			if problem == nil {
				p.begin(x)
			} else {
				p.refused[x.who]++
			}
			continue
		default:
		}
		if p.now.Sub(x.sent) > p.wait {
			p.unqueue(x.s, slices.Index(x.s.line, x.w))
			p.turnAway(x)
			continue
		}
		kept = append(kept, x)
	}
	p.waiting = kept
}

// load sends writes of one sender at random times, so many bytes a second on average.
type load struct {
	who      string
	bytes    int // of one write
	rate     float64
	priority app.Priority
}

// play runs the loads for so long.
func (p *plant) play(rng *rand.Rand, long time.Duration, loads ...load) {
	next := make([]time.Duration, len(loads))
	gap := func(l load) time.Duration {
		return time.Duration(rng.ExpFloat64() * float64(l.bytes+overhead) / l.rate * float64(time.Second))
	}
	for i, l := range loads {
		next[i] = gap(l)
	}
	for at := time.Duration(0); at < long; at += time.Millisecond {
		for i, l := range loads {
			for ; next[i] <= at; next[i] += gap(l) {
				p.send(l.who, l.bytes, l.priority)
			}
		}
		p.step()
	}
}

// quiet lets everything end, and returns how long that took.
func (p *plant) quiet(t *testing.T) (took time.Duration) {
	t.Helper()
	for ; p.held > 0 || p.lined > 0; took += time.Millisecond {
		if p.step(); took > 10*time.Second {
			t.Fatalf("%d bytes are held and %d wait after 10 s of quiet", p.held, p.lined)
		}
	}
	return took
}

func (p *plant) reset() {
	clear(p.delays)
	clear(p.refused)
	clear(p.passed)
	p.retries = nil
}

func at99(d []time.Duration) time.Duration { return at(d, 99) }

func at(d []time.Duration, percent int) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[len(d)*percent/100]
}

func (p *plant) all() (d []time.Duration) {
	for _, x := range p.delays {
		d = append(d, x...)
	}
	return d
}

// TestOverload: ten times what the server takes, on a fast one, one with a slow engine and one with a slow disk: what is accepted is hardly later than
// ever, the server is never without work, memory is bounded, refusals say when to come back, and afterwards all is as before.
func TestOverload(t *testing.T) {
	for _, c := range []struct {
		rate  float64
		fixed time.Duration
		bytes int
	}{{40e6, 4 * time.Millisecond, 80_000}, {40e6, 60 * time.Millisecond, 80_000}, {4e6, 2 * time.Millisecond, 20_000}, {20e6, 3 * time.Millisecond, 5000}} {
		name := fmt.Sprintf("%.0f MB/s, %s, %d bytes", c.rate/1e6, c.fixed, c.bytes)
		t.Run(name, func(t *testing.T) {
			const limit = 32 << 20
			rng := rand.New(rand.NewPCG(1, 1))
			p := newPlant(c.rate, c.fixed, limit)
			most := 0
			burst := func(times float64, long time.Duration) {
				p.play(rng, long, load{who: "a", bytes: c.bytes, rate: times * c.rate})
				most = max(most, p.held)
			}
			burst(0.5, 5*time.Second) // gets to know the server
			p.reset()
			burst(0.5, 5*time.Second)
			normal := at99(p.all())
			if p.refused["a"] > 0 {
				t.Errorf("%d refused at half of what the server takes", p.refused["a"])
			}
			for i := range 3 {
				p.quiet(t)
				p.reset()
				burst(10, 12*time.Second)
				p99, through := at99(p.all()), float64(p.passed["a"])/12/c.rate
				t.Logf("p99 %s, normally %s; %.2f of the rate; window %d, rate %.1f MB/s; retry in %s to %s", p99, normal, through, p.window,
					p.gate.rate/1e6, slices.Min(p.retries), slices.Max(p.retries))
				if i == 0 { // a line is allowed while nobody knows that it will not end: a moment of twelve seconds
					p99 = at(p.all(), 94)
				}
				if p99 > 3*normal {
					t.Errorf("p99 is %s, normally %s", p99, normal)
				}
				if through < 0.85 {
					t.Errorf("%.2f of what the server takes went through", through)
				}
				if slices.Min(p.retries) < retryMin || slices.Max(p.retries) > retryMost || slices.Max(p.retries) < 5*time.Second {
					t.Errorf("come back in %s to %s", slices.Min(p.retries), slices.Max(p.retries))
				}
				if took := p.quiet(t); took > time.Second {
					t.Errorf("it took %s to be quiet", took)
				}
			}
			p.now = p.now.Add(2 * recovery)
			p.reset()
			burst(0.5, 5*time.Second)
			if p99 := at99(p.all()); p99 > normal*3/2 || p.refused["a"] > 0 {
				t.Errorf("afterwards p99 is %s and %d are refused, before %s", p99, p.refused["a"], normal)
			}
			if most > limit {
				t.Errorf("%d bytes were held", most)
			}
		})
	}
}

// TestFlood: one that sends fifty times its share has half of that, does not delay the others, nor takes what they need.
func TestFlood(t *testing.T) {
	for _, fixed := range []time.Duration{2 * time.Millisecond, 30 * time.Millisecond} {
		const rate = 40e6
		p := newPlant(rate, fixed, 32<<20)
		rng := rand.New(rand.NewPCG(2, 2))
		var modest []load
		for i := range 4 {
			modest = append(modest, load{who: fmt.Sprint("m", i), bytes: 8000, rate: rate / 20})
		}
		p.play(rng, 5*time.Second, modest...)
		p.reset()
		p.play(rng, 10*time.Second, modest...)
		normal := at99(p.all())
		p.reset()
		p.play(rng, 10*time.Second, append(modest, load{who: "flood", bytes: 80_000, rate: 50 * rate / 5})...)
		flood := float64(p.passed["flood"]) / 10 / rate
		delete(p.delays, "flood")
		with := at99(p.all())
		t.Logf("p99 of the others %s, beside a flood %s; the flood has %.2f of the rate, the window is %d", normal, with, flood, p.window)
		if with > normal*2 {
			t.Errorf("p99 of the others is %s beside a flood, %s without", with, normal)
		}
		if flood < 0.07 { // half of its share, which is a fifth; more of it would be ahead of too many writes of the others
			t.Errorf("%.2f of the rate are left to who has more to send", flood)
		}
		for who, n := range p.refused {
			if who != "flood" {
				t.Errorf("%s was refused %d times", who, n)
			}
		}
		p.quiet(t)
	}
}

// TestCrowd: thousands with a little each, together ten times too much: those who get in are not late.
func TestCrowd(t *testing.T) {
	const rate = 20e6
	p := newPlant(rate, 2*time.Millisecond, 32<<20)
	rng := rand.New(rand.NewPCG(3, 3))
	for i := range 4000 {
		if i == 1000 { // a line there may be, in the beginning
			p.reset()
		}
		for range 48 {
			p.send(fmt.Sprint("c", rng.IntN(20_000)), 100, app.NormalPriority)
		}
		p.step()
	}
	p99, through := at99(p.all()), 0
	for _, n := range p.passed {
		through += n
	}
	t.Logf("p99 %s, %.2f of the rate, window %d, %d senders", p99, float64(through)/3/rate, p.window, len(p.senders))
	if p99 > 100*time.Millisecond || float64(through)/3/rate < 0.9 {
		t.Errorf("p99 %s, %.2f of the rate", p99, float64(through)/3/rate)
	}
	if len(p.senders) > mostOwn+1024 {
		t.Errorf("%d senders are known", len(p.senders))
	}
	p.quiet(t)
	p.now = p.now.Add(time.Minute)
	p.sweep(p.now)
	if len(p.senders) != 0 {
		t.Errorf("%d senders are known after a quiet minute", len(p.senders))
	}
}

// TestPriorities: when more comes than can be taken, low goes first and high last.
func TestPriorities(t *testing.T) {
	const rate = 40e6
	p := newPlant(rate, 2*time.Millisecond, 32<<20)
	rng := rand.New(rand.NewPCG(4, 4))
	p.play(rng, 10*time.Second, load{"low", 8000, rate, app.LowPriority}, load{"normal", 8000, rate, app.NormalPriority}, load{"high", 8000, rate / 2, app.HighPriority})
	low, normal, high := p.passed["low"], p.passed["normal"], p.passed["high"]
	t.Logf("low %.2f, normal %.2f, high %.2f of the rate", float64(low)/10/rate, float64(normal)/10/rate, float64(high)/10/rate)
	if low > normal/2 || float64(high)/10/rate < 0.3 {
		t.Errorf("low %d, normal %d, high %d", low, normal, high)
	}
	// One sender that writes to tables of all three: only the priority tells them apart.
	p = newPlant(rate, 2*time.Millisecond, 32<<20)
	got := map[app.Priority]int{}
	tried := map[app.Priority]int{}
	for range 5000 {
		for range 6 {
			pr := app.Priority(rng.IntN(3))
			before := p.refused["one"]
			p.send("one", 20_000, pr)
			tried[pr]++
			got[pr] += 1 - (p.refused["one"] - before)
		}
		p.step()
	}
	part := func(pr app.Priority) float64 { return float64(got[pr]) / float64(tried[pr]) }
	t.Logf("let in: low %.2f, normal %.2f, high %.2f", part(app.LowPriority), part(app.NormalPriority), part(app.HighPriority))
	if part(app.LowPriority) > 0.1 || part(app.HighPriority) < 1.3*part(app.NormalPriority) {
		t.Errorf("let in: low %.2f, normal %.2f, high %.2f", part(app.LowPriority), part(app.NormalPriority), part(app.HighPriority))
	}
}

// Writes that take long to check and never get to the log do not pull the measured rate down, and small writes of others pass them.
func TestBombs(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	p := newPlant(30e6, 5*time.Millisecond, 32<<20)
	good := load{"good", 500, 400e3, app.NormalPriority}
	p.play(rng, 5*time.Second, good)
	p.reset()
	rate := p.gate.rate
	for range 20 { // a bomb of a megabyte is checked for 300 ms, and refused
		now := p.now
		s := p.sender(auth.Principal{Subject: "bomb"}, now)
		if p.room(s, 1<<20, app.NormalPriority, now) {
			p.take(s, 1<<20)
			p.checks(1<<20, 1)
			p.charge(s, 1<<20, now)
			p.play(rng, 300*time.Millisecond, good)
			p.checks(1<<20, -1)
			p.dropped += 1 << 20
			p.leave(s, 1<<20, false)
			p.admit(p.now)
		} else {
			p.play(rng, 300*time.Millisecond, good)
		}
	}
	if p.gate.rate < rate/2 {
		t.Errorf("the rate is %.1f MB/s after bombs, %.1f before", p.gate.rate/1e6, rate/1e6)
	}
	if p.refused["good"] > 0 || len(p.delays["good"]) == 0 {
		t.Errorf("%d good writes were refused, %d passed", p.refused["good"], len(p.delays["good"]))
	}
}

// TestAlone: who is the only one to write is alone, also while nothing is answered for long; so it is not paced for the sake of others.
func TestAlone(t *testing.T) {
	p := newPlant(1e6, time.Millisecond, 1<<20)
	p.take(p.sender(auth.Principal{Subject: "a"}, p.now), 1<<20) // under way, and stays there
	for range 20 {
		p.now = p.now.Add(3 * idleFor / 2)
		s := p.sender(auth.Principal{Subject: "a"}, p.now)
		if p.refuse(s, 1000, app.NormalPriority, p.now); p.sharing() != 1 || p.beside(s, p.now) {
			t.Fatalf("it shares with %d", p.sharing()-1)
		}
	}
}
