package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"

	"laaster/app"
	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/kit/run"
	"laaster/internal/observe"
	"laaster/internal/wire"
)

// maxRows bounds the rows of one request, so that the list of refusals is bounded.
const maxRows = 100_000

// mostTold is how many refused rows of a request are told in words; of others only the code is.
const mostTold = 1000

// maxKey bounds an idempotency key, in bytes.
const maxKey = 255

// mostGrowth is how many times larger than its body the rows of a request may be, beyond the first MiB of them.
const mostGrowth = 128

// encodeTime bounds how long one request may keep a processor busy: a few bytes can be a number of many digits.
const encodeTime = 10 * time.Second

// Limits bounds what one request may hold.
type Limits struct {
	Row          int           // bytes of one encoded row; larger: too_large
	Body         int           // bytes of one request body; larger: too_large
	Inflated     int           // bytes of one that comes as gzip, inflated; larger: too_large. 0: compressed bodies are refused
	DedupeMemory int           // bytes of remembered ids; at it: busy for writes that would add one
	Requests     int           // bytes of all requests being read, checked or answered; full: busy
	DedupeWindow time.Duration // how long ids are remembered; 0 is 10 minutes
}

// Options is what a Door is made of.
type Options struct {
	Tables  []*expr.Relation // of the running app; views among them are skipped
	Rules   *auth.Rules
	Writer  *Writer
	Clock   run.Clock
	Metrics *observe.Metrics
	Limiter Limiter // nil: there are no rates
	Limits  Limits
	Ack     string // what an answer promises: durable, buffered or memory
	// Position returns the text of a position of this shard.
	Position func(seq uint64) string
	// Applied returns the sequence that every view has reached.
	Applied func() uint64
	// Members returns the members of a set that a rule names, as the views have them. Nil: such rules are not supported.
	Members func(m *auth.Member) ([]change.Value, *wire.Problem)
	// Refused is told of each request of which something was refused for want of a right. Nil: nobody is told.
	Refused func(who auth.Principal, table string)
	// Remembered returns the bytes that the engine holds for ids and idempotency keys.
	Remembered func() int
}

// Door is the write half of the public surface, the same for every transport. Safe for concurrent use.
type Door struct {
	opt      Options
	tables   atomic.Pointer[map[string]*table]
	decoders sync.Pool // *rowDecoder
	budget   budget
	claims   claims
	// conditions are those of the rules that callers met.
	conditions conditions
}

// NewDoor compiles the tables' defaults and checks.
func NewDoor(opt Options) (*Door, error) {
	d := &Door{opt: opt}
	if opt.Limiter == nil {
		d.opt.Limiter = noLimiter{}
	}
	d.decoders.New = func() any { return new(rowDecoder) }
	d.budget.limit, d.budget.meters = opt.Limits.Requests, opt.Writer.meters
	if d.claims.window = opt.Limits.DedupeWindow; d.claims.window == 0 {
		d.claims.window = 10 * time.Minute
	}
	return d, d.Use(opt.Tables)
}

// Use makes the door write to the tables among rels from now on. Requests under way finish with the tables that they began with.
func (d *Door) Use(rels []*expr.Relation) error {
	tables, err := newTables(rels)
	if err == nil {
		d.tables.Store(&tables)
		d.conditions.forget()
	}
	return err
}

// Fits says why the tables among rels cannot be used, nil when they can.
func (d *Door) Fits(rels []*expr.Relation) error {
	_, err := newTables(rels)
	return err
}

func newTables(rels []*expr.Relation) (map[string]*table, error) {
	tables := map[string]*table{}
	for _, rel := range rels {
		if rel.Table == nil {
			continue
		}
		t, err := newTable(rel)
		if err != nil {
			return nil, err
		}
		tables[rel.Name] = t
	}
	return tables, nil
}

