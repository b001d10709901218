package push

import (
	"slices"
	"strings"

	"laaster/internal/auth"
	"laaster/internal/expr"
	"laaster/internal/wire"
)

// era is what can be read, and by whom, between two definitions of the app.
type era struct {
	byName map[string]*expr.Relation
	rules  Rules
}

func newEra(rels []*expr.Relation, rules Rules) *era {
	w := &era{make(map[string]*expr.Relation, len(rels)), rules}
	for _, r := range rels {
		w.byName[r.Name] = r
	}
	return w
}

// readable returns what p sees now of the view or table of this name, or why nothing.
func (h *Hub) readable(p auth.Principal, name string) (sight, *wire.Problem) {
	w := h.era.Load()
	rel := w.byName[name]
	if p.Token != nil { // it may have waited
		if ended := h.opt.Ended(p); ended != nil {
			return sight{}, ended
		}
	}
	if rel == nil {
		return sight{}, noSuchView()
	}
	return w.sight(p, rel)
}

// access is readable for what somebody asks for anew.
func (h *Hub) access(p auth.Principal, name string) (sight, *wire.Problem) {
	seen, refused := h.readable(p, name)
	if h.opt.Access != nil && h.era.Load().byName[name] != nil {
		if own := h.opt.Access(p, name, refused); refused == nil && own != nil {
			return sight{}, own
		}
	}
	return seen, refused
}

// unlike reports whether what p sees of q's view is not what q was made for.
func (h *Hub) unlike(p auth.Principal, q *query) bool {
	now, refused := h.readable(p, q.rel.Name)
	return refused != nil || !now.same(q.sight)
}

// current reports whether rel is what its name stands for.
func (h *Hub) current(rel *expr.Relation) bool { return h.era.Load().byName[rel.Name] == rel }

func noSuchView() *wire.Problem {
	return wire.NewProblem(wire.UnknownView, "no view or table has this name").WithField("view", "names are declared in app.sql")
}

// Redefine makes rels, relations of the store, what can be read from now on as rules let. It is called by the store's writer, between
// view.Store.Redefine and the next epoch; once that is applied, Settle moves those who follow. Nobody is told of that epoch before.
func (h *Hub) Redefine(rels []*expr.Relation, rules Rules) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.store.Relations()) - len(h.mu.feeds); n > 0 {
		h.mu.feeds = append(h.mu.feeds, make([]feeds, n)...)
	}
	h.era.Store(newEra(rels, rules))
	h.mu.unsettled = true
}

// Settle moves live subscriptions to what Redefine made of their views: those of a relation that another one has replaced, or of which their client sees
// other rows or columns now, get its rows, those of one that is gone or that their client may no longer read get an error; all others do not notice. The rows are written by
// goroutines of the hub.
func (h *Hub) Settle() {
	h.mu.Lock()
	h.mu.recent = recent{} // rows under new rules are those of the definition's position, or later ones
	h.mu.Unlock()
	for _, c := range h.connections() {
		c.renewed()
		c.redefine(false)
	}
	h.signals.settle()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.unsettled = false
	select {
	case h.applied <- struct{}{}:
	default:
	}
	for rel := range h.mu.stale {
		if !h.current(rel) {
			delete(h.mu.stale, rel)
		}
	}
}

// authorized makes p whom the connection speaks for: its subscriptions are looked at again, as after a change of the app. What p sees as the one before
// did goes on unnoticed, of what he sees otherwise he gets the rows, and what he may not see ends with an error.
func (c *conn) authorized(p auth.Principal) {
	if p == c.asks() {
		return
	}
	c.who.Store(&p)
	c.stirred.Store(true)
	c.renewed() // Settle may have passed since it was identified
	c.redefine(true)
	c.retune()
}

// held is a subscription as it was.
type held struct {
	id   string
	feed *feed
}

