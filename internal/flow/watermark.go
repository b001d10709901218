package flow

import (
	"encoding/binary"
	"fmt"
	"slices"

	"laaster/internal/change"
)

// watermark is how far the event time of one append-only table has come: rows before its mark are late. It is the largest event time so
// far, less the lateness that the table allows, and it only grows. A time ahead of the log's own counts as at most a minute ahead, so
// that one wrong clock does not make everybody else late.
//
// A table without rows for idle is quiet. When its last rows were live (their time was about the log's) its mark then moves on with the
// log's time; else it stands still, and holds back nobody who reads other tables too.
type watermark struct {
	time     instant
	lateness int64
	idle     int64
	max      int64  // the largest event time; minTime: none
	mark     int64  // rows before it are late; minTime: none is
	before   int64  // the mark when the stamp of the batch at hand began, rows of that stamp apart
	last     int64  // stamp of the last row, or of the first batch
	quiet    bool   // as of when the stamp began
	rows     uint64 // late ones so far
	late     []behind
	saved    savedMark
}

// savedMark is a watermark as it was before an entry that may be taken back.
type savedMark struct {
	max, mark, last int64
	rows            uint64
	late            int
}

const (
	aheadUs = 60 * 1000 * 1000 // how far a row's time may be ahead of the log's
	liveUs  = 60 * 1000 * 1000 // how far it may be behind and still be live
	quietUs = 10 * 1000 * 1000 // the least idle span
)

// behind is a row of a table that was behind the watermark when it arrived.
type behind struct {
	index  int    // in the table's deltas of the batch
	mark   int64  // the watermark then
	number uint64 // of the late row in its table, counted from 1
}

func newWatermark(l *change.Layout, col int, lateness, idle int64) *watermark {
	if idle <= 0 {
		idle = max(lateness, quietUs)
	}
	return &watermark{time: instantOf(l, col), lateness: lateness, idle: idle, max: minTime, mark: minTime, before: minTime, last: minTime}
}

// begin is called once per stamp, before its first batch.
func (w *watermark) begin(stamp int64) {
	if w.last == minTime {
		w.last = stamp
	}
	w.quiet = stamp-w.last >= w.idle
	w.mark = w.at(stamp)
	w.before = w.mark
}

// live reports whether the last rows had about the log's time.
func (w *watermark) live() bool { return w.max != minTime && w.max >= w.last-liveUs }

// at returns the mark at a stamp that is not before the last one when no row comes until then.
func (w *watermark) at(stamp int64) int64 {
	if stamp-w.last >= w.idle && w.live() {
		return max(w.mark, stamp-w.idle-w.lateness)
	}
	return w.mark
}

// arrive takes a row that will be delta index of the batch.
func (w *watermark) arrive(row change.Row, index int, stamp int64) {
	t, ok := w.time.get(row)
	if !ok {
		return
	}
	w.last = stamp
	if t < w.mark { // it may be the newest all the same: the mark of a quiet table went on without it
		w.rows++
		w.late = append(w.late, behind{index, w.mark, w.rows})
	}
	if t > w.max && t != never { // infinity is not when anything was
		w.max = max(w.max, min(t, stamp+aheadUs))
		w.mark = max(w.mark, w.max-w.lateness)
	}
}

// save and restore take back what an entry that is refused as a whole did.
func (w *watermark) save() {
	w.saved = savedMark{w.max, w.mark, w.last, w.rows, len(w.late)}
}

func (w *watermark) restore() {
	s := &w.saved
	w.max, w.mark, w.last, w.rows, w.late = s.max, s.mark, s.last, s.rows, w.late[:s.late]
}

func (w *watermark) state(k *keeper) {
	for _, n := range []*int64{&w.max, &w.mark, &w.before, &w.last} {
		k.i64(n)
	}
	k.flag(&w.quiet)
	k.u64(&w.rows)
}