// Request is one write as a transport read it. The byte slices may be reused once Write returns.
type Request struct {
	Table  string
	Op     change.Op
	Rows   []byte // JSON: an object, or an array of objects; with Lines an object per line. OpUpdate: the object with the new values
	Lines  bool   // Rows is NDJSON
	Events Events // Rows is CloudEvents, or the data of one
	// Attributes of the event, with EventBinary.
	Attributes []Attribute
	Filter     string    // OpUpdate, OpDelete: which rows, as a PostgREST query string
	Key        string    // Idempotency-Key; empty: none
	Producer   string    // in place of a key: who numbers its requests; empty: nobody
	Sequence   uint64    // with Producer: the request's number, from 1
	Atomic     bool      // all rows or none
	Early      bool      // answer once durable, without the final outcome
	ID         string    // request id
	Trace      string    // W3C traceparent
	Received   time.Time // when the request began to arrive
	share      share     // of the memory for requests
}

// Write does one write and returns its answer. A problem means that nothing of the request took effect (or, for
// storage_damaged and internal, that it is not known). The problem of a request with one object is the refusal of that object.
// The transport counts the problems that it answers.
func (d *Door) Write(ctx context.Context, who auth.Principal, r *Request) (*wire.WriteResult, *wire.Problem) {
	defer r.share.free()
	if problem := d.refuses(ctx, who, r.Table, len(r.Rows)); problem != nil {
		return nil, problem
	}
	result, problem := d.write(ctx, who, r)
	if problem != nil { // several writes may be refused with one and the same
		own := *problem
		problem = &own
	}
	return result, problem
}

// write is Write for a caller who frees the request's share once the answer is out.
func (d *Door) write(ctx context.Context, who auth.Principal, r *Request) (result *wire.WriteResult, problem *wire.Problem) {
	defer func() {
		d.told(who, result, problem)
		d.tell(who, r.Table, result, problem)
	}()
	r.share.begin(&d.budget, who, d.known(r.Table))
	t, permit, problem := d.admit(who, r)
	if problem != nil {
		return nil, problem
	}
	if problem := d.opt.Limiter.Write(who, r.Table, len(r.Rows)); problem != nil {
		return nil, problem
	}
	room, problem := d.opt.Writer.enter(ctx, who, t.rules.Table.Priority, r.Table, len(r.Rows)+len(r.Filter))
	if problem != nil {
		return nil, problem
	}
	defer room.drop()
	j := &job{door: d, table: t, who: who, permit: permit, r: r, ctx: ctx, ticket: room, began: d.opt.Clock.Now()}
	if problem := j.encode(); problem != nil {
		return nil, problem
	}
	if problem := d.opt.Limiter.Rows(who, r.Table, j.rows); problem != nil {
		return nil, problem
	}
	d.opt.Metrics.Stamp(observe.Received, d.opt.Clock.Now().Sub(r.Received).Seconds())
	result, problem = j.commit(ctx)
	if problem != nil {
		return nil, problem
	}
	rows := d.opt.Metrics.Requests
	rows.WithLabelValues(r.Table, "accepted").Add(float64(result.Accepted))
	rows.WithLabelValues(r.Table, "duplicate").Add(float64(result.Duplicates))
	rows.WithLabelValues(r.Table, "rejected").Add(float64(len(result.Rejected)))
	// A number of a producer is used up by a result and not by a problem, so its refused rows are always told in a result.
	if j.single && len(result.Rejected) == 1 && r.Producer == "" {
		return nil, result.Rejected[0].Error
	}
	return result, nil
}

// known returns the name of a table if there is such a table: metrics take no names that callers make up.
func (d *Door) known(table string) string {
	if (*d.tables.Load())[table] == nil {
		return ""
	}
	return table
}

