package push

import (
	"bytes"
	"slices"
	"sync"

	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/wire"
)

// guard is the rule of a query that compares with memberships: it makes of each position the condition that holds there. Who follows such a query sees rows
// come and go with the rows themselves, and with the sets: both at their positions. Safe for concurrent use.
type guard struct {
	base    *query // without the rule's condition
	nothing *query // nothing of it
	sets    []*membership
	feed    *feed // whose rows it decides on; nil: those of a read
	mu      struct {
		sync.Mutex
		kept []guarded // newest first
	}
}

// guarded is the query that a guard makes of one version of its sets. Read-only.
type guarded struct {
	version []memberVersion
	q       *query
	sets    [][]memberKey
}

// newGuardLocked returns the guard of q, whose sets have to be given back. The caller holds Hub.mu.
func (h *Hub) newGuardLocked(q *query, f *feed) *guard {
	nothing := *q
	nothing.filter = q.filter.And(expr.BoolLit(false, -1))
	g := &guard{base: q, nothing: &nothing, sets: h.acquireMembersLocked(q), feed: f}
	if f != nil {
		f.now = g.nothing
		h.mu.unguided[f] = struct{}{}
		for _, s := range g.sets {
			s.guards[g] = struct{}{}
		}
	}
	return g
}

// freeLocked gives everything back. The caller holds Hub.mu.
func (h *Hub) freeLocked(g *guard) {
	delete(h.mu.unguided, g.feed)
	for _, s := range g.sets {
		delete(s.guards, g)
	}
	h.releaseMembersLocked(g.sets)
}

// build reads the sets that have no values, or says why that cannot be. It must not be called with Hub.mu held.
func (h *Hub) buildGuard(g *guard) *wire.Problem {
	for _, s := range g.sets {
		if p := h.buildMember(s); p != nil {
			return p
		}
	}
	if g.feed != nil {
		h.mu.Lock()
		h.guideLocked(g.feed)
		h.mu.Unlock()
	}
	return nil
}

// ready reports whether all sets have their values.
func (g *guard) ready() bool {
	return !slices.ContainsFunc(g.sets, func(s *membership) bool { return !s.ready() })
}

// at returns what the rule makes of the query at a position, or false when a set's values there are not known.
func (g *guard) at(seq uint64) (guarded, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	version := make([]memberVersion, len(g.sets))
	for i, s := range g.sets {
		var ok bool
		if version[i], ok = s.version(seq); !ok {
			return guarded{}, false
		}
	}
	for _, k := range g.mu.kept {
		if slices.Equal(k.version, version) {
			return k, true
		}
	}
	made := guarded{version: version, sets: make([][]memberKey, len(g.sets))}
	for i, s := range g.sets {
		var ok bool
		if made.sets[i], ok = s.valuesAt(seq); !ok {
			return guarded{}, false
		}
	}
	made.q = g.with(made.sets)
	g.mu.kept = slices.Insert(g.mu.kept, 0, made)
	if len(g.mu.kept) > keptGuarded {
		clear(g.mu.kept[keptGuarded:])
		g.mu.kept = g.mu.kept[:keptGuarded]
	}
	return made, true
}

// with returns the query under a rule that compares with these sets.
func (g *guard) with(sets [][]memberKey) *query {
	values := make([][]change.Value, len(sets))
	for i, list := range sets {
		values[i] = make([]change.Value, len(list))
		for j := range list {
			values[i][j] = list[j].value
		}
	}
	q := *g.base
	q.filter = q.filter.And(q.rule.Cond(values))
	q.lead, q.point = q.prefix()
	return &q
}

// turned reports whether a set may be another one at any position after from up to to.
func (g *guard) turned(from, to uint64) bool {
	return slices.ContainsFunc(g.sets, func(s *membership) bool { return s.turned(from, to) })
}

// oldest returns the first position whose condition is known.
func (g *guard) oldest() (seq uint64) {
	for _, s := range g.sets {
		seq = max(seq, s.oldest())
	}
	return seq
}

// reachBack has the guard know its condition from a position on, and reports whether it can.
func (g *guard) reachBack(seq uint64) bool {
	return !slices.ContainsFunc(g.sets, func(s *membership) bool { return !s.reachBack(seq) })
}

