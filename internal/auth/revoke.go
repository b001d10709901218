package auth

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"laaster/internal/wire"
)

// MaxRevocations is how many revocations hold at a time. Those by time of issue alone have some places of their own.
const (
	MaxRevocations = 100_000
	generalPlaces  = 100
)

// Revocation takes tokens back that have not expired. Every member that is given must fit a token; one of the four that pick is needed.
type Revocation struct {
	Issuer  string `json:"issuer,omitempty"`  // only tokens of this one
	Subject string `json:"subject,omitempty"` // auth_subject(): those that were issued at or before Before
	ID      string `json:"id,omitempty"`      // jti
	Session string `json:"session,omitempty"` // sid: those of it that are issued later, too
	// Before is when a token was issued at the latest, in seconds since 1970; 0: when the revocation was made, for Subject. Alone it picks all tokens.
	Before int64 `json:"before,omitempty"`
	At     int64 `json:"at"` // when it was made, in seconds since 1970
}

// ErrRevocation says that a revocation picks nothing.
var ErrRevocation = errors.New("a revocation names a subject, a token id, a session, or a time of issue")

// NewRevocation checks a revocation that is made now.
func NewRevocation(r Revocation, now time.Time) (Revocation, error) {
	for _, s := range []string{r.Issuer, r.Subject, r.ID, r.Session} {
		if len(s) > 1024 {
			return r, errors.New("a member of the revocation has more than 1024 bytes")
		}
	}
	if r.Subject == "" && r.ID == "" && r.Session == "" && r.Before == 0 {
		return r, ErrRevocation
	}
	r.At = now.Unix()
	if r.Before < 0 {
		return r, errors.New("the time of issue is before 1970")
	}
	if r.Before > r.At+60 {
		return r, errors.New("the time of issue is in the future")
	}
	if r.Before == 0 && r.ID == "" && r.Session == "" {
		r.Before = r.At
	}
	return r, nil
}

// String says in words what is revoked, for the audit trail.
func (r Revocation) String() string {
	var out []string
	for _, m := range []struct{ name, value string }{{"issuer", r.Issuer}, {"subject", r.Subject}, {"id", r.ID}, {"session", r.Session}} {
		if m.value != "" {
			out = append(out, m.name+" "+m.value)
		}
	}
	if r.Before != 0 {
		out = append(out, "issued until "+time.Unix(r.Before, 0).UTC().Format(time.RFC3339))
	}
	return strings.Join(out, ", ")
}

// general reports whether the revocation is by time of issue alone.
func (r *Revocation) general() bool { return r.Subject == "" && r.ID == "" && r.Session == "" }

// fits reports whether the revocation takes a token back.
func (r *Revocation) fits(t *Token) bool {
	return (r.Issuer == "" || r.Issuer == t.Issuer) && (r.Subject == "" || r.Subject == t.subject) && (r.ID == "" || r.ID == t.ID) &&
		(r.Session == "" || r.Session == t.Session) && (r.Before == 0 || t.Issued.Unix() <= r.Before)
}

// Revocations is the table of what holds. A revocation goes when every token that it can pick has expired. Safe for concurrent use.
type Revocations struct {
	keep   time.Duration // the longest life of a token, and how far clocks may differ
	leeway int64         // how far clocks may differ, in seconds
	count  atomic.Int64
	added  atomic.Uint64 // see Revised
	mu     struct {
		sync.RWMutex
		all                    map[Revocation]struct{}
		subjects, ids, session map[string][]Revocation
		general                []Revocation // by time of issue alone
		prune                  int          // at how many those that do not matter any more are looked for
	}
}

// NewRevocations returns an empty table for tokens that live so long at most, and whose issuers' clocks may be ahead by leeway.
func NewRevocations(lifetime, leeway time.Duration) *Revocations {
	r := &Revocations{keep: lifetime + leeway, leeway: int64((leeway + time.Second - 1) / time.Second)}
	r.mu.all = map[Revocation]struct{}{}
	r.rebuildLocked()
	return r
}

