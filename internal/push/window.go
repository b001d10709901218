package push

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/view"
	"laaster/internal/wire"
)

// Bounds of a window.
const (
	mostWindowRows   = 1000   // limit
	mostWindowSkips  = 10_000 // offset
	leastReserve     = 64     // rows kept behind a window, so that few of those that leave make it read the view again
	windowLogBytes   = 256 << 10
	windowRowBytes   = 120 // of a row's, beside its rank and the row itself
	windowEpochBytes = 64
	windowBytes      = 1 << 10 // of a window's without rows
	refillRows       = 100_000 // rows of views that a flush looks at for windows whose reserve is used up, all together; the others begin anew
)

// window is the first rows of a result: `order`, `limit` and `offset` of a live query. It holds these rows and a reserve behind them, and
// follows the epochs one by one, so that it knows what each of them changed: which rows entered, changed and left. Those changes
// are to a window's feed what the epochs' are to another's. Safe for concurrent use.
//
// Its rows are read from the view when somebody first needs them, and again when more have left than it had in reserve.
type window struct {
	feed        *feed
	q           *query
	order       []app.OrderBy
	skip, limit int
	store       *view.Store
	total       *atomic.Int64 // bytes of all windows

	building sync.Mutex // held while the rows are read by a subscriber; taken before Hub.mu

	mu struct { // taken inside Hub.mu, and nothing is taken inside it but the locks of guards and of the store
		sync.Mutex
		reader reader // of what the feed asks at the position of the rows
		built  bool
		at     uint64       // rows are those of this position, and of the hub's when that is later
		rows   []*windowRow // the first of the result, ascending by rank: those skipped, those of the window, the reserve
		whole  bool         // rows are the whole result
		log    []windowEpoch
		floor  uint64 // log has what changed after it
		logged int    // bytes of log, about
		bytes  int    // of everything, about

		touched bool         // the epoch being applied has changed rows
		before  []*windowRow // with touched: the window before it
		freed   bool         // nobody follows it any more: it has no rows again
		rank    []byte       // scratch
	}
}

// windowRow is one row of a result. It never changes.
type windowRow struct {
	rank []byte // order-preserving: the columns of the order, then the key
	key  []byte // the end of rank
	row  change.Row
}

// windowEpoch is what one epoch changed in a window: net, ordered by key; Old and New are nil for a row outside of it.
type windowEpoch struct {
	seq     uint64
	changes []change.RowChange
}

// windowed checks the limit and the offset of a live query.
func (q *query) windowed() *wire.Problem {
	f := q.filter
	switch {
	case f.Limit < 0 && f.Offset == 0:
		return nil
	case f.Limit < 0:
		return wire.NewProblem(wire.BadFilter, "live rows with an offset need a limit").WithField("limit", fmt.Sprintf("a number up to %d", mostWindowRows))
	case f.Limit > mostWindowRows:
		return wire.NewProblem(wire.TooMany, fmt.Sprintf("a live window has at most %d rows", mostWindowRows)).
			WithField("limit", "ask for fewer, or for all rows without limit")
	case f.Offset > mostWindowSkips:
		return wire.NewProblem(wire.TooMany, fmt.Sprintf("a live window begins within the first %d rows", mostWindowSkips)).
			WithField("offset", "narrow the rows with a filter: rows after the last one seen, in place of a number of rows")
	}
	q.window = true
	return nil
}

func newWindow(h *Hub, f *feed) *window {
	q := f.q
	w := &window{feed: f, q: q, order: q.order(), skip: int(q.filter.Offset), limit: int(q.filter.Limit), store: h.store, total: &h.windowed}
	w.mu.reader.query = q
	w.mu.bytes = windowBytes
	w.total.Add(windowBytes)
	return w
}

// most is how many rows are kept.
func (w *window) most() int { return w.skip + w.limit + max(w.skip+w.limit, leastReserve) }

// appendRank appends where a row belongs.
func (w *window) appendRank(dst []byte, key []byte, row change.Row) []byte {
	for _, by := range w.order {
		dst = change.AppendKey(dst, w.q.rel.Layout.Type(by.Column), w.q.rel.Layout.Get(row, by.Column), by.Desc, by.NullsFirst)
	}
	return append(dst, key...)
}