// refuses says why a write of so many bytes would be refused for want of room, before its body is read; nil when it would not, or when the table is
// not there. It is what a flood costs. The answer to one who floods takes a while.
func (d *Door) refuses(ctx context.Context, who auth.Principal, table string, bytes int) *wire.Problem {
	if problem := d.opt.Limiter.Ask(who, bytes); problem != nil {
		d.linger(ctx, problem)
		return problem
	}
	t := (*d.tables.Load())[table]
	if t == nil {
		return nil
	}
	problem, wait := d.opt.Writer.refuses(who, t.rules.Table.Priority, table, bytes)
	if wait > 0 {
		select {
		case <-d.opt.Clock.After(wait):
		case <-ctx.Done():
		}
	}
	return problem
}

// admit decides whether the caller may do this to that table.
func (d *Door) admit(who auth.Principal, r *Request) (*table, permit, *wire.Problem) {
	t := (*d.tables.Load())[r.Table]
	if t == nil {
		return nil, permit{}, wire.NewProblem(wire.UnknownTable, "there is no table "+clip(r.Table)).WithField("table", "")
	}
	may, p := d.permit(who, t, r.Op)
	if p != nil {
		return nil, permit{}, p
	}
	if len(r.Key) > maxKey || r.Key != "" && r.Key[0] <= eventKey || !utf8.ValidString(r.Key) {
		return nil, permit{}, wire.NewProblem(wire.InvalidRequest, fmt.Sprintf("an idempotency key has at most %d bytes of UTF-8 and does not begin with a byte of 0 or 1", maxKey)).WithField("Idempotency-Key", "")
	}
	if p := r.numbered(); p != nil {
		return nil, permit{}, p
	}
	if p := r.eventful(); p != nil {
		return nil, permit{}, p
	}
	if r.Op != change.OpInsert && !t.rules.Table.Keyed() {
		return nil, permit{}, wire.NewProblem(wire.InvalidRequest, r.Table+" is append-only: its rows are never changed").
			WithHint("a table with a primary key and without append_only can be updated, deleted from and merged into")
	}
	if len(r.Rows) > d.opt.Limits.Body {
		return nil, permit{}, tooLargeBody(d.opt.Limits.Body)
	}
	if !utf8.Valid(r.Rows) {
		return nil, permit{}, wire.NewProblem(wire.InvalidJSON, "the body is not valid UTF-8")
	}
	// Keyed, atomic, filtering and repeatable writes have an outcome that only the engine knows: under a used Idempotency-Key
	// every row is refused, and nobody would be told.
	if r.Op != change.OpInsert || r.Atomic || r.Key != "" || r.Producer != "" || r.Events != 0 || t.rules.Table.Keyed() {
		r.Early = false
	}
	return t, may, nil
}

// numbered checks the producer and its sequence.
func (r *Request) numbered() *wire.Problem {
	bad := func(detail, hint string) *wire.Problem {
		return wire.NewProblem(wire.InvalidRequest, detail).WithField(sequenceField, hint)
	}
	switch {
	case r.Producer == "" && r.Sequence == 0:
		return nil
	case r.Producer == "" || r.Sequence == 0:
		return bad("a producer and its sequence go together", "number the requests of a producer 1, 2, 3, …")
	case len(r.Producer) > wire.MaxProducer || !utf8.ValidString(r.Producer):
		return bad(fmt.Sprintf("a producer's name has at most %d bytes of UTF-8", wire.MaxProducer), "")
	case r.Sequence > wire.MaxSequence:
		return bad("a sequence is at most 2^53", "")
	case r.Key != "":
		return bad("a request has an Idempotency-Key or a producer with a sequence, not both", "leave one of them out")
	}
	return nil
}

// needs returns the privileges that a write takes. As in PostgreSQL a write that filters needs SELECT too: the number of rows that it
// met would tell what they hold.
func needs(op change.Op) app.Privilege {
	switch op {
	case change.OpMerge:
		return app.Insert | app.Update
	case change.OpUpdate:
		return app.Update | app.Select
	case change.OpDelete:
		return app.Delete | app.Select
	}
	return app.Insert
}

func tooLargeBody(limit int) *wire.Problem {
	return wire.NewProblem(wire.TooLarge, fmt.Sprintf("the body is larger than %d bytes", limit)).
		WithHint("send the rows in several requests, or raise limits.body in laaster.yaml")
}

