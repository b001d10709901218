package ingest

// quantum is how many bytes a sender may put into the log when its turn comes, saved up over its turns until its next part fits.
const quantum = 16 << 10

// turns is what waits for the log: a queue for each sender, emptied by deficit round robin. Each sender that has something gets a quantum a turn, and
// its parts go as soon as what it was given covers them; so a sender with much waits behind its own parts, and one with little for at most a
// quantum of each of the others, or for one part where that is larger. Parts of one sender stay in order, and next to each other as far as the quantum reaches.
// The order does not depend on where batches are cut.
type turns struct {
	front, back *sender // who has something, in the order of their turns; linked by sender.behind
	given       bool    // the front sender has had this turn's quantum
	parts       int
}

// push queues p behind s's other parts.
func (t *turns) push(s *sender, p *part) {
	t.parts++
	s.parts = append(s.parts, p)
	if len(s.parts) == 1 {
		t.enqueue(s)
	}
}

func (t *turns) enqueue(s *sender) {
	s.behind = nil
	if t.front == nil {
		t.front = s
	} else {
		t.back.behind = s
	}
	t.back = s
}

func (t *turns) dequeue() *sender {
	s := t.front
	t.front, t.given = s.behind, false
	if t.front == nil {
		t.back = nil
	}
	s.behind = nil
	return s
}

// next returns the part whose turn it is, nil when there is none. It stays where it is until pop.
func (t *turns) next() *part {
	for t.front != nil {
		s := t.front
		if !t.given {
			s.deficit += quantum
			t.given = true
		}
		if p := s.parts[0]; p.entry.Size() <= s.deficit {
			return p
		}
		t.enqueue(t.dequeue())
	}
	return nil
}

// pop takes out what next returned.
func (t *turns) pop() {
	s := t.front
	p := s.parts[0]
	s.deficit -= p.entry.Size()
	s.parts[0] = nil
	s.parts = s.parts[1:]
	t.parts--
	if len(s.parts) == 0 {
		s.parts, s.deficit = nil, 0
		t.dequeue()
	}
}

// drain empties all queues and returns what was in them.
func (t *turns) drain() []*part {
	var out []*part
	for p := t.next(); p != nil; p = t.next() {
		t.pop()
		out = append(out, p)
	}
	return out
}
