package push

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/view"
	"laaster/internal/wire"
)

// Bounds of memberships.
const (
	mostMemberValues = 10_000   // of one set
	memberLogBytes   = 64 << 10 // of what is known of the past of one set
	memberBytes      = 64 << 20 // of all sets; beyond it new ones are told busy
	memberRowBytes   = 120      // of a value's, beside the value
	mostIdleMembers  = 4096     // sets that nobody holds and that follow on for whoever reads next
	turnRows         = 20_000   // rows that a flush looks at because sets have changed, all together; beyond it each connection does it for itself
	turnRowsAlone    = 200_000  // rows that are looked at for one connection; beyond it the subscription begins anew
	turnBytes        = 1 << 20  // of rows that come and go because a set has changed; beyond it the subscription begins anew
	keptGuarded      = 4        // conditions that a guard keeps
)

// membership is a set of values with which rules compare: those of one column in the rows of a relation for which a condition holds, such as the rooms
// of a subject. It follows the epochs, so that it knows the set of every position from floor on. Shared by all whose rules name it; safe for
// concurrent use.
type membership struct {
	key      string
	feed     *feed // in the index of the relation; nobody's rows
	column   int
	store    *view.Store
	followed *atomic.Uint64 // see Hub.followed
	total    *atomic.Int64  // bytes of all

	building sync.Mutex // held while the rows are read; taken before Hub.mu

	users  int                 // feeds and reads that hold it; guarded by Hub.mu, as is guards
	guards map[*guard]struct{} // of feeds

	mu struct { // taken inside Hub.mu, and nothing is taken inside it but the store's lock
		sync.Mutex
		reader reader
		built  bool
		at     uint64                  // values are those of this position, and of Hub.followed when that is later
		values map[string]*memberValue // by their keys
		log    []memberStep            // ascending
		floor  uint64                  // log has what changed after it
		lost   uint64                  // the last step at or before floor that changed the set, if one is known
		age    uint64                  // one more whenever the log begins earlier than it did
		logged int                     // bytes of log, about
		bytes  int                     // of everything, about
	}
}

// memberValue is a value of the set and how many rows have it.
type memberValue struct {
	value change.Value
	rows  int
}

// memberStep is what one epoch changed in the rows behind a set.
type memberStep struct {
	seq    uint64
	turned bool // the set is another one after it
	by     []memberChange
}

// memberChange is so many rows more, or less, that have a value.
type memberChange struct {
	key   string
	value change.Value
	rows  int
}

func (s *memberStep) bytes() int {
	n := 64
	for i := range s.by {
		n += memberRowBytes + len(s.by[i].key)
	}
	return n
}

// acquireMembersLocked returns the sets of q's rule, each of which needs a releaseMemberLocked.
func (h *Hub) acquireMembersLocked(q *query) []*membership {
	sets := make([]*membership, len(q.rule.Members))
	for i := range q.rule.Members {
		sets[i] = h.acquireMemberLocked(&q.rule.Members[i], q.over[i])
	}
	return sets
}

func (h *Hub) acquireMemberLocked(m *auth.Member, rel *expr.Relation) *membership {
	key := fmt.Sprintf("%d %d %s", rel.ID, m.Column, m.Key)
	s := h.mu.members[key]
	if s == nil {
		f, _ := expr.ParseFilter(rel, "") // of nothing: no error
		q := &query{sight: sight{rel: rel}, filter: f.And(m.Cond), rowWork: liveRowWork}
		q.lead, q.point = q.prefix()
		h.mu.lastFeed++
		s = &membership{key: key, column: m.Column, store: h.store, followed: &h.followed, total: &h.memberBytes, guards: map[*guard]struct{}{}}
		s.feed = &feed{id: h.mu.lastFeed, q: q, now: q, members: s}
		s.mu.reader.query = q
		h.mu.members[key] = s
		h.mu.feeds[rel.ID].members.add(s.feed)
	}
	if s.users == 0 {
		h.mu.idle = without(h.mu.idle, s)
	}
	s.users++
	return s
}

