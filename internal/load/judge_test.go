package load

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// court is a judge of two clients over four rows written on two connections, with the answers of eight requests: request i is in at 10+i.
func court(t *testing.T, every bool) *judge {
	t.Helper()
	p := newPlan(4, 4, 2, 1, 60)
	d := &drive{answers: make([]atomic.Uint64, 8), schedule: Schedule{0, 1e6, 2e6, 3e6, 4e6, 5e6, 6e6, 7e6}}
	for i := range d.answers {
		d.answers[i].Store(uint64(10 + i))
	}
	j := newJudge(&p, d, 9, 2, 2, false)
	j.every = every
	return j
}

// epoch returns a frame with rows as {row, number}.
func (j *judge) epoch(seq int, rows ...[2]int) string {
	var b []byte
	for i, r := range rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = j.plan.row(b, r[0], r[1])
	}
	return fmt.Sprintf(`{"type":"epoch","position":"log.0-%d","changes":{"1":{"put":[%s]}}}`, seq, b)
}

// hear gives a client a frame as the swarm does.
func (j *judge) hear(t *testing.T, c *Client, frame string, at time.Duration) {
	t.Helper()
	c.state, j.clients[c.ID].complete = stateLive, true
	if err := c.told("epoch", []byte(frame)); err != nil {
		t.Fatal(err)
	}
	j.frame(c, "epoch", []byte(frame), at)
}

// TestJudgeIsContent: who gets everything right, one change at a time or merged, is found right, and each change has its delay.
func TestJudgeIsContent(t *testing.T) {
	j := court(t, false)
	d := NewDelays()
	j.delaysOf = func(int, time.Duration) *Delays { return d }
	a, b := &Client{ID: 0}, &Client{ID: 1}
	for i := range 8 { // requests 0 to 3 change rows 0 to 3 for the first time, 4 to 7 for the second
		row, n := j.plan.change(i, 0)
		j.hear(t, a, j.epoch(10+i, [2]int{row, n}), time.Duration(i)*time.Millisecond)
	}
	j.hear(t, b, j.epoch(17, [2]int{0, 2}, [2]int{1, 2}, [2]int{2, 2}, [2]int{3, 2}), 10*time.Millisecond)
	if v := j.witnesses(); v.wrong != 0 || v.positions != 8 || j.compared.Load() != 9 {
		t.Errorf("%+v", v)
	}
	final, taken := j.final()
	if n, first := j.behind(final, 0, 2); n != 0 || taken != 8 {
		t.Errorf("%d behind of %d changes: %s", n, taken, first)
	}
	if j.delivered.Load() != 12 || j.skipped.Load() != 4 || j.fell.Load()+j.repeated.Load() != 0 {
		t.Errorf("delivered %d, skipped %d", j.delivered.Load(), j.skipped.Load())
	}
	// Client 0 saw each at once; client 1 at 10 ms what was due at 0 to 7 ms.
	if c := d.Curve(""); c.Count != 16 || c.Max < 9.9 || c.Max > 10.1 || c.Mean < 3.2 || c.Mean > 3.3 {
		t.Errorf("%+v", c)
	}
}

// TestJudgeObjects: each way of being wrong is found.
func TestJudgeObjects(t *testing.T) {
	type setting struct {
		j *judge
		c *Client
	}
	for name, c := range map[string]struct {
		do    func(s setting)
		found func(j *judge) bool
	}{
		"a change too early":  {func(s setting) { s.j.hear(t, s.c, s.j.epoch(10, [2]int{0, 1}, [2]int{1, 1}), 0) }, wrongRows},
		"a change too late":   {func(s setting) { s.j.hear(t, s.c, s.j.epoch(11, [2]int{0, 1}), 0) }, wrongRows},
		"a change of another": {func(s setting) { s.j.hear(t, s.c, s.j.epoch(10, [2]int{2, 1}), 0) }, wrongRows},
		"two that differ": {func(s setting) {
			s.j.hear(t, s.c, s.j.epoch(10, [2]int{0, 1}), 0)
			s.j.hear(t, &Client{ID: 1}, s.j.epoch(10), 0)
		}, wrongRows},
		"a lost change": {func(s setting) { s.j.hear(t, s.c, s.j.epoch(17, [2]int{0, 2}, [2]int{1, 2}, [2]int{2, 2}), 0) }, func(j *judge) bool {
			f,
				_ := j.final()
			n, _ := j.behind(f, 0, 1)
			return n == 1
		}},
		"a row twice": {func(s setting) {
			s.j.hear(t, s.c, s.j.epoch(10, [2]int{0, 1}), 0)
			s.j.hear(t, s.c, s.j.epoch(11, [2]int{0, 1}), 0)
		}, func(j *judge) bool { return j.repeated.Load() == 1 }},
		"a row that goes back": {func(s setting) {
			s.j.hear(t, s.c, s.j.epoch(14, [2]int{0, 2}), 0)
			s.j.hear(t, s.c, s.j.epoch(15, [2]int{0, 1}), 0)
		}, func(j *judge) bool { return j.fell.Load() == 1 }},
		"a change passed over": {func(s setting) { s.j.hear(t, s.c, s.j.epoch(14, [2]int{0, 2}), 0) }, func(j *judge) bool { return j.skipped.Load() == 1 }},
		"a row nobody asked":   {func(s setting) { s.j.hear(t, s.c, s.j.epoch(14, [2]int{9, 2}), 0) }, badText},
		"a row nobody changes": {func(s setting) {
			s.j.plan.changing = 3
			s.j.hear(t, s.c, s.j.epoch(10, [2]int{3, 1}), 0)
		}, badText},
		"a row with other text": {func(s setting) { s.j.hear(t, s.c, strings.Replace(s.j.epoch(14, [2]int{0, 2}), "xxx", "xyx", 1), 0) }, badText},
	} {
		s := setting{court(t, true), &Client{ID: 0}}
		c.do(s)
		if !c.found(s.j) {
			t.Errorf("%s: not found", name)
		}
	}
}

func wrongRows(j *judge) bool { v := j.witnesses(); return v.wrong == 1 }
func badText(j *judge) bool   { return j.mu.bad > 0 }

// TestRefusedAndOpen: a refused change is none, and what is not answered is not judged.
func TestRefusedAndOpen(t *testing.T) {
	j := court(t, false)
	j.drive.answers[0].Store(refused)
	j.drive.answers[5].Store(unanswered) // of connection 1, whose answers end with request 3
	j.drive.answers[7].Store(unanswered)
	j.drive.begun.Store(8)
	j.drive.sent.Store(6)
	c := &Client{ID: 0}
	j.hear(t, c, j.epoch(12, [2]int{1, 1}, [2]int{2, 1}), 0)
	j.hear(t, c, j.epoch(13, [2]int{3, 1}), 0)
	j.hear(t, c, j.epoch(14, [2]int{0, 2}), 0)
	if v := j.witnesses(); v.wrong != 0 || v.positions != 2 || v.unknown != 1 {
		t.Errorf("%+v", v)
	}
}