// job is one write on its way through the door.
type job struct {
	door     *Door
	table    *table
	who      auth.Principal
	permit   permit
	r        *Request
	ctx      context.Context // the caller's
	ticket   *ticket
	began    time.Time
	single   bool // one object, not a list
	rows     int  // rows seen in the request
	parts    []*part
	body     []byte // records of the part at hand
	count    uint32 // records in body
	logged   uint32 // records in all parts so far
	encoded  int    // bytes of the records in all parts so far
	rejected []wire.Rejected
	briefs   []*wire.Problem // one for each code
	index    []uint32        // request index of each logged record; nil while they are the same
	clientID bool            // some row's key came from the caller and will be remembered
	refused  bool            // some record in body stands for a row that was refused
	reason   []byte          // of the row that was refused last
	reasons  int             // bytes of all reasons
}

// encode reads the request into parts, refusing row by row.
func (j *job) encode() *wire.Problem {
	d := j.door.decoders.Get().(*rowDecoder)
	defer j.door.release(d)
	j.body = d.body[:0]
	defer func() { d.body = j.body[:0] }() // before release
	d.reset(j.table, &j.permit, j.r.Rows, j.r.Received.UnixMicro(), &j.who)
	var err error
	switch {
	case j.r.Op == change.OpDelete:
		j.single = true
		if p := j.filtered(change.Record{Filter: []byte(j.r.Filter)}); p != nil {
			return p
		}
	case j.r.Op == change.OpUpdate:
		j.single = true
		if p := j.update(d); p != nil {
			return p
		}
	case j.r.Events != 0:
		err = j.events(d)
	case j.r.Lines:
		err = j.lines(d)
	case d.scan.space() == '[':
		err = j.array(d)
	default:
		j.single = true
		err = j.object(d)
	}
	if p := syntaxProblem(err, j.r.Rows); p != nil {
		return p
	}
	if j.r.Atomic && len(j.rejected) > 0 {
		first := j.rejected[0]
		p := *first.Error
		p.Detail = fmt.Sprintf("row %d: %s (atomic: nothing was written)", first.Index, p.Detail)
		return &p
	}
	if p := j.cut(true); p != nil {
		return p
	}
	return j.claim()
}

// release gives a decoder back, without the request's bytes and without scratch memory that only an unusual row needs.
func (d *Door) release(r *rowDecoder) {
	r.scan, r.problem, r.permit, r.ctx.Claim = scanner{}, nil, nil, nil
	clear(r.vals)
	if cap(r.body) > 256<<10 { // what is larger is not worth keeping
		r.body = nil
	}
	if cap(r.buf)+cap(r.row) <= 256<<10 {
		d.decoders.Put(r)
	}
}

// claim refuses what would have to be remembered when the memory for that is full, or the caller's share of it: never a silent double. A producer's
// number takes the place of the one before.
func (j *job) claim() *wire.Problem {
	bytes := 0
	if j.clientID {
		bytes = j.rows * claimOfRow
	}
	if j.r.Key != "" {
		bytes += claimOfRequest + j.reasons
	}
	if j.r.Events != 0 {
		bytes += len(j.parts) * claimOfRequest
	}
	opt := &j.door.opt
	if bytes == 0 && (j.r.Producer == "" || opt.Remembered() < opt.Limits.DedupeMemory) {
		return nil
	}
	p := j.door.claims.take(j.who, bytes, opt.Remembered(), opt.Limits.DedupeMemory, opt.Clock.Now())
	if p != nil {
		opt.Writer.meters.refuse(j.r.Table, reasonIDs)
	}
	return p
}

// errTooMany ends the decoding of a request with too many rows.
var errTooMany = errors.New("too many rows")

