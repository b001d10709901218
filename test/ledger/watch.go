package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"laaster/internal/kit/run"
)

// verifyEvery is after how many frames a subscriber asks for the rows of one of its views anew, to compare.
const verifyEvery = 20

// Watch is a live subscriber to all views of the app on one WebSocket. It resumes after every break, and checks: positions only grow, also over a
// death of the server; no change comes twice or is missing; all views agree at every position; gaps are said truly.
type Watch struct {
	target *Target
	book   *Book
	name   string
	mu     struct {
		sync.Mutex
		rows    map[string]*rows // by view
		at      Position         // what the rows are of; the zero Position: nothing complete
		told    Position         // the highest position that any connection was told
		stamped Position         // the position of the last epoch
		stamp   float64          // the log's time of it, ms
		moved   chan struct{}    // closed and renewed with each frame
		checked int              // comparisons with a snapshot
	}

	// Of the present connection, the goroutine's own.
	s      *socket
	base   Position // the highest position that was told before it
	asked  bool     // it resumed from at
	second *rows    // of the view that is being compared
	number int      // of the comparison
	frames int      // since the last comparison
	secret string   // id of the comparison's subscription
}

// NewWatch starts a subscriber in g.
func NewWatch(g *run.Group, target *Target, book *Book, name string) *Watch {
	w := &Watch{target: target, book: book, name: name}
	w.mu.rows, w.mu.moved = map[string]*rows{}, make(chan struct{})
	for _, v := range names() {
		w.mu.rows[v] = &rows{view: v}
	}
	g.Go("watch", w.run)
	return w
}

