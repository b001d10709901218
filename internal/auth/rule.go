package auth

import (
	"sync"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// Rule is a condition for rows, of one caller and of all others whom the same is asked of. Read-only, and shared.
type Rule struct {
	Key     string   // canonical text: equal for equal rules
	None    bool     // no row at all
	Members []Member // sets that Cond refers to
	cond    *expr.Node
	sets    []*expr.Membership // of each of Members
}

// Member is a set of values that a rule compares with: those of one column in the rows of a relation for which Cond holds. Subject and claims are
// constants in it already. More members never let fewer rows through.
type Member struct {
	Relation string
	Column   int
	Cond     *expr.Node // over Relation's layout; nil: all rows
	Key      string     // canonical text: equal for equal sets
}

// newRule makes a rule of conditions that must all hold.
func newRule(terms []*expr.Node) *Rule {
	cond, err := expr.And(terms, -1)
	if err != nil {
		cond = expr.BoolLit(false, -1)
	}
	cond = expr.Decided(cond)
	if cond.Kind == expr.KConst && cond.Value.True() {
		return every()
	}
	r := &Rule{Key: cond.String(), cond: cond, None: cond.Kind == expr.KConst}
	cond.Memberships(func(n *expr.Node) {
		m := Member{Relation: n.Set.Relation, Column: n.Set.Column, Cond: n.Set.Cond, Key: n.Set.String()}
		r.sets = append(r.sets, n.Set)
		for i := range r.Members {
			if r.Members[i].Key == m.Key {
				r.sets = r.sets[:len(r.sets)-1]
				return
			}
		}
		r.Members = append(r.Members, m)
	})
	return r
}

// every returns the rule that lets all rows through, which callers see as nil.
func every() *Rule { return &Rule{Key: "true"} }

// Cond returns the condition over the relation's columns, with the values of each of Members' columns: Cond(nil) when there are none. It has nothing of
// the caller left in it, and never fails for a row: a part that would is false. Where a column is compared with a claim, that is a plain term.
func (r *Rule) Cond(sets [][]change.Value) *expr.Node {
	if len(r.Members) == 0 {
		return r.cond
	}
	return r.cond.WithSets(func(m *expr.Membership) []change.Value {
		for i, s := range r.sets {
			if s == m && i < len(sets) {
				return sets[i]
			}
		}
		key := m.String()
		for i := range r.Members {
			if r.Members[i].Key == key && i < len(sets) {
				return sets[i]
			}
		}
		return nil
	})
}

// ruleCache has the rules that were made, up to a bound in bytes: when the newer half is full, it becomes the older one, and what is asked for
// again moves up.
type ruleCache struct {
	mu    sync.RWMutex
	newer map[string]*Rule
	older map[string]*Rule
	bytes int // of newer
	// Rules that read claims, by the token that has them, so that its claims are read once.
	ofToken, olderTokens map[tokenKey]*Rule
}

// tokenKey is all that a rule depends on, for as long as the token lives.
type tokenKey struct {
	s             *secured
	token         *Token
	subject, role string
	cmd           app.Privilege
	check         bool
}

// Bounds of each half of the cache: bytes, and rules by their tokens.
const (
	cacheBytes  = 8 << 20
	cacheTokens = 2048
)

func (c *ruleCache) init() { c.newer, c.ofToken = map[string]*Rule{}, map[tokenKey]*Rule{} }

func (c *ruleCache) byToken(k tokenKey) *Rule {
	c.mu.RLock()
	r, ok := c.ofToken[k]
	if !ok {
		r = c.olderTokens[k]
	}
	c.mu.RUnlock()
	if r != nil && !ok {
		c.keepToken(k, r)
	}
	return r
}

func (c *ruleCache) keepToken(k tokenKey, r *Rule) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ofToken) >= cacheTokens {
		c.olderTokens, c.ofToken = c.ofToken, map[tokenKey]*Rule{}
	}
	c.ofToken[k] = r
}

func (c *ruleCache) get(key []byte) *Rule {
	c.mu.RLock()
	r, ok := c.newer[string(key)]
	old := (*Rule)(nil)
	if !ok {
		old = c.older[string(key)]
	}
	c.mu.RUnlock()
	if old != nil {
		c.put(string(key), old)
		return old
	}
	return r
}

func (c *ruleCache) put(key string, r *Rule) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.newer[key]; known {
		return
	}
	// A rule's nodes take some ten times its text.
	size := len(key) + 10*len(r.Key) + 256
	if c.bytes += size; c.bytes > cacheBytes {
		c.older, c.newer, c.bytes = c.newer, map[string]*Rule{}, size
	}
	c.newer[key] = r
}