// queryAt returns what f asks at a position: always the same, unless its rule has members. It is false when that is not known.
func (f *feed) queryAt(seq uint64) (*query, bool) {
	if f.guard == nil {
		return f.q, true
	}
	g, ok := f.guard.at(seq)
	return g.q, ok
}

// followMembersLocked has the memberships follow the epochs, and the feeds whose conditions they have changed be found by what these are now.
func (h *Hub) followMembersLocked(epochs []*change.Epoch, from, to uint64) {
	if len(h.mu.members) == 0 {
		h.followed.Store(to)
		return
	}
	rels := h.store.Relations()
	for _, e := range epochs {
		for i := range e.Deltas {
			d := &e.Deltas[i]
			x := &h.mu.feeds[d.Relation]
			if x.members.empty() {
				continue
			}
			x.members.concerned(rels[d.Relation], d.Changes, func(m *feed, changes []change.RowChange) {
				if !m.slid {
					m.slid = true
					h.mu.joined = append(h.mu.joined, m)
				}
				m.members.apply(e.Seq, changes)
			})
		}
	}
	h.followed.Store(to)
	turn := func(f *feed) {
		if !f.turned {
			f.turned = true
			h.mu.turned = append(h.mu.turned, f)
		}
	}
	for f := range h.mu.unguided {
		turn(f)
	}
	for _, m := range h.mu.joined {
		m.slid = false
		if !m.members.turned(from, to) {
			continue
		}
		for g := range m.members.guards {
			turn(g.feed)
		}
	}
	clear(h.mu.joined)
	h.mu.joined = h.mu.joined[:0]
}

// turnLocked is the end of followMembersLocked, once the hub's position is that of its epochs.
func (h *Hub) turnLocked() {
	for _, f := range h.mu.turned {
		h.guideLocked(f)
		if f.window != nil && f.window.turn(h.mu.pos) && !f.slid {
			f.slid = true
			h.mu.slid = append(h.mu.slid, f)
		}
	}
}

// unturnLocked ends the flush for the feeds whose conditions have changed in it.
func (h *Hub) unturnLocked() {
	for _, f := range h.mu.turned {
		f.turned = false
	}
	clear(h.mu.turned)
	h.mu.turned = h.mu.turned[:0]
}

// guideLocked has the changes that concern f be found by its condition at the hub's position. When that is not known nothing concerns it, and who follows it begins
// anew.
func (h *Hub) guideLocked(f *feed) {
	if f.users == 0 {
		return
	}
	q, ok := f.queryAt(h.mu.pos)
	if ok {
		delete(h.mu.unguided, f)
	} else {
		q = f.guard.nothing
		h.mu.unguided[f] = struct{}{}
	}
	if q == f.now {
		return
	}
	x := h.mu.feeds[f.q.rel.ID].of(f)
	x.remove(f)
	f.now = q
	x.add(f)
}

// guardedChanges returns what changes over sp for who sees what f's rule lets him see, and how to render it: with whole, all that is there has changed, else f's
// query at the end decides. look is how many rows may still be looked at because the sets have changed. It is false when that is not enough, or the sets are not
// known at both ends.
func (h *Hub) guardedChanges(f *feed, sp *span, look *int) (changes []change.RowChange, q *query, whole, ok bool) {
	a, ok := f.guard.at(sp.from)
	if !ok {
		return nil, nil, false, false
	}
	b, ok := f.guard.at(sp.to)
	switch {
	case !ok:
		return nil, nil, false, false
	case a.q == b.q && b.q.point:
		return only(sp.changes(b.q.rel.ID), b.q.lead), b.q, false, true
	case a.q == b.q:
		return sp.changes(b.q.rel.ID), b.q, false, true
	}
	changes, ok = h.crossing(f.guard, a, b, sp, look)
	return changes, b.q, true, ok
}