// together is the watermark of several tables: the least of theirs, quiet ones apart. It only grows: what a quiet table sends later than
// the others went on without it does not set it back.
type together struct {
	tables []int // catalog ids
	of     []*watermark
	before int64 // when the stamp began
	now    int64
}

// at returns the mark at a stamp as far as the tables alone decide. Who is quiet is decided when a stamp begins, so that within one stamp
// the mark grows from row to row, wherever batches are cut.
func (g *together) at(stamp int64, quiet func(w *watermark) bool) int64 {
	busy, moving, all := int64(never), int64(never), int64(never)
	for _, w := range g.of {
		if w == nil {
			return minTime
		}
		m := w.at(stamp)
		all = min(all, m)
		switch {
		case !quiet(w):
			busy = min(busy, m)
		case w.live():
			moving = min(moving, m)
		}
	}
	switch {
	case busy != never:
		return busy
	case moving != never:
		return moving
	}
	return all
}

func (g *together) begin(stamp int64) {
	g.now = max(g.now, g.at(stamp, func(w *watermark) bool { return w.quiet }))
	g.before = g.now
}

// marks are the watermarks of a program.
type marks struct {
	prog   *Program
	of     []*watermark // by catalog id; nil: it has no event time
	groups []*together
}

// newMarks finds the watermarks that the program's tables have and the groups that its plans ask for.
func newMarks(p *Program, tables []*tableState) *marks {
	m := &marks{prog: p}
	for _, r := range p.Relations {
		if r.Table != nil {
			m.of = append(m.of, make([]*watermark, max(0, int(r.Table.Catalog)+1-len(m.of)))...)
		}
	}
	for _, t := range tables {
		m.of[t.rules.Catalog] = t.wm
	}
	for _, v := range p.Views {
		m.read(v.Root)
	}
	return m
}

// read takes note of the watermarks that a plan needs together.
func (m *marks) read(p Plan) {
	switch n := p.(type) {
	case *Gate:
		m.group(n.Tables)
	case *Join:
		for _, f := range []*Free{n.FreeL, n.FreeR} {
			if f != nil {
				m.group(f.Tables)
			}
		}
	case *Aggregate:
		m.bound(n.Closes)
	case *TopN:
		m.bound(n.Closes)
	case *Over:
		m.bound(n.Closes)
	}
	for _, in := range p.Inputs() {
		m.read(in)
	}
}

func (m *marks) bound(b *Bound) {
	if b != nil {
		m.group(b.Tables)
	}
}

func (m *marks) group(relations []int) {
	tables := m.prog.ids(relations)
	if len(tables) < 2 || m.find(tables) != nil {
		return
	}
	g := &together{tables: tables, before: minTime, now: minTime}
	for _, t := range tables {
		g.of = append(g.of, m.of[t])
	}
	m.groups = append(m.groups, g)
}

func (m *marks) find(tables []int) *together {
	for _, g := range m.groups {
		if slices.Equal(g.tables, tables) {
			return g
		}
	}
	return nil
}

// begin is called once per stamp, before its first batch.
func (m *marks) begin(stamp int64) {
	for _, w := range m.of {
		if w != nil {
			w.begin(stamp)
		}
	}
	for _, g := range m.groups {
		g.begin(stamp)
	}
}

// settle is called once per batch, behind its last row.
func (m *marks) settle(stamp int64) {
	for _, g := range m.groups {
		g.now = max(g.now, g.at(stamp, func(w *watermark) bool { return w.quiet }))
	}
}

// end forgets the batch.
func (m *marks) end() {
	for _, w := range m.of {
		if w != nil {
			w.late = w.late[:0]
		}
	}
}

// state has the groups; the tables have their own marks.
func (m *marks) state(k *keeper) {
	if n := k.length(len(m.groups)); n != len(m.groups) {
		k.fail(fmt.Errorf("%d combined watermarks, the program has %d", n, len(m.groups)))
		return
	}
	for _, g := range m.groups {
		was := slices.Clone(g.tables)
		if g.state(k); !slices.Equal(was, g.tables) {
			k.fail(fmt.Errorf("a watermark of tables %v, the program has one of %v", g.tables, was))
			return
		}
	}
}