// Full says why a revocation cannot be made now; nil: it can. One of everything until a time always can: there is one of these.
func (r *Revocations) Full(x *Revocation, now time.Time) *wire.Problem {
	most := MaxRevocations
	if x.general() {
		if most += generalPlaces; x.Issuer == "" {
			return nil
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.mu.all) >= most {
		r.pruneLocked(now)
	}
	if len(r.mu.all) < most {
		return nil
	}
	p := wire.NewProblem(wire.Busy, "as many revocations as the table holds").
		WithHint("revoke everything that was issued until now instead: it always fits, and replaces those of subjects and tokens")
	p.RetryAfterMS = 60_000
	return p
}

// ends returns when a revocation does not matter any more.
func (r *Revocations) ends(x *Revocation) time.Time {
	return time.Unix(max(x.Before, x.At), 0).Add(r.keep + time.Minute)
}

// Add has a revocation hold. One that does not matter any more, or that holds already, changes nothing. One of all tokens until a time replaces those
// that it includes: those until then, and those of a jti that were made then, since the token was issued before. Those of sessions stay.
func (r *Revocations) Add(x Revocation, now time.Time) {
	if !now.Before(r.ends(&x)) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, there := r.mu.all[x]; there {
		return
	}
	if x.general() {
		for _, y := range r.mu.general {
			if x.Before <= y.Before && (y.Issuer == "" || y.Issuer == x.Issuer) {
				return
			}
		}
		for y := range r.mu.all {
			old := y.Before != 0 && y.Before <= x.Before || y.ID != "" && y.At+r.leeway <= x.Before
			if old && (x.Issuer == "" || x.Issuer == y.Issuer) {
				delete(r.mu.all, y)
			}
		}
		r.mu.all[x] = struct{}{}
		r.pruneLocked(now)
		r.added.Add(1)
		return
	}
	r.mu.all[x] = struct{}{}
	r.indexLocked(x)
	if len(r.mu.all) >= r.mu.prune {
		r.pruneLocked(now)
	}
	r.count.Store(int64(len(r.mu.all)))
	r.added.Add(1)
}

// Revised returns a number that is another one once a revocation holds that did not before.
func (r *Revocations) Revised() uint64 { return r.added.Load() }

func (r *Revocations) pruneLocked(now time.Time) {
	for x := range r.mu.all {
		if !now.Before(r.ends(&x)) {
			delete(r.mu.all, x)
		}
	}
	r.rebuildLocked()
}

func (r *Revocations) rebuildLocked() {
	r.mu.subjects, r.mu.ids, r.mu.session, r.mu.general = map[string][]Revocation{}, map[string][]Revocation{}, map[string][]Revocation{}, nil
	for x := range r.mu.all {
		r.indexLocked(x)
	}
	r.mu.prune = max(1024, 2*len(r.mu.all))
	r.count.Store(int64(len(r.mu.all)))
}

// indexLocked puts a revocation under the narrowest of its members.
func (r *Revocations) indexLocked(x Revocation) {
	switch {
	case x.ID != "":
		r.mu.ids[x.ID] = append(r.mu.ids[x.ID], x)
	case x.Session != "":
		r.mu.session[x.Session] = append(r.mu.session[x.Session], x)
	case x.Subject != "":
		r.mu.subjects[x.Subject] = append(r.mu.subjects[x.Subject], x)
	default:
		r.mu.general = append(r.mu.general, x)
	}
}

// Len returns how many revocations are in the table.
func (r *Revocations) Len() int { return int(r.count.Load()) }

// Revoked reports whether a token was taken back.
func (r *Revocations) Revoked(t *Token) bool {
	if r.count.Load() == 0 {
		return false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, list := range [][]Revocation{r.mu.subjects[t.subject], r.mu.ids[t.ID], r.mu.session[t.Session], r.mu.general} {
		for i := range list {
			if list[i].fits(t) {
				return true
			}
		}
	}
	return false
}

// ActRevoke is the act of a revocation in the audit trail; its details are the Revocation. It holds once the log has the record.
const ActRevoke = "revoke"

// FromAct reads a revocation out of the details of an act.
func FromAct(details []byte) (Revocation, bool) {
	var r Revocation
	if json.Unmarshal(details, &r) != nil || r.At == 0 {
		return r, false
	}
	return r, r.Subject != "" || r.ID != "" || r.Session != "" || r.Before != 0
}

// Details returns the revocation as the details of its act.
func (r Revocation) Details() (map[string]any, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	var out map[string]any
	return out, json.Unmarshal(text, &out)
}