// releaseMembersLocked gives sets back. The last ones that nobody holds follow on for a while.
func (h *Hub) releaseMembersLocked(sets []*membership) {
	for _, s := range sets {
		if s.users--; s.users > 0 {
			continue
		}
		h.mu.idle = append(h.mu.idle, s)
		for len(h.mu.idle) > mostIdleMembers || len(h.mu.idle) > 0 && h.memberBytes.Load() > memberBytes/2 {
			oldest := h.mu.idle[0]
			h.mu.idle = slices.Delete(h.mu.idle, 0, 1)
			h.mu.feeds[oldest.feed.q.rel.ID].members.remove(oldest.feed)
			delete(h.mu.members, oldest.key)
			oldest.forget()
		}
	}
}

// buildMember reads the values of a set that has none, or says why it cannot. It must not be called with Hub.mu held.
func (h *Hub) buildMember(s *membership) *wire.Problem {
	s.building.Lock()
	defer s.building.Unlock()
	for range mostRestarts {
		if s.ready() {
			return nil
		}
		if h.memberBytes.Load() > memberBytes {
			return retryLater(wire.Busy, "the memory for membership rules is in use", 5*time.Second)
		}
		rel := s.feed.q.rel
		snap, r := h.store.Snapshot(rel.ID), reader{query: s.feed.q}
		values := map[string]*memberValue{}
		r.scan(snap, nil, func(_ []byte, row change.Row) bool {
			s.count(values, row, 1)
			return len(values) <= mostMemberValues
		})
		if len(values) > mostMemberValues {
			return tooManyMembers()
		}
		h.mu.Lock()
		s.install(snap, values)
		h.mu.Unlock()
	}
	if s.ready() {
		return nil
	}
	return retryLater(wire.Busy, "the rows that a rule compares with change faster than they can be read", 5*time.Second)
}

func tooManyMembers() *wire.Problem {
	return wire.NewProblem(wire.TooMany, fmt.Sprintf("the rule compares with more than %d values", mostMemberValues)).
		WithHint("a membership rule is for what one caller has, such as his rooms")
}

// count adds rows with row's value to values.
func (s *membership) count(values map[string]*memberValue, row change.Row, rows int) {
	rel := s.feed.q.rel
	v := rel.Layout.Get(row, s.column)
	if v.Null { // nothing is equal to it
		return
	}
	key := indexKey(nil, rel, s.column, v)
	have := values[string(key)]
	if have == nil {
		have = &memberValue{value: change.Value{N: v.N, B: slices.Clone(v.B)}}
		values[string(key)] = have
	}
	if have.rows += rows; have.rows == 0 {
		delete(values, string(key))
	}
}

// install makes values those of the set in snap, and brings them to the hub's position, unless the ring has lost what came between. The caller holds Hub.mu.
func (s *membership) install(snap *view.Snapshot, values map[string]*memberValue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetLocked()
	between, ok := s.store.Since(snap.Seq()) // of which the flushes have passed some: a set without values does not follow them
	if !ok {
		return
	}
	s.mu.built, s.mu.values, s.mu.lost = true, values, 0
	s.mu.at, s.mu.floor = snap.Seq(), snap.LastChange(s.feed.q.rel.ID) // its birth at least
	for key := range values {
		s.addLocked(memberRowBytes + len(key))
	}
	if !s.catchUpLocked(between) {
		return
	}
	if pos := s.followed.Load(); s.reachLocked(pos) {
		s.extendLocked(pos) // if it can
	}
}

func (s *membership) addLocked(bytes int) {
	s.mu.bytes += bytes
	s.total.Add(int64(bytes))
}

// forget makes the set one whose values are not known: what depends on it begins anew.
func (s *membership) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetLocked()
}

func (s *membership) forgetLocked() {
	s.mu.built, s.mu.values, s.mu.log, s.mu.logged = false, nil, nil, 0
	s.mu.age++
	s.addLocked(-s.mu.bytes)
}