func newWindowRow(rank []byte, keyLen int, row change.Row) *windowRow {
	r := &windowRow{rank: bytes.Clone(rank), row: bytes.Clone(row)}
	r.key = r.rank[len(rank)-keyLen : len(rank) : len(rank)]
	return r
}

func (r *windowRow) bytes() int { return len(r.rank) + len(r.row) + windowRowBytes }

// windowRead bounds what is read for a window.
type windowRead struct {
	look  *int  // rows of the view that may be looked at, less those that were; nil: any number
	bytes int64 // that the rows may take
	over  bool  // it was more than one of these
}

// read returns the first rows of the result of q in snap, as they were before undo, which is ordered by key; whole says that there are no more. When bound.over
// is set then, the rows are not all.
func (w *window) read(q *query, snap *view.Snapshot, undo []change.RowChange, bound *windowRead) (rows []*windowRow, whole bool) {
	r, most := reader{query: q, look: bound.look}, w.most()
	var scratch []byte
	whole = true
	held := 0
	take := func(key []byte, row change.Row) {
		scratch = w.appendRank(scratch[:0], key, row)
		if len(rows) >= 2*most {
			rows, whole = firstRows(rows, most), false
			held = bytesOf(rows)
		}
		if !whole && bytes.Compare(scratch, rows[most-1].rank) > 0 {
			return
		}
		added := newWindowRow(scratch, len(key), row)
		rows = append(rows, added)
		if held += added.bytes(); int64(held) > bound.bytes {
			bound.over = true
		}
	}
	inOrder, after := inKeyOrder(w.q.rel, w.order), undo
	r.scan(snap, nil, func(key []byte, row change.Row) bool {
		for len(after) > 0 && bytes.Compare(after[0].Key, key) < 0 {
			after = after[1:]
		}
		if len(after) > 0 && bytes.Equal(after[0].Key, key) {
			return true
		}
		if inOrder && len(rows) > most {
			whole = false
			return false
		}
		take(key, row)
		return !bound.over
	})
	if bound.look != nil && *bound.look < 0 {
		bound.over = true
	}
	for i := range undo {
		if c := &undo[i]; c.Old != nil && r.match(c.Old) {
			take(c.Key, c.Old)
		}
	}
	if len(rows) > most {
		whole = false
	}
	return firstRows(rows, most), whole
}

func bytesOf(rows []*windowRow) (n int) {
	for _, r := range rows {
		n += r.bytes()
	}
	return n
}

func firstRows(rows []*windowRow, most int) []*windowRow {
	slices.SortFunc(rows, func(a, b *windowRow) int { return bytes.Compare(a.rank, b.rank) })
	if len(rows) > most {
		clear(rows[most:])
		rows = rows[:most]
	}
	return rows
}

// build reads the rows of a window that has none, or says why it cannot: the view moves on faster than it can be read, the memory for windows is in use,
// nobody follows it any more. It must not be called with Hub.mu held.
func (h *Hub) build(w *window) *wire.Problem {
	w.building.Lock()
	defer w.building.Unlock()
	for range mostRestarts {
		if w.ready() {
			return nil
		}
		bound := windowRead{bytes: int64(h.opt.WindowBytes) - h.windowed.Load()}
		snap := h.store.Snapshot(w.q.rel.ID)
		q, ok := w.feed.queryAt(snap.Seq())
		if !ok { // the sets of its rule were lost meanwhile
			if p := h.buildGuard(w.feed.guard); p != nil {
				return p
			}
			continue
		}
		rows, whole := w.read(q, snap, nil, &bound)
		if bound.over {
			return windowsFull()
		}
		h.mu.Lock()
		there := w.install(q, snap, rows, whole, h.mu.pos)
		h.mu.Unlock()
		if !there {
			return retryLater(wire.Busy, "the subscription has ended", time.Second)
		}
		if h.windowed.Load() > int64(h.opt.WindowBytes) { // others were built meanwhile
			w.forget()
			return windowsFull()
		}
	}
	if w.ready() {
		return nil
	}
	return tooFast()
}

