package load

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// judge follows what clients see and knows what they should: the numbers of rows only grow, every text is as it was written, and the rows at
// a position are those that the answers to the writes say.
type judge struct {
	plan  *plan
	tail  []byte
	drive *drive
	own   bool // client i watches row i mod rows alone; else all rows
	// every wants each change on its own: skipped ones are then failures unless the server refused them.
	every    bool
	delaysOf func(id int, due time.Duration) *Delays // where the delay of a change that was due then counts; nil: nowhere
	clients  []seen
	// Of clients that watch all rows: the digest of the first one that was told a position, by the position less base; 0: nobody was. The others must
	// agree with it,
	// and it with the answers.
	base     uint64
	together []atomic.Uint64
	compared atomic.Int64 // positions of all clients
	apart    atomic.Int64 // of them those that did not agree

	// Of all clients: rows that came in epochs, changes that were passed over (a newer one of the row came instead), rows that came with an old number, and
	// rows that came with the number that was there already.
	delivered, skipped, fell, repeated atomic.Int64

	mu struct {
		sync.Mutex
		errs []string
		bad  int
	}
}

// seen is what one client has.
type seen struct {
	numbers  []int32
	digest   uint64 // of numbers
	complete bool   // its rows are those of the position that it was told
	marks    []mark // of a witness among those that watch their own row: what it had at each position that it was told
	witness  bool
	newest   time.Duration // when the newest change that it has was due
}

type mark struct {
	seq    uint64
	digest uint64
}

// maxMarks bounds what a witness remembers; beyond it the first ones are checked.
const maxMarks = 200_000

// maxTogether bounds the positions at which clients are compared; those beyond it are not.
const maxTogether = 1 << 22

// newJudge prepares for n clients that get nothing from before position base. Of clients that watch their own row so many are witnesses, evenly spread.
func newJudge(p *plan, d *drive, base uint64, n, witnesses int, own bool) *judge {
	j := &judge{plan: p, tail: p.tail(), drive: d, own: own, clients: make([]seen, n), base: base}
	if !own {
		j.together = make([]atomic.Uint64, maxTogether)
	}
	for i := range j.clients {
		rows := p.rows
		if own {
			rows = 1
		}
		j.clients[i].numbers = make([]int32, rows)
		j.clients[i].witness = witnesses > 0 && i%max(1, n/witnesses) == 0
	}
	for i := range j.clients {
		for k := range j.clients[i].numbers {
			j.clients[i].digest += digest(j.row(i, k), 0)
		}
	}
	return j
}

// row returns which row is at place k of client id.
func (j *judge) row(id, k int) int {
	if j.own {
		return id % j.plan.rows
	}
	return k
}

