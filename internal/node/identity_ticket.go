package node

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"laaster/internal/auth"
	"laaster/internal/kit/run"
	"laaster/internal/push"
	"laaster/internal/wire"
)

// Tickets let a page open an EventSource, which cannot send a token: it gets a ticket with its token and names that in the address. Whoever reads the
// address later, in a log or a history, has nothing: a ticket is good once, for 30 seconds, from where it was given to.
const (
	ticketLife = 30 * time.Second
	mostTicket = 100_000 // given and not used
	mostOwn    = 64      // of one subject
	ticketName = "_ticket"
)

// ticketKey is the context key of the principal of a request that brought a ticket.
type ticketKey struct{}

// ticket is what is known of a ticket that was given.
type ticket struct {
	who    auth.Principal
	origin string
	from   netip.Prefix
	until  time.Time
}

// tickets are those that were given and not used. Safe for concurrent use.
type tickets struct {
	clock run.Clock
	mu    struct {
		sync.Mutex
		given map[string]ticket
		own   map[string]int // by subject
		line  []string       // in the order of until; about half of them may have been used
	}
}

func newTickets(clock run.Clock) *tickets {
	t := &tickets{clock: clock}
	t.mu.given, t.mu.own = map[string]ticket{}, map[string]int{}
	return t
}

// give returns a new ticket.
func (t *tickets) give(who auth.Principal, origin string) (string, *wire.Problem) {
	now := t.clock.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.mu.line) > 0 {
		first, there := t.mu.given[t.mu.line[0]]
		if there && now.Before(first.until) {
			break
		}
		t.dropLocked(t.mu.line[0])
		t.mu.line = t.mu.line[1:]
	}
	if len(t.mu.line) > 2*max(len(t.mu.given), mostOwn) {
		t.mu.line = slices.DeleteFunc(t.mu.line, func(name string) bool { _, there := t.mu.given[name]; return !there })
	}
	if t.mu.own[who.Subject] >= mostOwn || len(t.mu.given) >= mostTicket {
		p := wire.NewProblem(wire.RateLimited, "too many tickets that were not used").WithHint("use them, or wait until they are over")
		p.RetryAfterMS = int(ticketLife / time.Millisecond)
		return "", p
	}
	name := rand.Text()
	t.mu.given[name] = ticket{who, origin, nearby(who.From), now.Add(ticketLife)}
	t.mu.own[who.Subject]++
	t.mu.line = append(t.mu.line, name)
	return name, nil
}

func (t *tickets) dropLocked(name string) {
	x, there := t.mu.given[name]
	if !there {
		return
	}
	delete(t.mu.given, name)
	if t.mu.own[x.who.Subject]--; t.mu.own[x.who.Subject] == 0 {
		delete(t.mu.own, x.who.Subject)
	}
}

// take uses a ticket up, also when it is brought from elsewhere.
func (t *tickets) take(name, origin string, from netip.Addr) (auth.Principal, bool) {
	t.mu.Lock()
	x, there := t.mu.given[name]
	t.dropLocked(name)
	t.mu.Unlock()
	if !there || !t.clock.Now().Before(x.until) || x.origin != origin || x.from != nearby(from) {
		return auth.Principal{}, false
	}
	return x.who, true
}

// nearby is the network of an address: a phone's may change a little.
func nearby(a netip.Addr) netip.Prefix {
	bits := 64
	if a.Is4() {
		bits = 24
	}
	p, _ := a.Prefix(bits) // the zero prefix for no address
	return p
}

// Ticket is what POST /v1/ticket answers.
type Ticket struct {
	Ticket    string `json:"ticket"`
	ExpiresMS int64  `json:"expires_in_ms"`
}

// serveTicket is POST /v1/ticket.
func (n *Node) serveTicket(w http.ResponseWriter, q *http.Request) {
	who, problem := n.principal(q)
	if problem == nil && who.Token == nil {
		problem = wire.NewProblem(wire.Unauthenticated, "a ticket stands for a token, and there is none").
			WithField("Authorization", "send Authorization: Bearer …; without a token no ticket is needed")
	}
	if problem == nil && n.limits != nil {
		problem = n.limits.Ask(who, 0)
	}
	var t Ticket
	if problem == nil {
		t.Ticket, problem = n.callers.tickets.give(who, pageOf(q))
	}
	if problem != nil {
		n.refuse(w, q, problem)
		return
	}
	t.ExpiresMS = ticketLife.Milliseconds()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(t) // the caller may be gone
}

// pageOf returns the origin of the page that a request comes from; "": the server's own, of which browsers say nothing when they read, or none.
func pageOf(q *http.Request) string {
	origin := q.Header.Get("Origin")
	if _, host, _ := strings.Cut(origin, "://"); host == q.Host {
		return ""
	}
	return origin
}

// refuse answers with a problem and counts it.
func (n *Node) refuse(w http.ResponseWriter, q *http.Request, p *wire.Problem) {
	n.metrics.Refused.WithLabelValues(string(p.Code)).Inc()
	n.problems.answer(w, q, p)
}

// ticketed serves a stream of events whose request may bring a ticket. It takes the ticket out of the address before anybody else sees it.
func (n *Node) ticketed(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		if !strings.Contains(q.URL.RawQuery, ticketName) {
			next(w, q)
			return
		}
		name, rest := cutTicket(q.URL.RawQuery)
		if name == "" {
			next(w, q)
			return
		}
		who, ok := n.callers.tickets.take(name, pageOf(q), auth.Principal{}.At(q.RemoteAddr).From)
		var problem *wire.Problem
		switch {
		case !ok:
			problem = wire.NewProblem(wire.Unauthenticated, "the ticket is not good: it was used, is over, or was given to somebody else").
				WithField(ticketName, "get a new one: POST /v1/ticket with the token")
		case q.Header.Get("Authorization") != "" || !push.AsksEvents(q):
			problem = wire.NewProblem(wire.InvalidRequest, "a ticket is for a stream of events without a token").WithField(ticketName, "send Authorization: Bearer … instead")
		default:
			problem = n.callers.verifier.Ended(who)
		}
		if problem != nil {
			problem = n.lingering(q.Context(), n.distrust(auth.Principal{}.At(q.RemoteAddr), problem))
			n.refuse(w, q, problem)
			return
		}
		who = n.callers.verifier.Again(who)
		q = q.WithContext(context.WithValue(q.Context(), ticketKey{}, &who))
		u := *q.URL
		u.RawQuery = rest
		q.URL = &u
		next(w, q)
	}
}

// cutTicket takes the ticket out of a query string.
func cutTicket(query string) (name, rest string) {
	var others []string
	for part := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(part, "=")
		if key != ticketName {
			others = append(others, part)
			continue
		}
		if v, err := url.QueryUnescape(value); err == nil && name == "" {
			name = v
		}
		if name == "" {
			name = "-" // which is no ticket
		}
	}
	return name, strings.Join(others, "&")
}
