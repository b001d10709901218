package conform

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// watched is a client as its events show it.
type watched struct {
	name     string // in the script
	id       string // for the driver
	d        *driver
	lane     lane
	gate     *gate // nil: it has a direct connection
	state    string
	code     string
	went     map[string]int // states entered since the last mark
	mayClose bool           // the script expects that it gives up
	began    int            // connections
	away     bool           // it cannot reach the server now: nothing is expected of it
	subs     map[string]*followed
	open     map[string]*written // writes by name
}

// written is a write that a client was told to make.
type written struct {
	table, op string
	rows      []row
	key       string // of the row: rooms.name
	answer    *answer
	command   command
}

// followed is a subscription as its events show it: its rows are the changes applied to nothing.
type followed struct {
	q      query
	key    []string
	rows   map[string]string // by key, canonical
	order  []string          // as the client showed them last; nil: not shown
	at     string            // the newest position told
	fresh  string
	code   string
	causes map[string]int // since the last mark
	left   bool           // the client was told to leave it
	gone   bool           // and has left it
}

// claim is what a client told: these were the rows at that position.
type claim struct {
	who  string
	q    query
	at   string
	rows []string // sorted
}

// take notes an event and checks what can be checked at once. Whatever depends on the model is a claim.
func (c *watched) take(e *event) (*claim, error) {
	switch e.Ev {
	case "fatal":
		return nil, fmt.Errorf("%s: %s", c.name, e.Text)
	case "began":
		c.began++
		return nil, nil
	case "state":
		c.state, c.code = e.Name, e.Code
		if e.Name == "closed" && !c.mayClose {
			return nil, fmt.Errorf("%s closed by itself: %s", c.name, e.Code)
		}
		c.went[e.Name]++
		return nil, nil
	case "result":
		w := c.open[e.Write]
		if w == nil || w.answer != nil {
			return nil, fmt.Errorf("%s: write %q was answered without being asked, or twice", c.name, e.Write)
		}
		a := e.answer
		w.answer = &a
		return nil, nil
	}
	s := c.subs[e.Sub]
	if s == nil || s.left {
		if s != nil && s.gone && e.Ev == "rows" {
			return nil, fmt.Errorf("%s.%s: rows were told after it was left", c.name, e.Sub)
		}
		if s != nil && e.Ev == "left" {
			s.gone = true
		}
		return nil, nil
	}
	who := c.name + "." + e.Sub
	switch e.Ev {
	case "fresh":
		s.fresh, s.code = e.Name, e.Code
	case "rows":
		if err := s.apply(e, c.hoped()); err != nil {
			return nil, fmt.Errorf("%s: %w", who, err)
		}
		if c.hoping(s) {
			return nil, nil
		}
		return &claim{who, s.q, s.at, s.sorted()}, nil
	}
	return nil, nil
}

// hoped reports whether the client showed rows before they were decided.
func (c *watched) hoped() bool {
	for _, w := range c.open {
		if w.command.Hope {
			return true
		}
	}
	return false
}

// hoping reports whether rows may show what the server has not decided yet.
func (c *watched) hoping(s *followed) bool {
	return c.hopes(s.at)
}

// ahead reports whether a look found rows that may not be decided yet.
func (c *watched) ahead(found *event) bool {
	for _, is := range found.Subs {
		if c.hopes(is.Position) {
			return true
		}
	}
	return false
}

// hopes reports whether a write that was shown at once is not in the rows of this position.
func (c *watched) hopes(text string) bool {
	_, at, err := position(text)
	for _, w := range c.open {
		if !w.command.Hope {
			continue
		}
		if w.answer == nil {
			return true
		}
		if w.answer.Accepted == 0 { // taken back
			continue
		}
		if _, seq, errOf := position(w.answer.Position); err != nil || errOf == nil && seq > at {
			return true
		}
	}
	return false
}