// tooFast refuses a window that cannot be read.
func tooFast() *wire.Problem {
	return retryLater(wire.Busy, "the view changes faster than its first rows can be read", 5*time.Second)
}

// windowsFull refuses a window for which there is no memory.
func windowsFull() *wire.Problem {
	return retryLater(wire.Busy, "the memory for live windows is in use", 5*time.Second).
		WithHint("subscribe without limit, or to a view with ORDER BY … LIMIT")
}

func (w *window) ready() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.built
}

// install makes rows those of the window, as of snap, and brings them to pos, the hub's position. It reports false when the window was freed.
func (w *window) install(q *query, snap *view.Snapshot, rows []*windowRow, whole bool, pos uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.freed {
		return false
	}
	w.forgetLocked()
	w.mu.rows, w.mu.whole, w.mu.built, w.mu.reader.query = rows, whole, true, q
	w.mu.at, w.mu.floor = snap.Seq(), snap.LastChange(w.q.rel.ID)
	w.addLocked(bytesOf(rows))
	w.reachLocked(pos, 0)
	return true
}

// forget makes the window one that has no rows: who follows it begins anew.
func (w *window) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forgetLocked()
}

func (w *window) forgetLocked() {
	w.mu.built, w.mu.rows, w.mu.log, w.mu.logged = false, nil, nil, 0
	w.addLocked(windowBytes - w.mu.bytes)
}

func (w *window) addLocked(bytes int) {
	w.mu.bytes += bytes
	w.total.Add(int64(bytes))
}

// free takes the window out of the total, for good.
func (w *window) free() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forgetLocked()
	w.addLocked(-w.mu.bytes)
	w.mu.freed = true
}

// reachLocked brings the window to at least to, out of the ring. pos is the hub's position, or one that was. It reports false when the window
// has lost its rows.
func (w *window) reachLocked(to, pos uint64) bool {
	if !w.mu.built {
		return false
	}
	w.mu.at = max(w.mu.at, pos)
	if w.mu.at >= to {
		return true
	}
	epochs, ok := w.store.Since(w.mu.at)
	if !ok {
		w.forgetLocked()
		return false
	}
	look := refillRows
	for _, e := range epochs {
		if changes := changesOf(e, w.q.rel.ID); !w.applyLocked(e.Seq, changes, &look) {
			return false
		}
	}
	return true
}

// turn has the window begin anew when what its feed asks at pos, the hub's position, may be another thing than when its rows were read, and reports whether that is
// so.
func (w *window) turn(pos uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.mu.built || pos > w.mu.at && w.feed.guard.turned(w.mu.at, pos) {
		w.forgetLocked()
		return true
	}
	return false
}

// changesOf returns the changes of one relation.
func changesOf(e *change.Epoch, rel int) []change.RowChange {
	i := sort.Search(len(e.Deltas), func(i int) bool { return e.Deltas[i].Relation >= rel })
	if i < len(e.Deltas) && e.Deltas[i].Relation == rel {
		return e.Deltas[i].Changes
	}
	return nil
}

// apply follows one epoch: changes has those that may concern the window. look is how many rows of views may still be looked at, see refillRows.
func (w *window) apply(seq uint64, changes []change.RowChange, look *int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.built && seq > w.mu.at {
		w.applyLocked(seq, changes, look)
	}
}