func (g *together) state(k *keeper) {
	n := k.length(len(g.tables))
	if k.loading {
		g.tables = make([]int, n)
	}
	for i := range g.tables {
		k.num(&g.tables[i])
	}
	k.i64(&g.before)
	k.i64(&g.now)
}

// fingerprint appends what the watermarks are.
func (m *marks) fingerprint(b []byte) []byte {
	for _, w := range m.of {
		if w != nil {
			for _, n := range [...]int64{w.max, w.mark, w.last, int64(w.rows)} {
				b = binary.LittleEndian.AppendUint64(b, uint64(n))
			}
		}
	}
	for _, g := range m.groups {
		b = binary.LittleEndian.AppendUint64(b, uint64(g.now))
	}
	return b
}

// mark returns the watermark of tables together, in microseconds, as of when the batch's stamp began: math.MinInt64 as long as there is none.
// Rows of that stamp come after it, so that whoever closes and frees by it does so wherever batches are cut.
//
// A row that is behind the mark of its one table was diverted, or is a removal that must not change what is closed. With several tables a
// quiet one may come back with rows that are behind the mark of all and yet not late for their own: who goes by that mark closes first, and
// then leaves out whatever is closed.
func (x *exec) mark(tables []int) int64 {
	switch {
	case x.marks == nil || len(tables) == 0:
		return minTime
	case len(tables) == 1:
		return x.markBefore(tables[0])
	}
	if g := x.marks.find(tables); g != nil {
		return g.before
	}
	return minTime
}

// latest is as mark, but as of the batch's last row: for what may change again.
func (x *exec) latest(tables []int) int64 {
	switch {
	case x.marks == nil || len(tables) == 0:
		return minTime
	case len(tables) == 1:
		if w := x.marks.of[tables[0]]; w != nil {
			return w.mark
		}
		return minTime
	}
	if g := x.marks.find(tables); g != nil {
		return g.now
	}
	return minTime
}

// least is as mark, but counts quiet tables too: no row behind it comes.
func (x *exec) least(tables []int) int64 {
	m := int64(never)
	for _, t := range tables {
		m = min(m, x.markBefore(t))
	}
	if m == never {
		return minTime
	}
	return m
}

// markBefore is the watermark of one table when the batch's stamp began.
func (x *exec) markBefore(table int) int64 {
	if x.marks == nil || x.marks.of[table] == nil {
		return minTime
	}
	return x.marks.of[table].before
}

// late returns which of the batch's deltas of a table were behind its watermark when they arrived, ascending by index.
func (x *exec) late(table int) []behind {
	if x.marks == nil || x.marks.of[table] == nil {
		return nil
	}
	return x.marks.of[table].late
}

// onTime lets the rows of a table through that were not late when they arrived.
type onTime struct {
	table int // catalog id
	out   []delta
}

func (o *onTime) apply(x *exec, in []delta) []delta {
	late := x.late(o.table)
	if len(late) == 0 && (len(in) == 0 || in[0].w > 0) { // what leaves by itself comes first
		return in
	}
	o.out = o.out[:0]
	w := x.marks.of[o.table]
	for i := range in {
		d := &in[i]
		if len(late) > 0 && late[0].index == i {
			x.divert(o.table, d.row, late[0])
			late = late[1:]
			continue
		}
		if d.w < 0 && w != nil {
			if t, ok := w.time.get(d.row); ok && t < w.before {
				continue // it was diverted, or it is closed: neither changes any more
			}
		}
		o.out = append(o.out, *d)
	}
	return o.out
}

func (o *onTime) bytes() int   { return 0 }
func (*onTime) state(*keeper)  {}
func (o *onTime) name() string { return "on time" }
