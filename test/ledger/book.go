package ledger

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// Event is one row of the table events. Producer and Seq name it; a producer's first Seq is 0.
type Event struct {
	ID       string `json:"id,omitempty"` // empty: the server makes it
	Producer int    `json:"producer"`
	Seq      int64  `json:"seq"`
	Life     int    `json:"life"` // of the server, when the event was made
	Account  int    `json:"account"`
	Amount   int64  `json:"amount"`
	At       string `json:"at"`
}

// Account is one row of the table accounts.
type Account struct {
	ID      int     `json:"id"`
	Owner   int     `json:"owner"`
	Balance int64   `json:"balance"`
	Note    *string `json:"note"`
}

// Position is a place in a log.
type Position struct {
	Log string
	Seq uint64
}

// ParsePosition reads what the server tells: <log>.<shard>-<seq>.
func ParsePosition(s string) (Position, error) {
	log, rest, ok := strings.Cut(s, ".")
	_, seq, ok2 := strings.Cut(rest, "-")
	n, err := strconv.ParseUint(seq, 10, 64)
	if !ok || !ok2 || err != nil {
		return Position{}, fmt.Errorf("%q is not a position", s)
	}
	return Position{log, n}, nil
}

// outcome is what a sender knows of an event.
type outcome uint8

const (
	open    outcome = iota // sent at least once, no answer that counts: it may be there, once
	acked                  // it must be there, once
	refused                // it must not be there
)

// maxViolations is how many violations are kept in words; all are counted.
const maxViolations = 20

type entry struct {
	Event
	outcome outcome
}

// share is what of the events of one producer and life is known.
type share struct {
	acked, open int
	total       int64 // of the amounts of the acked ones
	openTotal   int64 // of the others
}

type shareKey struct{ producer, life int }

// Book has everything that was sent and what became of it. Safe for concurrent use.
type Book struct {
	mu struct {
		sync.Mutex
		events     map[int][]entry // by producer, in the order of their sequence
		shares     map[shareKey]*share
		accounts   map[int]Account
		log        string   // the log that positions are of
		high       Position // the highest that was told to anybody
		levels     map[string]int
		acked      int
		refused    int
		doubt      bool           // nothing is known of accounts
		count      map[string]int // of things worth a word in the end
		violations []string
		violated   int
	}
}

// NewBook returns an empty book.
func NewBook() *Book {
	b := &Book{}
	b.mu.events, b.mu.shares, b.mu.accounts = map[int][]entry{}, map[shareKey]*share{}, map[int]Account{}
	b.mu.levels, b.mu.count = map[string]int{}, map[string]int{}
	return b
}

// Failf notes a violation.
func (b *Book) Failf(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failf(format, args...)
}

func (b *Book) failf(format string, args ...any) {
	b.mu.violated++
	if len(b.mu.violations) < maxViolations {
		b.mu.violations = append(b.mu.violations, fmt.Sprintf(format, args...))
	}
}

// Err returns the violations so far, or nil.
func (b *Book) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.violated == 0 {
		return nil
	}
	return fmt.Errorf("%d violations:\n%s", b.mu.violated, strings.Join(b.mu.violations, "\n"))
}

// Count adds one to the things of a kind.
func (b *Book) Count(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.count[what]++
}

// Counted returns how many things of a kind were counted.
func (b *Book) Counted(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.count[what]
}

// send notes events that are about to be sent for the first time.
func (b *Book) send(events []Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range events {
		b.mu.events[e.Producer] = append(b.mu.events[e.Producer], entry{Event: e})
		s := b.share(&e)
		s.open++
		s.openTotal += e.Amount
	}
}

func (b *Book) share(e *Event) *share {
	k := shareKey{e.Producer, e.Life}
	if b.mu.shares[k] == nil {
		b.mu.shares[k] = &share{}
	}
	return b.mu.shares[k]
}

// settle notes what became of events that were open.
func (b *Book) settle(events []Event, to outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range events {
		e := &b.mu.events[events[i].Producer][events[i].Seq]
		if e.outcome != open {
			b.failf("event %d of producer %d was settled twice", e.Seq, e.Producer)
			continue
		}
		e.outcome = to
		s := b.share(&e.Event)
		s.open--
		s.openTotal -= e.Amount
		if to == acked {
			s.acked++
			s.total += e.Amount
			b.mu.acked++
		} else {
			b.mu.refused++
		}
	}
}

// told notes a position that a client was told, and the level of an acknowledgement when it came with one.
func (b *Book) told(position, level string) Position {
	p, err := ParsePosition(position)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.failf("%v", err)
		return p
	}
	if level != "" {
		b.mu.levels[level]++
	}
	if b.mu.log == "" {
		b.mu.log = p.Log
	}
	if p.Log != b.mu.log {
		b.failf("position %s is of another log than %s", position, b.mu.log)
		return p
	}
	if p.Seq > b.mu.high.Seq {
		b.mu.high = p
	}
	return p
}