// digest of one row: the sum over all rows is that of a state.
func digest(row, number int) uint64 {
	x := uint64(row)<<32 ^ uint64(uint32(number))
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// frame takes one frame of a client.
func (j *judge) frame(c *Client, kind Kind, frame []byte, at time.Duration) {
	s := &j.clients[c.ID]
	switch kind {
	case "epoch":
	case "snapshot":
		s.complete = last(frame)
	case "resumed":
		s.complete = true
		return
	case "gap":
		s.complete = false
		return
	default:
		return
	}
	var came, skipped, fell, repeated int64
	err := rowsOf(frame, j.tail, func(row, number int) {
		k := row
		if j.own {
			k = row - c.ID%j.plan.rows
		}
		if k < 0 || k >= len(s.numbers) {
			j.failed("client %d got row %d, which it did not ask for", c.ID, row)
			return
		}
		last := int(s.numbers[k])
		switch {
		case number < last:
			fell++
		case kind == "snapshot":
		case number == last:
			repeated++
		case row >= j.plan.changing:
			j.failed("client %d got number %d of row %d, which nobody changes", c.ID, number, row)
			return
		default:
			came++
			skipped += int64(number - last - 1)
			j.shown(c.ID, s, row, last, number, at)
		}
		s.digest += digest(row, number) - digest(row, last)
		s.numbers[k] = int32(number)
	})
	if err != nil {
		j.failed("client %d at %d: %v", c.ID, c.Sequence, err)
	}
	if came > 0 {
		j.delivered.Add(came)
	}
	if skipped+fell+repeated > 0 {
		j.skipped.Add(skipped)
		j.fell.Add(fell)
		j.repeated.Add(repeated)
	}
	if s.complete {
		j.at(s, c.Sequence)
	}
}

// at notes what a client has at a position, or compares it with what others had.
func (j *judge) at(s *seen, seq uint64) {
	if j.own {
		if s.witness && len(s.marks) < maxMarks {
			s.marks = append(s.marks, mark{seq, s.digest})
			j.compared.Add(1)
		}
		return
	}
	if seq < j.base || seq-j.base >= maxTogether {
		return
	}
	j.compared.Add(1)
	have := max(s.digest, 1)
	if p := &j.together[seq-j.base]; !p.CompareAndSwap(0, have) && p.Load() != have {
		j.apart.Add(1)
		j.failed("clients have different rows at position %d", seq)
	}
}

// shown counts the delays of the changes of a row from behind last up to number, which are all on the screen now.
func (j *judge) shown(id int, s *seen, row, last, number int, at time.Duration) {
	due := j.drive.due(j.plan.request(row, number))
	s.newest = max(s.newest, due)
	if j.delaysOf == nil {
		return
	}
	for n := number; n > last; n-- {
		if n < number {
			due = j.drive.due(j.plan.request(row, n))
		}
		if d := j.delaysOf(id, due); d != nil {
			d.Add(at - due)
		}
	}
}

func (j *judge) failed(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.mu.bad++; len(j.mu.errs) < 5 {
		j.mu.errs = append(j.mu.errs, fmt.Sprintf(format, args...))
	}
}

// truth says what each row is at a position: the number of its last change that was taken up to there.
type truth struct {
	j    *judge
	next []int    // by row that changes: the first number that is not in yet
	have []int32  // by row: the number at the position
	sum  uint64   // its digest
	till uint64   // beyond it something is not known: an answer is missing
	ends []uint64 // by connection: its last answer
}

// newTruth begins before the first change.
func (j *judge) newTruth() *truth {
	t := &truth{j: j, next: make([]int, j.plan.changing), have: make([]int32, j.plan.rows), till: refused, ends: make([]uint64, j.plan.conns)}
	for r := range t.next {
		t.next[r] = 1
	}
	for r := range t.have {
		t.sum += digest(r, 0)
	}
	open := make([]bool, j.plan.conns) // nothing of a connection is known behind its first request without an answer
	for i := range j.drive.count() {
		c := i % j.plan.conns
		switch a := j.drive.answer(i); {
		case open[c]:
		case a == unanswered:
			open[c] = true
		case a != refused:
			t.ends[c] = a
		}
	}
	if j.drive.interrupted() {
		for c, e := range t.ends {
			if open[c] {
				t.till = min(t.till, e)
			}
		}
	}
	return t
}

// advance goes on to a position.
func (t *truth) advance(seq uint64) {
	for r := range t.next {
		for {
			i := t.j.plan.request(r, t.next[r])
			a := t.j.drive.answer(i)
			if a == unanswered || a != refused && a > seq {
				break
			}
			if a != refused {
				t.sum += digest(r, t.next[r]) - digest(r, int(t.have[r]))
				t.have[r] = int32(t.next[r])
			}
			t.next[r]++
		}
	}
}

// verdict is what came of the comparison.
type verdict struct {
	positions, wrong, unknown int
	first                     string // the first wrong one
}

// witnesses compares what the witnesses had at each position with the truth. Clients must be at rest.
func (j *judge) witnesses() verdict {
	type place struct {
		mark
		id int
	}
	var all []place
	for i := range j.together {
		if d := j.together[i].Load(); d != 0 {
			all = append(all, place{mark{j.base + uint64(i), d}, -1})
		}
	}
	for id := range j.clients {
		for _, m := range j.clients[id].marks {
			all = append(all, place{m, id})
		}
	}
	slices.SortFunc(all, func(a, b place) int {
		switch {
		case a.seq < b.seq:
			return -1
		case a.seq > b.seq:
			return 1
		}
		return a.id - b.id
	})
	t, v := j.newTruth(), verdict{wrong: int(j.apart.Load())}
	last := uint64(0)
	for _, p := range all {
		if p.seq > t.till {
			v.unknown++
			continue
		}
		if p.seq != last {
			t.advance(p.seq)
			last = p.seq
		}
		want := max(t.sum, 1)
		if j.own {
			r := p.id % j.plan.rows
			want = digest(r, int(t.have[r]))
		}
		v.positions++
		if want != p.digest {
			if v.wrong++; v.first == "" {
				v.first = fmt.Sprintf("at position %d", p.seq)
			}
		}
	}
	return v
}

// final returns the number of each row after everything, and how many changes were taken.
func (j *judge) final() (numbers []int32, taken int64) {
	t := j.newTruth()
	t.advance(refused - 1)
	for i := range j.drive.count() {
		if a := j.drive.answer(i); a != unanswered && a != refused {
			taken += int64(j.plan.batch)
		}
	}
	return t.have, taken
}

// behind returns how many clients in [from, to) do not have the final rows, and the first of them in words. Clients must be at rest, or asked on their loop.
func (j *judge) behind(final []int32, from, to int) (n int, first string) {
	for id := from; id < to; id++ {
		for k, have := range j.clients[id].numbers {
			if row := j.row(id, k); have != final[row] {
				if n++; first == "" {
					first = fmt.Sprintf("client %d has number %d of row %d, which has %d", id, have, row, final[row])
				}
				break
			}
		}
	}
	return n, first
}