// applyLocked reports false when the window has lost its rows.
func (w *window) applyLocked(seq uint64, changes []change.RowChange, look *int) bool {
	if w.feed.guard != nil && w.feed.guard.turned(w.mu.at, seq) {
		w.forgetLocked()
		return false
	}
	w.mu.at, w.mu.touched = seq, false
	for i := range changes {
		c := &changes[i]
		if c.Old != nil && w.mu.reader.match(c.Old) {
			w.dropLocked(c.Key, c.Old)
		}
		if c.New != nil && w.mu.reader.match(c.New) {
			w.putLocked(c.Key, c.New)
		}
	}
	if !w.mu.touched {
		return true
	}
	if len(w.mu.rows) < w.skip+w.limit && !w.mu.whole && !w.refillLocked(seq, look) {
		w.forgetLocked()
		return false
	}
	if most := w.most(); len(w.mu.rows) > most+leastReserve {
		for _, r := range w.mu.rows[most:] {
			w.addLocked(-r.bytes())
		}
		clear(w.mu.rows[most:])
		w.mu.rows, w.mu.whole = w.mu.rows[:most], false
	}
	w.noteLocked(windowEpoch{seq, differences(w.mu.before, w.visibleLocked())})
	clear(w.mu.before)
	return true
}

// placeLocked returns where the row with this key belongs, and whether it is there.
func (w *window) placeLocked(key []byte, row change.Row) (int, bool) {
	w.mu.rank = w.appendRank(w.mu.rank[:0], key, row)
	return slices.BinarySearchFunc(w.mu.rows, w.mu.rank, func(r *windowRow, rank []byte) int { return bytes.Compare(r.rank, rank) })
}

// touchLocked is called before the rows change.
func (w *window) touchLocked() {
	if !w.mu.touched {
		w.mu.touched, w.mu.before = true, append(w.mu.before[:0], w.visibleLocked()...)
	}
}

func (w *window) dropLocked(key []byte, row change.Row) {
	if i, there := w.placeLocked(key, row); there {
		w.touchLocked()
		w.addLocked(-w.mu.rows[i].bytes())
		w.mu.rows = slices.Delete(w.mu.rows, i, i+1)
	}
}

func (w *window) putLocked(key []byte, row change.Row) {
	i, there := w.placeLocked(key, row)
	if there || i == len(w.mu.rows) && !w.mu.whole {
		return // there: a bug of the view's; else it lies beyond what is kept
	}
	w.touchLocked()
	r := newWindowRow(w.mu.rank, len(key), row)
	w.addLocked(r.bytes())
	w.mu.rows = slices.Insert(w.mu.rows, i, r)
}

// visibleLocked returns the rows of the window.
func (w *window) visibleLocked() []*windowRow {
	n := len(w.mu.rows)
	return w.mu.rows[min(w.skip, n):min(w.skip+w.limit, n)]
}

// refillLocked reads the rows anew, as they were at seq. It reports false when the ring does not reach back to it, or more rows than look would have to be
// looked at while others wait for the lock.
func (w *window) refillLocked(seq uint64, look *int) bool {
	if *look <= 0 {
		return false
	}
	snap := w.store.Snapshot(w.q.rel.ID)
	epochs, ok := w.store.Since(seq)
	if !ok {
		return false
	}
	bound := windowRead{look: look, bytes: math.MaxInt64}
	rows, whole := w.read(w.mu.reader.query, snap, history(epochs).span(seq, snap.Seq()).changes(w.q.rel.ID), &bound)
	if bound.over {
		return false
	}
	w.addLocked(bytesOf(rows) - bytesOf(w.mu.rows))
	w.mu.rows, w.mu.whole = rows, whole
	return true
}

// noteLocked adds an epoch to the log and drops the oldest beyond its bound.
func (w *window) noteLocked(e windowEpoch) {
	if len(e.changes) == 0 {
		return
	}
	w.mu.log = append(w.mu.log, e)
	w.addLocked(e.bytes())
	w.mu.logged += e.bytes()
	n := 0
	for ; w.mu.logged > windowLogBytes && n < len(w.mu.log)-1; n++ {
		freed := w.mu.log[n].bytes()
		w.mu.floor = w.mu.log[n].seq
		w.mu.logged -= freed
		w.addLocked(-freed)
	}
	if n > 0 {
		w.mu.log = append(make([]windowEpoch, 0, len(w.mu.log)-n+16), w.mu.log[n:]...)
	}
}

func (e *windowEpoch) bytes() int {
	n := windowEpochBytes
	for i := range e.changes {
		c := &e.changes[i]
		n += windowRowBytes + len(c.Key) + len(c.Old) + len(c.New)
	}
	return n
}