// apply takes changes. Each must fit the rows before it: what comes twice does not. Where a write was hoped for, the truth that takes its place
// may be the same.
func (s *followed) apply(e *event, hoped bool) error {
	s.causes[e.Cause]++
	if e.Cause != "optimistic" && e.Cause != "rollback" { // these are beside the positions
		if err := s.move(e.Position, e.Cause); err != nil {
			return err
		}
	}
	s.key = e.Key
	for _, ch := range e.Changes {
		text := ch.Row
		if ch.Op == "delete" {
			text = ch.Old
		}
		key, err := keyOf(text, e.Key)
		if err != nil {
			return err
		}
		was, had := s.rows[key]
		now := canonical(ch.Row)
		switch {
		case ch.Op == "insert" && !had:
			s.rows[key] = now
		case ch.Op == "update" && had && (now != was || hoped) && (ch.Old == nil || canonical(ch.Old) == was):
			s.rows[key] = now
		case ch.Op == "delete" && had && canonical(ch.Old) == was:
			delete(s.rows, key)
		default:
			return fmt.Errorf("at %s (%s): %s %s (old %s) does not fit: the row was %q", e.Position, e.Cause, ch.Op, ch.Row, ch.Old, was)
		}
	}
	s.order = nil
	if e.Rows != nil {
		return s.shown(e.Rows)
	}
	return nil
}

// move takes a position: they only grow, unless the history is gone.
func (s *followed) move(at, cause string) error {
	log, seq, err := position(at)
	if err != nil {
		return err
	}
	if s.at != "" && cause == "epoch" {
		wasLog, was, _ := position(s.at)
		if log != wasLog || seq < was {
			return fmt.Errorf("an epoch at %s after %s", at, s.at)
		}
	}
	s.at = at
	return nil
}

// shown compares the rows that the client shows with what it told.
func (s *followed) shown(raw []json.RawMessage) error {
	s.order = make([]string, 0, len(raw))
	for _, r := range raw {
		s.order = append(s.order, canonical(r))
	}
	have := slices.Sorted(slices.Values(s.order))
	if want := s.sorted(); !slices.Equal(have, want) {
		return fmt.Errorf("at %s it shows %s, and what it told makes %s", s.at, brief(have), brief(want))
	}
	return nil
}

func (s *followed) sorted() []string {
	out := make([]string, 0, len(s.rows))
	for _, r := range s.rows {
		out = append(out, r)
	}
	slices.Sort(out)
	return out
}

// live reports whether the rows are said to be current.
func (s *followed) live() bool { return s.fresh == "live" }

func keyOf(raw json.RawMessage, columns []string) (string, error) {
	var r map[string]json.RawMessage
	if err := json.Unmarshal(raw, &r); err != nil {
		return "", fmt.Errorf("a row that is no object: %s", raw)
	}
	var b strings.Builder
	for _, c := range columns {
		if r[c] == nil {
			return "", fmt.Errorf("the row %s has no key column %s", raw, c)
		}
		b.Write(r[c])
		b.WriteByte(',')
	}
	return b.String(), nil
}

// brief shows the first rows of many.
func brief(rows []string) string {
	if len(rows) > 8 {
		return fmt.Sprintf("%d rows: %s …", len(rows), strings.Join(rows[:8], " "))
	}
	return "[" + strings.Join(rows, " ") + "]"
}

// prove compares claims with the model: each was the state of its position. Call it when no write is under way.
func (m *model) prove(claims []claim) error {
	type place struct {
		q  query
		at string
	}
	known := map[place][]string{}
	for _, c := range claims {
		if !m.knows(c.q.View) {
			continue
		}
		log, seq, err := position(c.at)
		if err != nil {
			return err
		}
		if m.log != "" && log != m.log {
			return fmt.Errorf("%s was told %s, which is of another log than %s", c.who, c.at, m.log)
		}
		want, ok := known[place{c.q, c.at}]
		if !ok {
			if want, err = m.rows(&c.q, seq); err != nil {
				return err
			}
			slices.Sort(want)
			known[place{c.q, c.at}] = want
		}
		if !slices.Equal(want, c.rows) {
			return fmt.Errorf("%s had at %s not the rows of that position (%+v):\n  had  %s\n  want %s", c.who, c.at, c.q, difference(c.rows, want), difference(want, c.rows))
		}
	}
	return nil
}

// difference shows what a has beside b.
func difference(a, b []string) string {
	var out []string
	for _, r := range a {
		if !slices.Contains(b, r) {
			out = append(out, r)
		}
	}
	return fmt.Sprintf("%d rows, among them only here: %s", len(a), brief(out))
}
