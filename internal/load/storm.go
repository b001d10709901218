package load

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"laaster/internal/kit/run"
)

// storm is the profile storm: all clients are cut at once while changes go on, miss some, and come back together.
func (b *bench) storm(ctx context.Context) error {
	o, r := &b.opt, b.report
	p := newPlan(o.Rows, o.changing(), o.Conns, o.Batch, o.RowBytes)
	base, err := b.fill(ctx, &p)
	if err != nil {
		return err
	}
	// Longer than it can take: it is ended when the rounds are over.
	s, err := Constant(o.Rate/float64(o.Batch), time.Duration(o.Rounds)*(time.Minute+2*o.Length+seconds(float64(o.Missed)/o.Rate)))
	if err != nil {
		return err
	}
	b.describe(&p, false)
	r.Summary += fmt.Sprintf("; all cut at once, back after %d changes, %d times", o.Missed, o.Rounds)
	r.set("connect at one time", itoa(o.Window))
	d := b.drive(&p, s)
	t := &tempest{bench: b, drive: d, judge: newJudge(&p, d, base, o.Clients, min(16, o.Clients), false), back: make([]time.Duration, o.Clients),
		came: make(chan struct{}, 1), delays: NewDelays()}
	t.swarm, err = NewSwarm(ctx, o.Clients, SwarmOptions{URL: o.URL, Token: o.Token, TLS: o.TLS, Hello: b.hello(false), Path: b.path(false), Frame: t.frame, Clock: o.Clock,
		Start: b.start, Loops: o.Loops, Window: o.Window})
	if err != nil {
		return err
	}
	defer t.swarm.Close()
	if err := b.open(ctx, t.swarm, o.Clients); err != nil {
		return err
	}
	m := &meter{b: b, sent: d.accepted.Load, delivered: t.judge.delivered.Load, live: t.swarm.live.Load, fine: true}
	m.start(ctx)
	b.begin(d)
	g := run.New(ctx)
	g.Go("load drive", d.run)
	from := m.sample()
	err = t.rounds(ctx, m)
	d.over.Store(true)
	if e := g.Wait(); err == nil {
		err = e
	}
	to := m.sample()
	m.stop()
	if err != nil && ctx.Err() == nil {
		return err
	}
	t.tell()
	b.rest(ctx, d, t.judge, t.swarm)
	b.others(from, to)
	b.clients(t.swarm)
	gaps := t.swarm.gaps.Load()
	r.check("everybody resumed", gaps == 0, fmt.Sprintf("%d were told of a gap and got their rows anew", gaps))
	return nil
}

// tempest is the state of the rounds.
type tempest struct {
	*bench
	drive *drive
	judge *judge
	swarm *Swarm

	target atomic.Uint64   // clients that are back must reach this sequence; 0: no round is on
	back   []time.Duration // by client: when it did; belongs to its loop while a round is on
	caught atomic.Int64
	came   chan struct{} // capacity 1: somebody did

	delays *Delays
	table  Table
}

// frame takes one frame and notes who is back.
func (t *tempest) frame(c *Client, kind Kind, frame []byte, at time.Duration) {
	t.judge.frame(c, kind, frame, at)
	if want := t.target.Load(); want == 0 || c.Sequence < want || t.back[c.ID] != 0 || kind != "epoch" && kind != "snapshot" && kind != "resumed" {
		return
	}
	t.back[c.ID] = at
	t.caught.Add(1)
	select {
	case t.came <- struct{}{}:
	default:
	}
}

func (t *tempest) rounds(ctx context.Context, m *meter) error {
	o := &t.opt
	t.table = Table{Name: "Storms", Columns: []string{"round", "all live again, s", "median client, s", "server ms of CPU each", "changes missed",
		"sent away", "changes meanwhile"}}
	for round := 1; round <= o.Rounds; round++ {
		t.say(fmt.Sprintf("storm %d of %d: before", round, o.Rounds))
		if !until(ctx, o.Clock, o.Clock.Now().Add(o.Length)) {
			return ctx.Err()
		}
		t.say(fmt.Sprintf("storm %d of %d: cut", round, o.Rounds))
		refusedBefore := t.swarm.refused.Load()
		t.swarm.Cut(0, o.Clients)
		cut := t.drive.accepted.Load()
		for t.drive.accepted.Load() < cut+int64(o.Missed) {
			if !until(ctx, o.Clock, o.Clock.Now().Add(20*time.Millisecond)) {
				return ctx.Err()
			}
		}
		t.say(fmt.Sprintf("storm %d of %d: back", round, o.Rounds))
		clear(t.back) // all are down: no loop looks at it
		t.caught.Store(0)
		t.target.Store(max(t.drive.last.Load(), 1))
		before := m.sample()
		t.swarm.Connect(0, o.Clients)
		if err := t.all(ctx, before.at+time.Minute); err != nil {
			return err
		}
		after := m.sample()
		t.target.Store(0)
		h, last := NewDelays(), time.Duration(0)
		t.swarm.Still(func() {
			for _, at := range t.back {
				h.Add(at - before.at)
				t.delays.Add(at - before.at)
				last = max(last, at)
			}
		})
		cpu := (after.cpu - before.cpu).Seconds() * 1000 / float64(o.Clients)
		t.table.Rows = append(t.table.Rows, []float64{float64(round), (last - before.at).Seconds(), h.At(50) / 1000, cpu, float64(before.sent - cut),
			float64(t.swarm.refused.Load() - refusedBefore),
			float64(after.sent - before.sent)})
	}
	return nil
}

// all waits until everybody is back.
func (t *tempest) all(ctx context.Context, limit time.Duration) error {
	n := int64(t.opt.Clients)
	for t.caught.Load() < n {
		select {
		case <-t.came:
		case <-t.opt.Clock.After(time.Second):
			if t.now() > limit {
				return fmt.Errorf("%d of %d clients are back after a minute%s", t.caught.Load(), n, t.swarm.because())
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// tell reports the rounds that were done.
func (t *tempest) tell() {
	var took, cpu, half []float64
	for _, row := range t.table.Rows {
		took, half, cpu = append(took, row[1]), append(half, row[2]), append(cpu, row[3])
	}
	r := t.report
	if len(took) == 0 {
		return
	}
	r.Tables = append(r.Tables, t.table)
	n := fmt.Sprintf("median of %d storms", len(took))
	r.figure("all live again", median(took), "s", 0.7, n+"; rows complete up to the last change before they came")
	if t.proc.Known() {
		r.figure("server time per client", median(cpu), "ms", 0.15, n+"; upgrade, resume, and the load meanwhile")
	}
	r.figure("half of them live again", median(half), "s", 0, n)
	r.Delays = append(r.Delays, t.delays.Curve("connect → rows complete"))
}