// crossing returns what changes over sp for who sees at its beginning what a lets him see, and at its end what b does: net, ordered by key; Old and New are nil for a
// row that is not seen.
func (h *Hub) crossing(g *guard, a, b guarded, sp *span, look *int) (out []change.RowChange, ok bool) {
	rel := g.base.rel.ID
	before, after := reader{query: a.q}, reader{query: b.q}
	size := 0
	note := func(key []byte, was, is change.Row) {
		if was != nil && !before.match(was) {
			was = nil
		}
		if is != nil && !after.match(is) {
			is = nil
		}
		if was != nil || is != nil {
			out = append(out, change.RowChange{Key: key, Old: was, New: is})
			size += windowRowBytes + len(key) + len(is)
		}
	}
	changed := sp.changes(rel)
	for i := range changed {
		note(changed[i].Key, changed[i].Old, changed[i].New)
	}
	size = 0 // what follows is because of the sets
	snap := h.store.Snapshot(rel)
	epochs, ok := h.store.Since(sp.to)
	if !ok {
		return nil, false
	}
	undo := history(epochs).span(sp.to, snap.Seq()).changes(rel)
	stays := func(key []byte, row change.Row) {
		if before.match(row) != after.match(row) && len(only(changed, key)) == 0 {
			note(bytes.Clone(key), row, row)
		}
	}
	for _, q := range g.differing(a, b) {
		r := reader{query: q, look: look}
		r.scan(snap, nil, func(key []byte, row change.Row) bool {
			if len(only(undo, key)) == 0 {
				stays(key, row)
			}
			return size <= turnBytes
		})
		if *look < 0 || size > turnBytes {
			return nil, false
		}
	}
	for i := range undo {
		if c := &undo[i]; c.Old != nil {
			stays(c.Key, c.Old)
		}
	}
	slices.SortStableFunc(out, func(x, y change.RowChange) int { return bytes.Compare(x.Key, y.Key) })
	return slices.CompactFunc(out, func(x, y change.RowChange) bool { return bytes.Equal(x.Key, y.Key) }), true
}

// differing returns queries that together find every row on which a and b differ: rules are such that a value more in a set never hides a row, so the row has one of
// the values in which one of the sets differs, and what the rule demands beside holds for it with all values of both.
func (g *guard) differing(a, b guarded) (all []*query) {
	both := make([][]memberKey, len(g.sets))
	differ := make([][]memberKey, len(g.sets))
	for i := range g.sets {
		both[i], differ[i] = mergeMembers(a.sets[i], b.sets[i])
	}
	for i := range g.sets {
		if len(differ[i]) == 0 {
			continue
		}
		sets := slices.Clone(both)
		sets[i] = differ[i]
		q := g.with(sets)
		leads := leadsOf(q.rel, q.filter.Cond())
		if len(leads) == 0 || len(q.lead) > 0 {
			all = append(all, q)
			continue
		}
		for _, lead := range leads {
			one := *q
			one.lead, one.point = lead, len(q.rel.Key) == 1
			all = append(all, &one)
		}
	}
	return all
}

// mergeMembers returns the values that are in a or in b, and those that are in one of them only.
func mergeMembers(a, b []memberKey) (both, differ []memberKey) {
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].key < b[0].key:
			both, differ, a = append(both, a[0]), append(differ, a[0]), a[1:]
		case len(a) == 0 || b[0].key < a[0].key:
			both, differ, b = append(both, b[0]), append(differ, b[0]), b[1:]
		default:
			both, a, b = append(both, a[0]), a[1:], b[1:]
		}
	}
	return both, differ
}

// leadsOf returns what the keys of all rows begin with for which cond holds: each with one of these. None: nothing is known.
func leadsOf(rel *expr.Relation, cond *expr.Node) (leads [][]byte) {
	if len(rel.Key) == 0 || cond == nil {
		return nil
	}
	switch cond.Kind {
	case expr.KAnd:
		for _, n := range cond.Args {
			if some := leadsOf(rel, n); len(some) > 0 && (leads == nil || len(some) < len(leads)) {
				leads = some
			}
		}
		return leads
	case expr.KOr:
		for _, n := range cond.Args {
			some := leadsOf(rel, n)
			if len(some) == 0 {
				return nil
			}
			leads = append(leads, some...)
		}
	default:
		for _, p := range pathsOf(rel, cond) {
			if len(p.cols) != 1 || p.cols[0] != rel.Key[0] {
				return nil
			}
			leads = append(leads, p.values)
		}
	}
	slices.SortFunc(leads, bytes.Compare)
	return slices.CompactFunc(leads, bytes.Equal)
}
