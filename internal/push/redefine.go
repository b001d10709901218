package push

import (
	"laaster/internal/auth"
	"laaster/internal/expr"
	"laaster/internal/wire"
)

// era is what can be read, and by whom, between two definitions of the app.
type era struct {
	byName    map[string]*expr.Relation
	authorize func(p auth.Principal, relation string) *wire.Problem
}

func newEra(rels []*expr.Relation, authorize func(auth.Principal, string) *wire.Problem) *era {
	w := &era{make(map[string]*expr.Relation, len(rels)), authorize}
	for _, r := range rels {
		w.byName[r.Name] = r
	}
	return w
}

// readable returns the view or table of this name that p may read now, or why there is none.
func (h *Hub) readable(p auth.Principal, name string) (*expr.Relation, *wire.Problem) {
	w := h.era.Load()
	rel := w.byName[name]
	if rel == nil {
		return nil, noSuchView()
	}
	if p := w.authorize(p, name); p != nil {
		return nil, p
	}
	return rel, nil
}

// access is readable for what somebody asks for anew.
func (h *Hub) access(p auth.Principal, name string) (*expr.Relation, *wire.Problem) {
	rel, refused := h.readable(p, name)
	if h.opt.Access != nil && h.era.Load().byName[name] != nil {
		if own := h.opt.Access(p, name, refused); refused == nil && own != nil {
			return nil, own
		}
	}
	return rel, refused
}

// current reports whether rel is what its name stands for.
func (h *Hub) current(rel *expr.Relation) bool { return h.era.Load().byName[rel.Name] == rel }

func noSuchView() *wire.Problem {
	return wire.NewProblem(wire.UnknownView, "no view or table has this name").WithField("view", "names are declared in app.sql")
}

// Redefine makes rels, relations of the store, what can be read from now on by those whom authorize lets. It is called by the store's writer, between
// view.Store.Redefine and the next epoch; once that is applied, Settle moves those who follow.
func (h *Hub) Redefine(rels []*expr.Relation, authorize func(p auth.Principal, relation string) *wire.Problem) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.store.Relations()) - len(h.mu.feeds); n > 0 {
		h.mu.feeds = append(h.mu.feeds, make([]feeds, n)...)
	}
	h.era.Store(newEra(rels, authorize))
}

// Settle moves live subscriptions to what Redefine made of their views: those of a relation that another one has replaced get its rows,
// those of one that is gone or that their client may no longer read get an error; all others do not notice. The rows are written by
// goroutines of the hub.
func (h *Hub) Settle() {
	for _, c := range h.connections() {
		c.redefine()
	}
	h.signals.settle()
	h.mu.Lock()
	defer h.mu.Unlock()
	for rel := range h.mu.stale {
		if !h.current(rel) {
			delete(h.mu.stale, rel)
		}
	}
}

// held is a subscription as it was.
type held struct {
	id   string
	feed *feed
}

// redefine moves the connection's subscriptions to what their views are now.
func (c *conn) redefine() {
	c.arranging.Lock()
	defer c.arranging.Unlock()
	var olds []held
	c.mu.Lock()
	for id, f := range c.mu.subs {
		if rel, p := c.h.readable(c.who, f.q.rel.Name); rel != f.q.rel || p != nil {
			olds = append(olds, held{id, f})
		}
	}
	c.mu.Unlock()
	for _, o := range olds {
		c.replace(o)
	}
	if len(olds) > 0 {
		c.kick(true)
	}
}

// replace moves one subscription. The caller holds c.arranging.
func (c *conn) replace(o held) {
	next, p := c.h.successor(c, o.feed)
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

// successor returns the feed that asks of a view's present definition what f asked of an earlier one, or says why there is none.
func (h *Hub) successor(c *conn, f *feed) (*feed, *wire.Problem) {
	rel, p := h.readable(c.who, f.q.rel.Name)
	if p != nil {
		return nil, p
	}
	q, p := newQuery(rel, f.q.raw, f.q.exact, true)
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