func (s *membership) ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.built
}

// apply follows one epoch: changes has those that may concern the set. The caller holds Hub.mu.
func (s *membership) apply(seq uint64, changes []change.RowChange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.built && seq > s.mu.at {
		s.applyLocked(seq, changes)
	}
}

// stepLocked returns what changes do to the rows behind the set.
func (s *membership) stepLocked(seq uint64, changes []change.RowChange) memberStep {
	by := map[string]*memberValue{}
	for i := range changes {
		c := &changes[i]
		if c.Old != nil && s.mu.reader.match(c.Old) {
			s.count(by, c.Old, -1)
		}
		if c.New != nil && s.mu.reader.match(c.New) {
			s.count(by, c.New, 1)
		}
	}
	step := memberStep{seq: seq}
	for _, key := range slices.Sorted(maps.Keys(by)) {
		step.by = append(step.by, memberChange{key, by[key].value, by[key].rows})
	}
	return step
}

// addTo changes values by a step, or back, and reports whether the set has become another one. It is not sound when a value would have fewer rows than none: values were
// not those before the step.
func (s *memberStep) addTo(values map[string]*memberValue, sign int) (turned, sound bool) {
	sound = true
	for i := range s.by {
		c := &s.by[i]
		v := values[c.key]
		if v == nil {
			turned, v = true, &memberValue{value: c.value}
			values[c.key] = v
		}
		if v.rows += sign * c.rows; v.rows == 0 {
			turned = true
			delete(values, c.key)
		}
		sound = sound && v.rows >= 0
	}
	return turned, sound
}

func (s *membership) applyLocked(seq uint64, changes []change.RowChange) {
	s.mu.at = seq
	step := s.stepLocked(seq, changes)
	if len(step.by) == 0 {
		return
	}
	before := len(s.mu.values)
	var sound bool
	step.turned, sound = step.addTo(s.mu.values, 1)
	s.addLocked((len(s.mu.values) - before) * memberRowBytes)
	if len(s.mu.values) > mostMemberValues || !sound {
		s.forgetLocked()
		return
	}
	s.mu.log = append(s.mu.log, step)
	s.mu.logged += step.bytes()
	s.addLocked(step.bytes())
	for s.mu.logged > memberLogBytes && len(s.mu.log) > 1 {
		oldest := &s.mu.log[0]
		s.mu.logged -= oldest.bytes()
		s.addLocked(-oldest.bytes())
		if s.mu.floor = oldest.seq; oldest.turned {
			s.mu.lost = oldest.seq
		}
		s.mu.log = slices.Delete(s.mu.log, 0, 1)
	}
}

// reachLocked brings the set to at least to, out of the ring. It reports false when it has lost its values.
func (s *membership) reachLocked(to uint64) bool {
	if !s.mu.built {
		return false
	}
	s.mu.at = max(s.mu.at, s.followed.Load())
	if s.mu.at >= to {
		return true
	}
	epochs, ok := s.store.Since(s.mu.at)
	if !ok {
		s.forgetLocked()
		return false
	}
	return s.catchUpLocked(epochs) && s.mu.at >= to
}

// catchUpLocked follows epochs, all from at on. It reports false when the set has lost its values.
func (s *membership) catchUpLocked(epochs []*change.Epoch) bool {
	for _, e := range epochs {
		if s.applyLocked(e.Seq, changesOf(e, s.feed.q.rel.ID)); !s.mu.built {
			return false
		}
	}
	return true
}