// redefine moves the connection's subscriptions to what their views are now. With asked its client brought that about: each counts as one that it begins.
func (c *conn) redefine(asked bool) {
	c.arranging.Lock()
	defer c.arranging.Unlock()
	var olds []held
	who := c.asks()
	c.mu.Lock()
	for id, f := range c.mu.subs {
		if c.h.unlike(who, f.q) {
			olds = append(olds, held{id, f})
		}
	}
	c.mu.Unlock()
	slices.SortFunc(olds, func(a, b held) int { return strings.Compare(a.id, b.id) })
	for _, o := range olds {
		c.replace(o, asked)
	}
	if len(olds) > 0 {
		c.kick(true)
	}
}

// replace moves one subscription. The caller holds c.arranging.
func (c *conn) replace(o held, asked bool) {
	var next *feed
	p := c.chargeable(asked)
	if p == nil {
		next, p = c.h.successor(c, o.feed, asked)
	}
	c.mu.Lock()
	if c.mu.over || c.mu.subs[o.id] != o.feed { // it ended meanwhile
		c.mu.Unlock()
		if next != nil {
			c.h.releaseFeed(next)
		}
		return
	}
	c.mu.ops = append(c.mu.ops, op{id: o.id, feed: o.feed, end: true})
	if next != nil {
		c.mu.subs[o.id] = next
		c.mu.ops = append(c.mu.ops, op{id: o.id, feed: next})
	} else {
		delete(c.mu.subs, o.id)
	}
	c.mu.Unlock()
	switch {
	case p != nil:
		c.refuse(o.id, p)
		if c.enc == eventStream { // nothing else is on it
			c.goodbye(p.Code, p.Detail, 0, 0)
		}
	case c.h.stale(o.feed.q.rel) != "" && c.h.stale(next.q.rel) == "":
		c.reply(c.frame("freshness", &wire.FreshnessFrame{ID: o.id, State: wire.FreshLive, Since: c.h.millis()}))
	}
}

// chargeable says why a subscription may not begin anew, if its client asked for that.
func (c *conn) chargeable(asked bool) *wire.Problem {
	if !asked {
		return nil
	}
	return c.h.opt.Limiter.Subscribe(c.asks())
}

// successor returns the feed that asks of a view's present definition what f asked of an earlier one, or says why there is none.
func (h *Hub) successor(c *conn, f *feed, asked bool) (*feed, *wire.Problem) {
	look := h.readable
	if asked {
		look = h.access
	}
	seen, p := look(c.asks(), f.q.rel.Name)
	if p != nil {
		return nil, p
	}
	q, p := newQuery(seen, f.q.raw, f.q.exact, true)
	if p != nil {
		return nil, p
	}
	return h.acquireFeed(q)
}

// SetStale tells everybody who follows a relation that it stands still, with the reason, until it is redefined; so are those told who come
// later.
func (h *Hub) SetStale(rel *expr.Relation, reason string) {
	h.mu.Lock()
	if h.mu.stale == nil {
		h.mu.stale = map[*expr.Relation]string{}
	}
	h.mu.stale[rel] = reason
	h.mu.Unlock()
	for _, c := range h.connections() {
		c.mu.Lock()
		var ids []string
		for id, f := range c.mu.subs {
			if f.q.rel == rel {
				ids = append(ids, id)
			}
		}
		c.mu.Unlock()
		for _, id := range ids {
			c.tellStale(id, reason)
		}
	}
}

// Subscriptions counts the live subscriptions of a view or table.
func (h *Hub) Subscriptions(name string) int {
	count := 0
	for _, c := range h.connections() {
		c.mu.Lock()
		for _, f := range c.mu.subs {
			if f.q.rel.Name == name {
				count++
			}
		}
		c.mu.Unlock()
	}
	return count
}

// stale returns why a relation stands still; empty: it does not.
func (h *Hub) stale(rel *expr.Relation) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.stale[rel]
}

func (c *conn) tellStale(id, reason string) {
	c.reply(c.frame("freshness", &wire.FreshnessFrame{ID: id, State: wire.FreshStale, Since: c.h.millis(), Reason: reason}))
}
