package sim

import (
	"bytes"
	"context"
	"fmt"
	"strconv"

	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/ingest"
	"laaster/internal/kit/run"
	"laaster/internal/view"
	"laaster/internal/wire"
)

// client writes one request after the other. A request that was not answered is repeated, in this life of the server or the next, in the way that its
// kind allows: by primary keys of its own, by a key, by a sequence number; or not at all.
type client struct {
	w        *world
	n        int
	next     int64          // of the next row
	rows     map[int64]fate // of the rows of events and notes
	things   map[int]int64  // what it was told of its keyed rows
	sequence uint64
	pending  *write
}

// fate is what the client knows of a row.
type fate uint8

const (
	unknown fate = iota
	there
	refusedRow
)

// write is a request until it is settled.
type write struct {
	request ingest.Request
	rows    []int64 // of events and notes
	thing   int
	value   int64
	once    bool // it is not repeated
	sent    int  // how often
	life    int  // of the last attempt
	busy    bool // an attempt is under way
	result  chan answered
}

type answered struct {
	result  *wire.WriteResult
	problem *wire.Problem
}

// step begins a request, or repeats the one that is open.
func (c *client) step() {
	p := c.pending
	if p == nil {
		p = c.make()
		c.pending = p
	}
	if p.busy {
		return
	}
	p.busy, p.life = true, c.w.lives
	p.sent++
	l, r := c.w.life, p.request
	p.result = make(chan answered, 1)
	result := p.result
	l.group.Go("client", func(ctx context.Context) error {
		r.Received = run.System{}.Now()
		r.Rows = bytes.Clone(r.Rows)
		res, problem := l.door.Write(ctx, auth.Anonymous(), &r)
		result <- answered{res, problem}
		return nil
	})
}

// make makes a new request.
func (c *client) make() *write {
	rng := c.w.rng
	p := &write{request: ingest.Request{Op: change.OpInsert, ID: "r", Early: rng.IntN(4) == 0}}
	kind := rng.IntN(6)
	if kind == 5 {
		p.thing, p.value = c.n*10+rng.IntN(3), c.next
		c.next++
		p.request.Table, p.request.Op, p.request.Early = "things", change.OpMerge, false
		p.request.Rows = fmt.Appendf(nil, `{"id":%d,"client":%d,"n":%d}`, p.thing, c.n, p.value)
		p.request.Key = fmt.Sprintf("t%d-%d", c.n, p.value)
		return p
	}
	var b []byte
	for i := range 1 + rng.IntN(4) {
		if i > 0 {
			b = append(b, ',')
		}
		n := c.next
		c.next++
		if c.rows == nil {
			c.rows = map[int64]fate{}
		}
		c.rows[n] = unknown
		p.rows = append(p.rows, n)
		if kind < 2 {
			b = fmt.Appendf(b, `{"id":%d,"client":%d,"n":%d}`, int64(c.n)*1_000_000+n, c.n, n)
		} else {
			b = fmt.Appendf(b, `{"client":%d,"n":%d}`, c.n, n)
		}
	}
	p.request.Rows = append(append([]byte{'['}, b...), ']')
	p.request.Table = "notes"
	switch kind {
	case 0, 1:
		p.request.Table = "events"
	case 2:
		p.request.Key = fmt.Sprintf("k%d-%d", c.n, p.rows[0])
	case 3:
		c.sequence++
		p.request.Producer, p.request.Sequence = "p"+strconv.Itoa(c.n), c.sequence
		p.request.Early = false
	case 4:
		p.once = true
	}
	return p
}

// take settles the request when its answer has come.
func (c *client) take() {
	p := c.pending
	if p == nil || !p.busy {
		return
	}
	select {
	case a := <-p.result:
		p.busy = false
		c.settle(p, a)
	default:
	}
}

// lose says that the server died: an answer that had not come never does.
func (c *client) lose() {
	p := c.pending
	if p == nil || !p.busy {
		return
	}
	p.busy = false
	c.w.sometimes("a client's answer was lost in a crash")
	if p.once {
		c.pending = nil
	}
}

// settle notes an answer.
func (c *client) settle(p *write, a answered) {
	w := c.w
	if a.problem != nil {
		switch a.problem.Code {
		case wire.Busy, wire.Draining, wire.StorageDamaged, wire.Unresolved:
			w.sometimes("a write was told " + string(a.problem.Code))
			if p.once {
				c.pending = nil
			}
			return // again, later
		}
		w.fail("client %d: %s %s: %+v", c.n, p.request.Table, p.request.Rows, a.problem)
	}
	c.pending = nil
	r := a.result
	seq, err := strconv.ParseUint(r.Position, 10, 64)
	if err != nil {
		w.fail("client %d: position %q", c.n, r.Position)
	}
	w.tell(seq)
	if p.request.Table == "things" {
		c.things[p.thing] = p.value
		return
	}
	switch {
	case len(r.Rejected) > 0 || r.Final && r.Accepted+r.Duplicates != len(p.rows):
		w.fail("client %d: of %d good rows %+v", c.n, len(p.rows), r)
	case r.Duplicates > 0 && p.sent == 1:
		w.fail("client %d: %d of %d rows that were sent once are duplicates", c.n, r.Duplicates, len(p.rows))
	case r.Duplicates > 0:
		w.sometimes("a repeat was recognised by ids")
	}
	if p.sent > 1 && p.life > 1 && p.request.Key != "" {
		w.sometimes("a repeat was answered under its key")
	}
	if p.sent > 1 && p.request.Producer != "" {
		w.sometimes("a repeat was answered under its sequence")
	}
	for _, n := range p.rows {
		c.rows[n] = there
	}
}