func syntaxProblem(err error, src []byte) *wire.Problem {
	var s *syntaxError
	var p *wire.Problem
	switch {
	case err == nil:
		return nil
	case errors.As(err, &p):
		return p
	case errors.Is(err, errTooMany):
		return wire.NewProblem(wire.TooMany, fmt.Sprintf("a request has at most %d rows", maxRows)).WithHint("send the rows in several requests")
	case errors.As(err, &s):
		line, col := 1, 1
		for _, c := range src[:min(s.Offset, len(src))] {
			if col++; c == '\n' {
				line, col = line+1, 1
			}
		}
		return wire.NewProblem(wire.InvalidJSON, fmt.Sprintf("line %d, column %d: %s", line, col, s.Msg))
	}
	return wire.NewProblem(wire.Internal, err.Error())
}

func (j *job) object(d *rowDecoder) error {
	if err := j.one(d); err != nil {
		return err
	}
	return end(d)
}

func end(d *rowDecoder) error {
	if d.scan.space() != 0 || d.scan.pos < len(d.scan.src) {
		return d.scan.fail("something follows the value")
	}
	return nil
}

func (j *job) array(d *rowDecoder) error {
	d.scan.pos++
	if d.scan.space() == ']' {
		d.scan.pos++
		return end(d)
	}
	for {
		if err := j.one(d); err != nil {
			return err
		}
		done, err := d.scan.more(']')
		if err != nil {
			return err
		}
		if done {
			return end(d)
		}
	}
}