// differences returns what makes before into after; both are ascending by rank.
func differences(before, after []*windowRow) []change.RowChange {
	var left, entered []*windowRow
	for len(before) > 0 && len(after) > 0 {
		a, b := before[0], after[0]
		if a == b {
			before, after = before[1:], after[1:]
			continue
		}
		c := bytes.Compare(a.rank, b.rank)
		if c <= 0 {
			left, before = append(left, a), before[1:]
		}
		if c >= 0 {
			entered, after = append(entered, b), after[1:]
		}
	}
	left, entered = append(left, before...), append(entered, after...)
	byKey := func(a, b *windowRow) int { return bytes.Compare(a.key, b.key) }
	slices.SortFunc(left, byKey)
	slices.SortFunc(entered, byKey)
	var out []change.RowChange
	for len(left) > 0 || len(entered) > 0 {
		switch {
		case len(entered) == 0 || len(left) > 0 && byKey(left[0], entered[0]) < 0:
			out, left = append(out, change.RowChange{Key: left[0].key, Old: left[0].row}), left[1:]
		case len(left) == 0 || byKey(left[0], entered[0]) > 0:
			out, entered = append(out, change.RowChange{Key: entered[0].key, New: entered[0].row}), entered[1:]
		default:
			if !bytes.Equal(left[0].row, entered[0].row) {
				out = append(out, change.RowChange{Key: entered[0].key, Old: left[0].row, New: entered[0].row})
			}
			left, entered = left[1:], entered[1:]
		}
	}
	return out
}

// between returns the net changes of the window after from up to to, ordered by key, or false when it does not know them. pos is the hub's
// position, or one that was.
func (w *window) between(from, to, pos uint64) ([]change.RowChange, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.reachLocked(to, pos) || from < w.mu.floor {
		return nil, false
	}
	return w.netLocked(from, to), true
}

func (w *window) netLocked(from, to uint64) []change.RowChange {
	log := w.mu.log
	start := sort.Search(len(log), func(i int) bool { return log[i].seq > from })
	end := sort.Search(len(log), func(i int) bool { return log[i].seq > to })
	if start >= end {
		return nil
	}
	runs := make([][]change.RowChange, 0, end-start)
	for _, e := range log[start:end] {
		runs = append(runs, e.changes)
	}
	return mergeAll(runs)
}

// eachOf calls fn for rows, from the one behind after, which is what fn's page said, until fn returns false.
func eachOf(rows []*windowRow, after []byte, fn func(key []byte, row change.Row) bool) {
	if len(after) > 0 {
		last := after[:len(after)-1] // as in Snapshot.Ascend, a zero byte says behind
		rows = rows[slices.IndexFunc(rows, func(r *windowRow) bool { return bytes.Equal(r.key, last) })+1:]
	}
	for _, r := range rows {
		if !fn(r.key, r.row) {
			return
		}
	}
}

// oldest returns the first position of which the window knows the rows.
func (w *window) oldest() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.floor
}

// goesOn reports whether a client that has the rows of position seq can be told what changed since.
func (w *window) goesOn(seq, pos uint64) bool {
	_, ok := w.between(seq, seq, pos)
	return ok
}

// rowsAt returns the rows as they were at a position, in order, or false when the window does not know them.
func (w *window) rowsAt(seq, pos uint64) ([]*windowRow, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.reachLocked(seq, pos) || seq < w.mu.floor {
		return nil, false
	}
	rows := slices.Clone(w.visibleLocked())
	undo := w.netLocked(seq, w.mu.at)
	if len(undo) == 0 {
		return rows, true
	}
	rows = slices.DeleteFunc(rows, func(r *windowRow) bool { return len(only(undo, r.key)) > 0 })
	for i := range undo {
		if c := &undo[i]; c.Old != nil {
			w.mu.rank = w.appendRank(w.mu.rank[:0], c.Key, c.Old)
			rows = append(rows, newWindowRow(w.mu.rank, len(c.Key), c.Old))
		}
	}
	return firstRows(rows, len(rows)), true
}