// tell notes that a client was told of a position: the batch there is to be there for ever.
func (w *world) tell(seq uint64) {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	if seq == 0 || seq > uint64(len(w.store.batches)) {
		w.fail("position %d was told, and the log has %d batches", seq, len(w.store.batches))
	}
	b, err := change.ParseBatch(w.store.batches[seq-1])
	if err != nil {
		w.fail("batch %d: %v", seq, err)
	}
	d := b.Digest()
	if was, known := w.told[seq]; known && was != d {
		w.fail("position %d was told twice, of two batches", seq)
	}
	w.told[seq] = d
}

// shown returns the rows of a relation as (first integer columns) of the newest state.
func (l *life) shown(relation string) [][3]int64 {
	var out [][3]int64
	for i, rel := range l.w.program.Relations {
		if rel.Name != relation {
			continue
		}
		l.store.Snapshot(i).Ascend(i, nil, func(_ []byte, row change.Row) bool {
			var v [3]int64
			for k := range min(3, len(rel.Columns)) {
				v[k] = rel.Layout.Get(row, k).N
			}
			out = append(out, v)
			return true
		})
	}
	return out
}

// checkRows compares the tables with what clients know: what was acknowledged is there, nothing is there twice.
func (w *world) checkRows(when string) {
	l := w.life
	seen := map[[2]int64]int{}
	for _, r := range l.shown("events") {
		seen[[2]int64{r[1], r[2]}]++
	}
	for _, r := range l.shown("notes") {
		seen[[2]int64{r[0], r[1]}]++
	}
	for k, n := range seen {
		c := w.clients[k[0]]
		if f, sent := c.rows[k[1]]; !sent || n > 1 {
			w.fail("%s: row %d of client %d is there %d times (sent: %v, known: %v)", when, k[1], k[0], n, sent, f)
		}
	}
	for _, c := range w.clients {
		for n, f := range c.rows {
			if f == there && seen[[2]int64{int64(c.n), n}] == 0 {
				w.fail("%s: LOST: row %d of client %d was acknowledged", when, n, c.n)
			}
		}
	}
	things := map[int]int64{}
	for _, r := range l.shown("things") {
		things[int(r[0])] = r[2]
	}
	for _, c := range w.clients {
		for id, n := range c.things {
			if p := c.pending; p != nil && p.request.Table == "things" && p.thing == id && things[id] == p.value {
				continue // it is there, and its client does not know yet
			}
			if things[id] != n {
				w.fail("%s: thing %d is %d, its client was told %d", when, id, things[id], n)
			}
		}
	}
}

// reader follows one view and resumes where it was.
type reader struct {
	w    *world
	at   uint64 // 0: nothing yet
	rows map[string]string
	life int
}

// step takes what the server has for it.
func (r *reader) step() {
	l := r.w.life
	rel := 0
	for i, x := range r.w.program.Relations {
		if x.Name == "per_client" {
			rel = i
		}
	}
	head, _ := l.store.Head()
	if head == 0 {
		return
	}
	if r.at > head {
		r.w.fail("a reader was told position %d, and the server is at %d", r.at, head)
	}
	snap := l.store.Snapshot(rel)
	epochs, known := l.store.Since(r.at)
	if r.at == 0 || !known {
		if r.at > 0 {
			r.w.sometimes("a reader was told of a gap")
		}
		r.rows = rowsOf(snap, rel)
	} else {
		next := r.at
		for _, e := range epochs {
			if e.Seq <= next {
				r.w.fail("a reader at %d got epoch %d", next, e.Seq)
			}
			next = e.Seq
			for i := range e.Deltas {
				if e.Deltas[i].Relation == rel {
					r.apply(e.Deltas[i].Changes)
				}
			}
		}
		if r.life != r.w.lives {
			r.w.sometimes("a reader resumed in the next life")
		}
		if want := rowsOf(snap, rel); !same(r.rows, want) {
			r.w.fail("a reader that resumed at %d has %q at %d, a snapshot %q", r.at, r.rows, head, want)
		}
	}
	r.at, r.life = head, r.w.lives
	r.w.tell(head)
}

func (r *reader) apply(changes []change.RowChange) {
	for _, c := range changes {
		if old := r.rows[string(c.Key)]; old != string(c.Old) {
			r.w.fail("a reader at %d gets a change of %q, it has %q", r.at, c.Old, old)
		}
		if c.New == nil {
			delete(r.rows, string(c.Key))
		} else {
			r.rows[string(c.Key)] = string(c.New)
		}
	}
}

func rowsOf(s *view.Snapshot, rel int) map[string]string {
	out := map[string]string{}
	s.Ascend(rel, nil, func(key []byte, row change.Row) bool {
		out[string(key)] = string(row)
		return true
	})
	return out
}

func same(a, b map[string]string) bool {
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return len(a) == len(b)
}