// lines reads NDJSON: a broken line refuses itself only. Empty lines are skipped.
func (j *job) lines(d *rowDecoder) error {
	all := d.scan.src
	for at := 0; at < len(all); {
		stop := at
		for stop < len(all) && all[stop] != '\n' {
			stop++
		}
		d.scan = scanner{src: all[at:stop]}
		at = stop + 1
		if d.scan.space() == 0 && d.scan.pos == len(d.scan.src) {
			continue
		}
		if err := j.next(); err != nil {
			return err
		}
		err := j.line(d)
		if s := (*syntaxError)(nil); errors.As(err, &s) {
			err = j.reject(syntaxProblem(s, d.scan.src))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// line takes one line whole, so that a row followed by garbage is not half taken.
func (j *job) line(d *rowDecoder) error {
	start := d.scan.pos
	if _, err := d.scan.value(0); err != nil {
		return err
	}
	if err := end(d); err != nil {
		return err
	}
	d.scan.pos = start
	return j.one(d)
}

// reject notes a refused row. Its error ends the request.
func (j *job) reject(p *wire.Problem) error {
	if j.index == nil && !j.repeatable() {
		j.index = make([]uint32, 0, 16)
		for i := range j.logged + j.count {
			j.index = append(j.index, i)
		}
	}
	bytes := refusalBytes
	if len(j.rejected) >= mostTold {
		p, bytes = j.brief(p.Code), briefBytes
	}
	j.rejected = append(j.rejected, wire.Rejected{Index: j.rows, Error: p})
	j.rows++
	if err := j.hold(bytes); err != nil || !j.repeatable() || j.r.Atomic {
		return err
	}
	j.reason = change.AppendReject(j.reason[:0], &change.Reject{Code: string(p.Code), Field: p.Field, Detail: p.Detail})
	j.reasons += len(j.reason) + 4
	return j.add(&change.Record{Refused: j.reason})
}

// repeatable reports whether the engine remembers how far it got with the request. The rows that the door refuses are logged with it then: a repeat may be
// judged otherwise, since memberships, grants and the app change, and must neither pass a row over nor write one twice.
func (j *job) repeatable() bool { return j.r.Events == 0 && (j.r.Key != "" || j.r.Producer != "") }

// brief returns the refusal of one row of very many.
func (j *job) brief(c wire.Code) *wire.Problem {
	for _, p := range j.briefs {
		if p.Code == c {
			return p
		}
	}
	p := wire.Brief(c)
	j.briefs = append(j.briefs, p)
	return p
}

// hold counts n more bytes that the request holds.
func (j *job) hold(n int) error {
	if p := j.r.share.grow(n); p != nil {
		return p
	}
	return nil
}

// next says why there may be no further row. It looks at the clock and at the caller now and then.
func (j *job) next() error {
	switch {
	case j.rows >= maxRows:
		return errTooMany
	case j.rows%16 != 0:
	case j.ctx.Err() != nil:
		return wire.NewProblem(wire.Busy, "the caller went away; nothing was written")
	case j.door.opt.Clock.Now().Sub(j.began) > encodeTime:
		return wire.NewProblem(wire.TooLarge, fmt.Sprintf("reading the rows took longer than %s", encodeTime)).
			WithHint("send fewer rows at once; numbers of very many digits take long")
	}
	return nil
}

// one reads one row and adds its record, or its refusal.
func (j *job) one(d *rowDecoder) error {
	if err := j.next(); err != nil {
		return err
	}
	if err := d.members(); err != nil {
		return err
	}
	return j.finish(d)
}

// finish adds the record of the row that d has read, or its refusal.
func (j *job) finish(d *rowDecoder) error {
	var row change.Row
	if d.problem == nil {
		row = d.complete(j.door.opt.Limits.Row, j.r.Op == change.OpMerge)
	}
	if d.problem != nil {
		return j.reject(d.problem)
	}
	rec := change.Record{Row: row, ServerID: j.table.serverID && !j.table.keyGiven(d.given)}
	if j.r.Op == change.OpMerge {
		rec.Given = d.given
	}
	if !rec.ServerID && !j.table.rules.Table.Kept && len(j.table.rules.Table.PrimaryKey) > 0 {
		j.clientID = true
	}
	if j.index != nil {
		j.index = append(j.index, uint32(j.rows))
	}
	j.rows++
	return j.add(&rec)
}

// add appends a record to the part at hand, and begins a new part when it does not fit.
func (j *job) add(rec *change.Record) error {
	before := len(j.body)
	j.refused = j.refused || len(rec.Refused) > 0
	j.body = change.AppendRecord(j.body, j.r.Op, rec)
	j.count++
	j.encoded += len(j.body) - before
	if err := j.bound(len(j.body) - before); err != nil {
		return err
	}
	if len(j.body) <= change.MaxEntry-2<<10-len(j.permit.rules)-len(j.who.Subject)-len(j.who.Role) || before == 0 {
		return nil
	}
	last, refused := append([]byte(nil), j.body[before:]...), j.refused
	j.body = j.body[:before]
	j.count--
	if p := j.cut(false); p != nil {
		return p
	}
	j.body = append(j.body, last...)
	j.count, j.refused = 1, refused
	return nil
}

// bound refuses a request whose rows are small as JSON and huge as rows, such as 1e130000 in a jsonb column.
func (j *job) bound(n int) error {
	if most := max(j.door.opt.Writer.limit, 4*j.door.opt.Limits.Body); j.encoded > most {
		return wire.NewProblem(wire.TooLarge, fmt.Sprintf("the rows of the request take more than %d bytes as the log stores them", most)).
			WithHint("send the rows in several requests")
	}
	if j.encoded > mostGrowth*len(j.r.Rows)+1<<20 {
		return wire.NewProblem(wire.TooLarge, fmt.Sprintf("the rows take more than %d times the bytes of the request as the log stores them", mostGrowth)).
			WithHint("send the rows in several requests, numbers such as 1e30000 as text")
	}
	return j.hold(n)
}

// cut ends the part at hand.
func (j *job) cut(last bool) *wire.Problem {
	if j.r.Atomic && !last {
		return wire.NewProblem(wire.TooLarge, fmt.Sprintf("an atomic write must fit one record batch of %d bytes", change.MaxBatch)).
			WithHint("send fewer rows at once, or give up _atomic")
	}
	if j.count == 0 && (j.r.Producer == "" || len(j.parts) > 0) { // a producer's number is used up also when every row is refused
		return nil
	}
	e := j.entry(j.logged, last)
	e.Key = []byte(j.r.Key)
	switch {
	case j.r.Key != "":
		e.BodyHash = j.bodyHash()
	case j.r.Producer != "":
		e.Key, e.BodyHash = append([]byte{producerKey}, j.r.Producer...), j.r.Sequence
	}
	j.parts = append(j.parts, &part{entry: e, received: j.r.Received, done: make(chan answer, 1), early: j.r.Early})
	j.logged += j.count
	j.body, j.count, j.refused = j.body[:0], 0, false
	return nil
}

// entry returns the entry of the records at hand.
func (j *job) entry(first uint32, last bool) change.Entry {
	return change.Entry{Kind: change.EntryWrite, Op: j.r.Op, Atomic: j.r.Atomic, Last: last, First: first, Refused: j.refused,
		Table: j.table.rules.Catalog, Version: j.table.rules.Version, Count: j.count,
		Subject: []byte(j.who.Subject), Role: []byte(j.who.Role), Request: []byte(j.r.ID), Trace: []byte(j.r.Trace), Rules: j.permit.rules, Body: bytes.Clone(j.body)}
}

func (j *job) bodyHash() uint64 {
	h := xxhash.New()
	fmt.Fprintf(h, "%d\n%v\n%s\n", j.r.Op, j.r.Atomic, j.r.Filter)
	h.Write(j.r.Rows)
	return h.Sum64()
}

// update reads the object of an OpUpdate: constants for the columns that are given.
func (j *job) update(d *rowDecoder) *wire.Problem {
	if err := d.members(); err != nil {
		return syntaxProblem(err, j.r.Rows)
	}
	if p := syntaxProblem(end(d), j.r.Rows); p != nil {
		return p
	}
	if d.problem != nil {
		return d.problem
	}
	any := false
	for i, c := range j.table.cols {
		given := d.given[i>>3]&(1<<(i&7)) != 0
		any = any || given
		if given && d.vals[i].Null && c.NotNull {
			return wire.NewProblem(wire.InvalidRow, c.Name+" may not be null").WithField(c.Name, "give a value")
		}
		if !given {
			d.vals[i] = change.Null()
		}
	}
	if !any {
		return wire.NewProblem(wire.InvalidRow, "an update must give at least one column").WithHint(j.table.columnNames(j.permit.give))
	}
	if p := d.contracts(); p != nil {
		return p
	}
	d.row = j.table.rules.Layout.Append(d.row[:0], d.vals)
	if len(d.row) > j.door.opt.Limits.Row {
		return wire.NewProblem(wire.TooLarge, fmt.Sprintf("the values take %d bytes, the limit of a row is %d", len(d.row), j.door.opt.Limits.Row))
	}
	return j.filtered(change.Record{Row: d.row, Given: d.given, Filter: []byte(j.r.Filter)})
}

// filtered adds the one record of a write that selects its rows; the filter must be readable here, where the caller is told.
func (j *job) filtered(rec change.Record) *wire.Problem {
	if len(rec.Filter) == 0 {
		return wire.NewProblem(wire.BadFilter, "a change without a filter would touch every row").
			WithHint("say which: ?column=eq.value")
	}
	f, err := expr.ParseVisible(j.table.rel, j.permit.see, string(rec.Filter))
	if err != nil {
		return filterProblem(err)
	}
	if f.Select != nil || f.Order != nil || f.Limit >= 0 || f.Offset != 0 {
		return wire.NewProblem(wire.BadFilter, "select, order, limit and offset have no meaning for a write")
	}
	j.rows = 1
	if err := j.add(&rec); err != nil {
		return wire.NewProblem(wire.Internal, err.Error())
	}
	return nil
}

// What marks refusals of the engine that concern the request, not a row.
const (
	keyField      = "Idempotency-Key"
	gapField      = "Producer-Sequence"
	sequenceField = "Laaster-Sequence"
)

// producerKey is the first byte of an entry's key when the rest names a producer and its hash is a sequence. No header and no frame has it.
const producerKey = 0

// wholeProblem returns the problem of a request that the engine refused as a whole, nil when it did not.
func wholeProblem(o *change.Outcome) *wire.Problem {
	if len(o.Rejected) == 0 || o.Rejected[0].Code != string(wire.Conflict) { // a caller may name a field of a row as he likes
		return nil
	}
	switch x := o.Rejected[0]; x.Field {
	case keyField:
		return wire.NewProblem(wire.Code(x.Code), x.Detail).WithField(keyField, "use a new key for another request")
	case gapField:
		p := wire.NewProblem(wire.SequenceGap, x.Detail).WithField(sequenceField, "send again what was not answered, in order")
		_, _ = fmt.Sscanf(x.Detail, "sequence gap: %d is expected", &p.Expected) // 0 where it does not say
		return p
	}
	return nil
}

// commit queues the parts and waits for their outcome.
func (j *job) commit(ctx context.Context) (*wire.WriteResult, *wire.Problem) {
	res := &wire.WriteResult{Final: !j.r.Early, Ack: j.door.opt.Ack, Rejected: []wire.Rejected{}}
	seq := j.door.opt.Applied()
	if len(j.parts) > 0 {
		if p := j.door.opt.Writer.submit(j.ticket, j.parts); p != nil {
			return nil, p
		}
		seq = 0
	}
	for _, p := range j.parts {
		select {
		case a := <-p.done:
			if a.problem != nil {
				return nil, a.problem
			}
			if a.outcome.Replayed != 0 {
				a.seq = a.outcome.Replayed
			}
			if p := wholeProblem(&a.outcome); p != nil {
				return nil, p
			}
			seq = max(seq, a.seq)
			j.merge(res, p, &a.outcome)
		case <-ctx.Done():
			return nil, wire.NewProblem(wire.Busy, "the caller went away; the write goes on without it")
		}
	}
	res.Position = j.door.opt.Position(seq)
	if j.repeatable() {
		j.explain(res.Rejected)
	} else {
		res.Rejected = mergeRejected(j.rejected, res.Rejected)
	}
	return res, nil
}

// merge adds a part's outcome, turning the engine's record numbers into the request's row numbers.
func (j *job) merge(res *wire.WriteResult, from *part, o *change.Outcome) {
	if from.event && o.Replayed != 0 { // an event that came before, whatever it brings now
		res.Duplicates += int(o.Accepted)
	} else {
		res.Accepted += int(o.Accepted)
	}
	res.Duplicates += int(o.Duplicates)
	for _, x := range o.Rejected {
		i := x.Index
		switch {
		case from.event:
			i = uint32(from.row)
		case j.index != nil && int(i) < len(j.index):
			i = j.index[i]
		}
		var p *wire.Problem
		told := len(res.Rejected)
		if !j.repeatable() { // else those of the door are among them
			told += len(j.rejected)
		}
		if told < mostTold {
			p = wire.NewProblem(wire.Code(x.Code), x.Detail)
			if p.Field = x.Field; p.Code == wire.Forbidden {
				p.Hint = hintForbidden
			}
		} else {
			p = j.brief(wire.Code(x.Code))
		}
		res.Rejected = append(res.Rejected, wire.Rejected{Index: int(i), Error: p})
	}
}

// explain puts what the door said of a row in place of what the engine remembers of it, which is shorter, where both are of one refusal.
func (j *job) explain(rejected []wire.Rejected) {
	own := j.rejected
	for i := range rejected {
		x := &rejected[i]
		for len(own) > 0 && own[0].Index < x.Index {
			own = own[1:]
		}
		if len(own) > 0 && own[0].Index == x.Index && own[0].Error.Code == x.Error.Code && own[0].Error.Detail == x.Error.Detail {
			x.Error = own[0].Error
		}
	}
}

// mergeRejected merges two lists that are ascending by index.
func mergeRejected(a, b []wire.Rejected) []wire.Rejected {
	out := make([]wire.Rejected, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0].Index < b[0].Index {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}