func (w *Watch) run(ctx context.Context) error {
	for {
		url, _, err := w.target.Get(ctx)
		if err != nil {
			return err
		}
		if w.s, err = dial(ctx, url); err == nil {
			err = w.converse()
			w.s.close()
			if v := (*violation)(nil); asViolation(err, &v) {
				w.book.Failf("subscriber %s: %s", w.name, v.text)
				w.forget() // what follows would only say the same
			}
		}
		select {
		case <-run.System{}.After(retryPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// violation is an error that says what the server did wrong, as against a connection that broke.
type violation struct{ text string }

// Error implements error.
func (v *violation) Error() string { return v.text }

func wrong(format string, args ...any) error { return &violation{fmt.Sprintf(format, args...)} }

func asViolation(err error, to **violation) bool {
	v, ok := err.(*violation)
	*to = v
	return ok
}

// forget has the subscriber begin anew with its next connection.
func (w *Watch) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.at = Position{}
	for _, v := range names() {
		w.mu.rows[v] = &rows{view: v}
	}
}

// frame is any frame of the server.
type frame struct {
	Type     string
	ID       string
	Log      string
	Position string
	From     string
	At       float64
	KeptFrom string `json:"kept_from"`
	Key      []string
	Rows     []json.RawMessage
	More     bool
	Changes  map[string]changes
	Code     string
	Reason   string
	Error    *struct{ Code, Detail string }
}

// converse says hello and takes frames until the connection breaks.
func (w *Watch) converse() error {
	w.second, w.frames = nil, 0
	subs := []map[string]any{}
	w.mu.Lock()
	at := w.mu.at
	w.base = w.mu.told
	for _, v := range names() {
		s := map[string]any{"id": v, "view": v}
		if at == (Position{}) {
			s["from"] = nil
			w.mu.rows[v].complete = false
		}
		subs = append(subs, s)
		w.mu.rows[v].begun = false
	}
	w.mu.Unlock()
	hello := map[string]any{"type": "hello", "client": map[string]string{"name": "ledger", "version": "1"}, "subscribe": subs}
	w.asked = at != (Position{})
	if w.asked {
		hello["resume"] = fmt.Sprintf("%s.0-%d", at.Log, at.Seq)
	}
	b, err := json.Marshal(hello)
	if err != nil {
		return err
	}
	if err := w.s.send(b); err != nil {
		return err
	}
	for {
		w.s.patience(requestPatience) // a quiet server speaks every 15 s
		b, err := w.s.next()
		if err != nil {
			return err
		}
		var f frame
		if err := json.Unmarshal(b, &f); err != nil {
			return wrong("a frame that cannot be read: %.200q", b)
		}
		if err := w.take(&f, b); err != nil {
			return err
		}
	}
}

func (w *Watch) take(f *frame, raw []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() {
		close(w.mu.moved)
		w.mu.moved = make(chan struct{})
	}()
	switch f.Type {
	case "welcome":
		if log := w.book.Log(); log != "" && f.Log != log {
			return wrong("welcome to log %s, the log is %s", f.Log, log)
		}
		return nil
	case "snapshot":
		return w.snapshot(f)
	case "resumed":
		return w.resumed(f)
	case "gap":
		return w.gap(f)
	case "epoch":
		return w.epoch(f)
	case "goodbye", "freshness":
		w.book.Count(f.Type + " " + f.Code + f.Reason)
		return nil
	}
	return wrong("unexpected: %.300s", raw)
}

// rowsOf returns the rows that a subscription id stands for.
func (w *Watch) rowsOf(id string) *rows {
	if w.second != nil && id == w.secret {
		return w.second
	}
	return w.mu.rows[id]
}

// tell checks a position that a frame names: of the log, and not below what was told before.
func (w *Watch) tell(position, what string) (Position, error) {
	p := w.book.told(position, "")
	if p.Log == w.mu.told.Log && p.Seq < w.mu.told.Seq {
		return p, wrong("%s at %s after position %d was told: it fell", what, position, w.mu.told.Seq)
	}
	w.mu.told = p
	return p, nil
}

func (w *Watch) snapshot(f *frame) error {
	r := w.rowsOf(f.ID)
	if r == nil {
		if strings.HasPrefix(f.ID, "compare") { // of a comparison that is over
			return nil
		}
		return wrong("a snapshot of subscription %q, which nobody asked for", f.ID)
	}
	if err := r.page(f.Key, f.Rows, f.More); err != nil {
		return wrong("%v", err)
	}
	if r == w.second {
		return nil
	}
	if !r.begun || r.complete {
		w.book.Count("snapshots")
	}
	p := w.book.told(f.Position, "")
	if p.Log == w.base.Log && p.Seq < w.base.Seq { // epochs of other subscriptions may be further, those of earlier connections not
		return wrong("a snapshot at %s after position %d was told on an earlier connection: it fell", f.Position, w.base.Seq)
	}
	if w.mu.told.Log != p.Log || w.mu.told.Seq < p.Seq {
		w.mu.told = p
	}
	r.at = p
	return w.together()
}

// together notes at which position all rows are, if they are at one, and checks them then.
func (w *Watch) together() error {
	at := w.mu.rows["whole"].at
	for _, r := range w.mu.rows {
		if !r.complete || r.at != at {
			w.mu.at = Position{}
			return nil
		}
	}
	w.mu.at = at
	return w.agree()
}

func (w *Watch) resumed(f *frame) error {
	r := w.mu.rows[f.ID]
	if r == nil || !r.complete || !w.asked {
		return wrong("resumed, of subscription %q, which did not ask for it", f.ID)
	}
	p, err := ParsePosition(f.Position)
	if err != nil || p != w.mu.at {
		return wrong("resumed at %s, the rows are of %d: %v", f.Position, w.mu.at.Seq, err)
	}
	w.book.Count("resumed")
	return nil
}

func (w *Watch) gap(f *frame) error {
	kept, err := ParsePosition(f.KeptFrom)
	if err != nil {
		return wrong("gap: %v", err)
	}
	if kept.Log == w.mu.at.Log && kept.Seq <= w.mu.at.Seq {
		return wrong("gap for position %d although everything from %s is kept", w.mu.at.Seq, f.KeptFrom)
	}
	w.book.Count("gaps")
	if r := w.mu.rows[f.ID]; r != nil {
		r.complete = false
	}
	return nil
}

func (w *Watch) epoch(f *frame) error {
	old := w.mu.told
	p, err := w.tell(f.Position, "an epoch")
	if err != nil {
		return err
	}
	for id := range f.Changes {
		if r := w.rowsOf(id); p == old && r != nil && r.at == p { // one whose pages were of an earlier position catches up
			return wrong("changes of %s at %s, which was told before (from %q)", id, f.Position, f.From)
		}
	}
	if p == w.mu.stamped && f.At != w.mu.stamp || p != w.mu.stamped && f.At <= w.mu.stamp {
		return wrong("position %s is of the time %f, position %d of %f", f.Position, f.At, w.mu.stamped.Seq, w.mu.stamp)
	}
	w.mu.stamped, w.mu.stamp = p, f.At
	if f.From != "" {
		from, err := ParsePosition(f.From)
		if err != nil || from.Log != p.Log || from.Seq > w.mu.at.Seq && w.mu.at != (Position{}) {
			return wrong("an epoch from %s, the rows are of %d: %v", f.From, w.mu.at.Seq, err)
		}
	}
	for id, c := range f.Changes {
		r := w.rowsOf(id)
		if r == nil {
			if strings.HasPrefix(id, "compare") {
				continue
			}
			return wrong("changes of subscription %q, which nobody asked for", id)
		}
		if !r.complete {
			return wrong("changes of %s before its rows", r.view)
		}
		if err := r.apply(&c, f.From == "" && r.at == old); err != nil {
			return wrong("at %s (from %q): %v", f.Position, f.From, err)
		}
	}
	for _, r := range w.mu.rows {
		if r.complete {
			r.at = p
		}
	}
	w.frames++
	if err := w.together(); err != nil || w.mu.at == (Position{}) {
		return err
	}
	return w.compare()
}

// agree checks that views that count the same events say the same.
func (w *Watch) agree() error {
	var whole struct{ N int }
	for _, v := range w.mu.rows["whole"].byKey {
		if err := json.Unmarshal([]byte(v), &whole); err != nil {
			return err
		}
	}
	if n := len(w.mu.rows["events"].byKey); n != whole.N {
		return wrong("at %d the table has %d rows and the view of their number says %d", w.mu.at.Seq, n, whole.N)
	}
	return nil
}

// compare compares the rows of one view with a new snapshot that has come up to the same position, and asks for the next now and then.
func (w *Watch) compare() error {
	if w.second != nil && w.second.complete {
		r := w.mu.rows[w.second.view]
		if d := differ(r.list(), w.second.list(), "by changes", "by a snapshot"); d != "" {
			return wrong("view %s at %d: %s", r.view, w.mu.at.Seq, d)
		}
		w.second = nil
		w.mu.checked++
		w.frames = 0
		return w.s.send([]byte(`{"type":"unsubscribe","id":"` + w.secret + `"}`))
	}
	if w.second != nil || w.frames < verifyEvery {
		return nil
	}
	all := names()
	w.number++
	w.second = &rows{view: all[w.number%len(all)]}
	w.secret = fmt.Sprintf("compare%d", w.number)
	return w.s.send([]byte(`{"type":"subscribe","id":"` + w.secret + `","view":"` + w.second.view + `","from":null}`))
}

// Compared returns how often rows were compared with a snapshot on the way.
func (w *Watch) Compared() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.checked
}

// Settle waits until the subscriber has the rows that a view had at a position, or later, and compares them. It returns what differs.
func (w *Watch) Settle(ctx context.Context, view string, at Position, want []string) string {
	for {
		w.mu.Lock()
		r, moved, now := w.mu.rows[view], w.mu.moved, w.mu.at
		d := "the subscriber has no rows yet"
		if r.complete {
			d = differ(r.list(), want, "live", "read")
		}
		w.mu.Unlock()
		if d == "" || now.Log == at.Log && now.Seq > at.Seq {
			return d
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Sprintf("at %d, waiting for %d: %s", now.Seq, at.Seq, d)
		}
	}
}
