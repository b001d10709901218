package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"laaster/internal/kit/run"
)

// requestPatience is how long a request may take before it counts as unanswered.
const requestPatience = 40 * time.Second

// retryPause is how long a producer waits before it repeats a request that failed although the server may be up.
const retryPause = 5 * time.Millisecond

// producer is one client that writes. One goroutine runs it.
type producer struct {
	load   *Load
	n      int
	kind   kind
	rng    *rand.Rand
	client *http.Client
	seq    int64           // of the next event
	rows   map[int]Account // what the owner of accounts knows of them
	high   uint64          // sequence number of the last request under Laaster-Producer
	name   int             // how often it has had to take another name there
}

// kind is a way to write.
type kind struct {
	name string
	step func(p *producer, ctx context.Context) error
}

// kinds returns the ways to write, each of which is right in its own way when answers get lost.
func kinds() []kind {
	return []kind{
		{"ids", (*producer).withIDs},
		{"keys", (*producer).withKey},
		{"once", (*producer).once},
		{"numbers", (*producer).numbered},
		{"logged", (*producer).logged},
		{"mixed", (*producer).mixed},
		{"accounts", (*producer).account},
		{"socket", (*producer).socket},
	}
}

func (p *producer) run(ctx context.Context) error {
	for {
		if err := p.load.gate.pass(ctx); err != nil {
			return err
		}
		if err := p.kind.step(p, ctx); err != nil {
			return err
		}
		if p.load.o.Pace > 0 {
			select {
			case <-run.System{}.After(p.load.o.Pace):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// events makes new events and notes them in the book.
func (p *producer) events(ids bool) []Event {
	out := make([]Event, 1+p.rng.IntN(p.load.o.Rows))
	at, life := p.load.now(), p.load.target.Life()
	for i := range out {
		out[i] = Event{Producer: p.n, Seq: p.seq, Life: life, Account: p.rng.IntN(40), Amount: p.rng.Int64N(600) - 300, At: at}
		if ids {
			out[i].ID = p.uuid()
		}
		p.seq++
	}
	p.load.book.send(out)
	return out
}

func (p *producer) uuid() string {
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", p.rng.Uint32(), p.rng.Uint32N(1<<16), p.rng.Uint32N(1<<12), p.rng.Uint32N(1<<12), p.rng.Uint64N(1<<48))
}

// request is one write, which may be sent several times.
type request struct {
	method, path string
	body         any
	header       http.Header
}

// answer is what the server says to a write.
type answer struct {
	Position   string
	Final      bool
	Level      string `json:"ack"`
	Accepted   int
	Duplicates int
	Rejected   []struct{ Index int }
	Code       string // of a request that was refused whole
	Detail     string
	status     int
	repeated   bool // it was sent more than once
}

// try sends a request once. ok says that the answer settles it.
func (p *producer) try(ctx context.Context, r *request, url string) (a answer, ok bool, err error) {
	body, err := json.Marshal(r.body)
	if err != nil {
		return a, false, err
	}
	q, err := http.NewRequestWithContext(ctx, r.method, url+r.path, bytes.NewReader(body))
	if err != nil {
		return a, false, err
	}
	for k, v := range r.header {
		q.Header[k] = v
	}
	q.Header.Set("Content-Type", "application/json")
	w, err := p.client.Do(q)
	if err != nil {
		p.load.book.Count("no answer")
		return a, false, ctx.Err() // the server is dead or dying
	}
	b, err := io.ReadAll(w.Body)
	_ = w.Body.Close()
	if err != nil {
		p.load.book.Count("no answer")
		return a, false, ctx.Err()
	}
	a.status = w.StatusCode
	if err := json.Unmarshal(b, &a); err != nil {
		p.load.book.Failf("an answer that cannot be read: %d %.200q", w.StatusCode, b)
		return a, false, nil
	}
	if a.status != http.StatusOK {
		p.load.book.Count("refused: " + a.Code)
	}
	if a.Code == "internal" {
		p.load.book.Failf("an internal error: %s", b)
	}
	return a, a.status < 500 && a.status != http.StatusTooManyRequests, nil
}

// send sends a request until it is settled, whatever happens to the server meanwhile.
func (p *producer) send(ctx context.Context, r *request) (answer, error) {
	for again := false; ; again = true {
		url, _, err := p.load.target.Get(ctx)
		if err != nil {
			return answer{}, err
		}
		a, ok, err := p.try(ctx, r, url)
		if ok || err != nil {
			a.repeated = again
			return a, err
		}
		select {
		case <-run.System{}.After(retryPause):
		case <-ctx.Done():
			return answer{}, ctx.Err()
		}
	}
}

// settle notes what an answer says of events that were all fine.
func (p *producer) settle(events []Event, a *answer) {
	b := p.load.book
	switch {
	case a.status != http.StatusOK || len(a.Rejected) > 0:
		b.Failf("%s: good rows were refused: %+v", p.kind.name, *a)
		return
	case a.Final && a.Accepted+a.Duplicates != len(events):
		b.Failf("%s: of %d rows %d were accepted and %d were duplicates", p.kind.name, len(events), a.Accepted, a.Duplicates)
	case a.Duplicates > 0 && !a.repeated:
		b.Failf("%s: %d of %d rows that were sent once are duplicates", p.kind.name, a.Duplicates, len(events))
	}
	if a.Duplicates > 0 {
		b.Count("duplicates recognised")
	}
	b.told(a.Position, a.Level)
	b.settle(events, acked)
}

// withIDs makes the primary keys itself, so that a repeat is recognised by them.
func (p *producer) withIDs(ctx context.Context) error {
	events := p.events(true)
	a, err := p.send(ctx, &request{"POST", "/v1/tables/events", events, nil})
	if err == nil {
		p.settle(events, &a)
	}
	return err
}

// withKey leaves the primary keys to the server; a repeat is recognised by the request's key.
func (p *producer) withKey(ctx context.Context) error {
	events := p.events(false)
	a, err := p.send(ctx, &request{"POST", "/v1/tables/events", events, http.Header{"Idempotency-Key": {p.uuid()}}})
	if err != nil {
		return err
	}
	if a.Duplicates > 0 {
		p.load.book.Failf("keys: the repeat of a request under its key has another answer: %+v", a)
	}
	p.settle(events, &a)
	return nil
}

// numbered leaves the primary keys to the server and numbers its requests; a repeat is recognised by its number.
func (p *producer) numbered(ctx context.Context) error {
	events := p.events(false)
	for {
		p.high++
		a, err := p.send(ctx, &request{"POST", "/v1/tables/events", events,
			http.Header{"Laaster-Producer": {fmt.Sprintf("p%d-%d", p.n, p.name)}, "Laaster-Sequence": {strconv.FormatUint(p.high, 10)}}})
		if err != nil {
			return err
		}
		if a.Code == "sequence_gap" && p.load.book.Doubted() { // the server has lost earlier ones, and says so: they are not sent again here
			p.name, p.high = p.name+1, 0
			p.load.book.Count("gaps told to producers")
			continue
		}
		p.settle(events, &a)
		return nil
	}
}

// once never repeats: what is not answered stays open.
func (p *producer) once(ctx context.Context) error {
	events := p.events(false)
	url, _, err := p.load.target.Get(ctx)
	if err != nil {
		return err
	}
	a, ok, err := p.try(ctx, &request{"POST", "/v1/tables/events", events, nil}, url)
	if ok {
		p.settle(events, &a)
		return nil
	}
	select {
	case <-run.System{}.After(10 * retryPause): // it is dead, or refuses
	case <-ctx.Done():
		return ctx.Err()
	}
	return err
}

// logged is answered when its rows are durable, before views have them.
func (p *producer) logged(ctx context.Context) error {
	events := p.events(true)
	a, err := p.send(ctx, &request{"POST", "/v1/tables/events?_ack=logged", events, nil})
	if err == nil {
		p.settle(events, &a)
	}
	return err
}

// mixed has rows among the good ones that must be refused; in an atomic request they take the others with them.
func (p *producer) mixed(ctx context.Context) error {
	events := p.events(true)
	bad := p.rng.IntN(len(events))
	rows := make([]Event, len(events))
	copy(rows, events)
	rows[bad].Amount = 666
	path, atomic := "/v1/tables/events", p.rng.IntN(2) == 0
	if atomic {
		path += "?_atomic=true"
	}
	a, err := p.send(ctx, &request{"POST", path, rows, nil})
	if err != nil {
		return err
	}
	b := p.load.book
	if atomic || len(events) == 1 {
		if a.status == http.StatusOK {
			b.Failf("mixed: a request that must be refused was not: %+v", a)
		}
		b.settle(events, refused)
		return nil
	}
	if a.status != http.StatusOK || len(a.Rejected) != 1 || a.Rejected[0].Index != bad || a.Accepted+a.Duplicates != len(events)-1 {
		b.Failf("mixed: row %d of %d must be refused: %+v", bad, len(events), a)
		return nil
	}
	b.told(a.Position, a.Level)
	b.settle(events[bad:bad+1], refused)
	b.settle(append(append([]Event{}, events[:bad]...), events[bad+1:]...), acked)
	return nil
}

// account changes a row of its owner: an insert, a merge, an update or a delete, each under a key.
func (p *producer) account(ctx context.Context) error {
	if p.rows == nil {
		p.rows = map[int]Account{}
	}
	id := p.n*4%40 + p.rng.IntN(4)
	old, there := p.rows[id]
	next := Account{ID: id, Owner: p.n, Balance: p.rng.Int64N(1_000_000)}
	r := request{header: http.Header{"Idempotency-Key": {p.uuid()}}, path: "/v1/tables/accounts"}
	how := p.rng.IntN(10)
	switch {
	case !there && how < 5:
		r.method, r.body = "POST", next
	case how < 6:
		r.method, r.path, r.body = "POST", r.path+"?on_conflict=merge", map[string]any{"id": id, "owner": p.n, "balance": next.Balance}
		next.Note = old.Note
	case !there:
		return nil
	case how < 9:
		note := strconv.Itoa(p.rng.IntN(1000))
		next.Note = &note
		r.method, r.path, r.body = "PATCH", r.path+"?id=eq."+strconv.Itoa(id), map[string]any{"balance": next.Balance, "note": note}
	default:
		r.method, r.path = "DELETE", r.path+"?id=eq."+strconv.Itoa(id)
	}
	a, err := p.send(ctx, &r)
	if err != nil {
		return err
	}
	if a.status != http.StatusOK || a.Accepted != 1 {
		p.load.book.Failf("accounts: %s %s: %+v", r.method, r.path, a)
		return nil
	}
	p.load.book.told(a.Position, a.Level)
	if r.method == "DELETE" {
		delete(p.rows, id)
		p.load.book.setAccount(id, nil)
		return nil
	}
	p.rows[id] = next
	p.load.book.setAccount(id, &next)
	return nil
}
