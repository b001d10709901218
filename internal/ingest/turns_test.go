package ingest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"laaster/internal/change"
)

// modelTurns is deficit round robin as the textbook has it, over sizes.
type modelTurns struct {
	order   []int // senders with something, the one whose turn it is first
	queues  map[int][]modelPart
	deficit map[int]int
	fresh   bool // the first one has not had its quantum
}

type modelPart struct{ n, size int }

func (m *modelTurns) push(s int, p modelPart) {
	if len(m.queues[s]) == 0 {
		m.order = append(m.order, s)
		m.deficit[s] = 0
		if len(m.order) == 1 {
			m.fresh = true
		}
	}
	m.queues[s] = append(m.queues[s], p)
}

// peek returns what comes next.
func (m *modelTurns) peek() (modelPart, bool) {
	if len(m.order) == 0 {
		return modelPart{}, false
	}
	for {
		s := m.order[0]
		if m.fresh {
			m.deficit[s] += quantum
			m.fresh = false
		}
		if m.queues[s][0].size <= m.deficit[s] {
			return m.queues[s][0], true
		}
		m.order = append(m.order[1:], s)
		m.fresh = true
	}
}

func (m *modelTurns) pop() {
	s := m.order[0]
	m.deficit[s] -= m.queues[s][0].size
	m.queues[s] = m.queues[s][1:]
	if len(m.queues[s]) == 0 {
		m.order, m.fresh = m.order[1:], true
	}
}

func partOf(n, size int) *part {
	p := &part{entry: change.Entry{Kind: change.EntryWrite, Op: change.OpInsert, First: uint32(n)}}
	p.entry.Body = make([]byte, max(0, size-p.entry.Size()))
	return p
}

// TestTurns: random histories against the model, and what the order promises: each sender's parts stay in order, and of two that always have
// something, neither gets more than a quantum and its largest part ahead.
func TestTurns(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var have turns
		model := &modelTurns{queues: map[int][]modelPart{}, deficit: map[int]int{}}
		senders := make([]*sender, 1+rng.IntN(6))
		for i := range senders {
			senders[i] = &sender{}
		}
		n, last := 0, map[*sender]int{}
		for range 400 {
			if rng.IntN(3) > 0 {
				i, size := rng.IntN(len(senders)), 100+rng.IntN(1<<rng.IntN(19))
				p := partOf(n, size)
				p.of = senders[i]
				have.push(senders[i], p)
				model.push(i, modelPart{n, p.entry.Size()})
				n++
			}
			for room := rng.IntN(1 << 18); ; {
				p := have.next()
				want, ok := model.peek()
				if (p != nil) != ok || ok && int(p.entry.First) != want.n {
					t.Fatalf("seed %d: %+v is next, want %+v", seed, p, want)
				}
				if p == nil || p.entry.Size() > room {
					break
				}
				room -= p.entry.Size()
				if last[p.of] > want.n {
					t.Fatalf("seed %d: part %d of a sender after %d", seed, want.n, last[p.of])
				}
				last[p.of] = want.n
				have.pop()
				model.pop()
			}
		}
		rest := 0
		for _, q := range model.queues {
			rest += len(q)
		}
		if have.parts != rest || len(have.drain()) != rest || have.front != nil {
			t.Fatalf("seed %d: %d parts are left, want %d", seed, have.parts, rest)
		}
	}
}

// TestTurnsAreFair: of senders that always have something, none is ever ahead by more than a quantum and its largest part.
func TestTurnsAreFair(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	largest := []int{200, 4000, 60_000, 500_000}
	senders := make([]*sender, len(largest))
	got := make([]int, len(largest))
	var q turns
	fill := func(i int) {
		p := partOf(i, 100+rng.IntN(largest[i]))
		q.push(senders[i], p)
	}
	for i := range senders {
		senders[i] = &sender{}
		fill(i)
		fill(i)
	}
	for range 20_000 {
		p := q.next()
		i := int(p.entry.First)
		q.pop()
		fill(i)
		got[i] += p.entry.Size()
		for k := range got {
			if got[i]-got[k] > 2*quantum+largest[i]+largest[k] {
				t.Fatalf("sender %d has %d bytes, sender %d %d", i, got[i], k, got[k])
			}
		}
	}
	if fmt.Sprint(got) == "[0 0 0 0]" {
		t.Fatal("nothing came")
	}
}