// Doubt says that what was acknowledged so far may be lost, as after a repair of damage: each event may be there, once, and nothing is known of accounts.
func (b *Book) Doubt() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.doubt = true
	for _, list := range b.mu.events {
		for i := range list {
			e := &list[i]
			if e.outcome != acked {
				continue
			}
			e.outcome = open
			b.mu.acked--
			s := b.share(&e.Event)
			s.acked--
			s.total -= e.Amount
			s.open++
			s.openTotal += e.Amount
		}
	}
}

// Doubted reports whether Doubt was said.
func (b *Book) Doubted() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.doubt
}

// Log returns the log that positions are of, empty when none was told.
func (b *Book) Log() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.log
}

// NewLog says that the server has a new log from now on, as after a repair or a restore.
func (b *Book) NewLog() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.log, b.mu.high = "", Position{}
}

// High returns the highest position that anybody was told.
func (b *Book) High() Position {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.high
}

// Levels returns how many acknowledgements named which level.
func (b *Book) Levels() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[string]int{}
	for k, v := range b.mu.levels {
		out[k] = v
	}
	return out
}

// Totals returns how many events were sent, acknowledged, refused, and are open.
func (b *Book) Totals() (sent, ackedN, refusedN, openN int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.mu.events {
		sent += len(l)
	}
	return sent, b.mu.acked, b.mu.refused, sent - b.mu.acked - b.mu.refused
}

// setAccount notes what the row of an account is now; nil: it is gone.
func (b *Book) setAccount(id int, a *Account) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a == nil {
		delete(b.mu.accounts, id)
		return
	}
	b.mu.accounts[id] = *a
}

// checkAccounts compares the rows of the table with the book.
func (b *Book) checkAccounts(rows []Account) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.doubt {
		return
	}
	left := map[int]Account{}
	for id, a := range b.mu.accounts {
		left[id] = a
	}
	for _, r := range rows {
		want, ok := left[r.ID]
		if !ok || want.Owner != r.Owner || want.Balance != r.Balance || text(want.Note) != text(r.Note) {
			b.failf("account %d is %d %d %s, its owner was told %d %d %s (there: %v)", r.ID, r.Owner, r.Balance, text(r.Note),
				want.Owner, want.Balance, text(want.Note), ok)
		}
		delete(left, r.ID)
	}
	for id := range left {
		b.failf("account %d is missing", id)
	}
}

func text(s *string) string {
	if s == nil {
		return "NULL"
	}
	return strconv.Quote(*s)
}

// checkEvents compares rows of the table with the book: all of those of the lives from on, each at most once and as it was sent.
func (b *Book) checkEvents(rows []Event, from int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	seen := map[int]map[int64]bool{}
	for i := range rows {
		r := &rows[i]
		list := b.mu.events[r.Producer]
		if r.Seq < 0 || r.Seq >= int64(len(list)) {
			b.failf("event %d of producer %d is there and was never sent", r.Seq, r.Producer)
			continue
		}
		e := &list[r.Seq]
		if seen[r.Producer] == nil {
			seen[r.Producer] = map[int64]bool{}
		}
		if seen[r.Producer][r.Seq] {
			b.failf("event %d of producer %d is there twice", r.Seq, r.Producer)
		}
		seen[r.Producer][r.Seq] = true
		want := e.Event
		if want.ID == "" {
			want.ID = r.ID
		}
		if want != *r {
			b.failf("event %d of producer %d is %+v, sent was %+v", r.Seq, r.Producer, *r, e.Event)
		}
		if e.outcome == refused {
			b.failf("event %d of producer %d is there and was refused", r.Seq, r.Producer)
		}
	}
	for p, list := range b.mu.events {
		for i := range list {
			if e := &list[i]; e.outcome == acked && e.Life >= from && !seen[p][e.Seq] {
				b.failf("LOST: event %d of producer %d (life %d) was acknowledged and is not there", e.Seq, p, e.Life)
			}
		}
	}
}

// byLife is a row of the view by_life.
type byLife struct {
	Producer, Life, N int
	Total, High       int64
}

// checkShares compares the counts and sums of each producer and life with the book.
func (b *Book) checkShares(rows []byLife) {
	b.mu.Lock()
	defer b.mu.Unlock()
	left := map[shareKey]bool{}
	for k, s := range b.mu.shares {
		left[k] = s.acked > 0
	}
	for _, r := range rows {
		k := shareKey{r.Producer, r.Life}
		s := b.mu.shares[k]
		if s == nil || r.N < s.acked || r.N > s.acked+s.open || s.open == 0 && r.Total != s.total {
			b.failf("view by_life: %+v, the book has %+v", r, s)
		}
		delete(left, k)
	}
	for k, must := range left {
		if must {
			b.failf("view by_life: nothing of producer %d in life %d, the book has %+v", k.producer, k.life, *b.mu.shares[k])
		}
	}
}