// extendLocked has the set know its values from an earlier position on, as far as the ring reaches back.
func (s *membership) extendLocked(from uint64) bool {
	if from >= s.mu.floor {
		return true
	}
	epochs, ok := s.store.Since(from)
	if !ok || from < s.store.Birth(s.feed.q.rel.ID) {
		return false
	}
	values := s.copyLocked(s.mu.floor)
	var earlier []memberStep
	size := 0
	for _, e := range slices.Backward(epochs) {
		if e.Seq > s.mu.floor {
			continue
		}
		step := s.stepLocked(e.Seq, changesOf(e, s.feed.q.rel.ID))
		if len(step.by) == 0 {
			continue
		}
		var sound bool
		step.turned, sound = step.addTo(values, -1)
		earlier = append(earlier, step)
		if size += step.bytes(); size > memberLogBytes || !sound {
			return false
		}
	}
	slices.Reverse(earlier)
	s.mu.log = append(earlier, s.mu.log...)
	s.mu.logged += size
	s.addLocked(size)
	s.mu.floor, s.mu.lost = from, 0
	s.mu.age++
	return true
}

// copyLocked returns the values of a position at or after floor.
func (s *membership) copyLocked(seq uint64) map[string]*memberValue {
	values := make(map[string]*memberValue, len(s.mu.values))
	for key, v := range s.mu.values {
		one := *v
		values[key] = &one
	}
	for i := len(s.mu.log) - 1; i >= 0 && s.mu.log[i].seq > seq; i-- {
		s.mu.log[i].addTo(values, -1)
	}
	return values
}

// memberVersion tells apart what a set was at two positions.
type memberVersion struct{ age, seq uint64 }

// version returns which version of the set a position has. It is false when that is not known.
func (s *membership) version(seq uint64) (v memberVersion, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.reachLocked(seq) || seq < s.mu.floor {
		return v, false
	}
	return memberVersion{s.mu.age, s.turnLocked(seq)}, true
}

// turnLocked returns the last step up to seq that made the set another one.
func (s *membership) turnLocked(seq uint64) uint64 {
	log := s.mu.log
	for i := sort.Search(len(log), func(i int) bool { return log[i].seq > seq }) - 1; i >= 0; i-- {
		if log[i].turned {
			return log[i].seq
		}
	}
	return s.mu.lost
}

// turned reports whether the set is another one at any position after from up to to, as far as is known: else it may be.
func (s *membership) turned(from, to uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.reachLocked(to) || from < s.mu.floor || s.turnLocked(to) > from
}

// valuesAt returns the values at a position, sorted by their keys.
func (s *membership) valuesAt(seq uint64) ([]memberKey, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.reachLocked(seq) || seq < s.mu.floor {
		return nil, false
	}
	values := s.mu.values
	if n := len(s.mu.log); n > 0 && s.mu.log[n-1].seq > seq {
		values = s.copyLocked(seq)
	}
	list := make([]memberKey, 0, len(values))
	for key, v := range values {
		list = append(list, memberKey{key, v.value})
	}
	slices.SortFunc(list, func(a, b memberKey) int {
		switch {
		case a.key < b.key:
			return -1
		case a.key > b.key:
			return 1
		}
		return 0
	})
	return list, true
}

// memberKey is a value of a set.
type memberKey struct {
	key   string
	value change.Value
}

// reachBack has the set know its values from a position on, and reports whether it can.
func (s *membership) reachBack(seq uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reachLocked(seq) && s.extendLocked(seq)
}

// oldest returns the first position whose values are known.
func (s *membership) oldest() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.floor
}

// MemberValues returns the values of a set as they are now, at the newest position of the store.
func (h *Hub) MemberValues(m *auth.Member) ([]change.Value, *wire.Problem) {
	rel := h.era.Load().byName[m.Relation]
	if rel == nil { // the rule was made for another definition
		return nil, retryLater(wire.Busy, "the app has just changed", 100*time.Millisecond)
	}
	h.mu.Lock()
	s := h.acquireMemberLocked(m, rel)
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.releaseMembersLocked([]*membership{s})
	}()
	for range mostRestarts {
		if p := h.buildMember(s); p != nil {
			return nil, p
		}
		head, _ := h.store.Head()
		if list, ok := s.valuesAt(head); ok {
			values := make([]change.Value, len(list))
			for i := range list {
				values[i] = list[i].value
			}
			return values, nil
		}
	}
	return nil, retryLater(wire.Busy, "the rows that a rule compares with change faster than they can be read", time.Second)
}
