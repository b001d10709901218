package conform

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// expect does the lines that only look: what they say must become true, or must be true already.
func (p *play) expect(st *step) error {
	switch st.verb {
	case "state":
		c, err := p.client(st.word(0))
		if err != nil {
			return err
		}
		return p.until("the state is "+st.word(1), func() bool {
			return c.state == st.word(1) && (st.word(2) == "" || c.code == st.word(2))
		})
	case "answer":
		return p.answered(st)
	case "answers":
		c, err := p.client(st.word(0))
		if err != nil {
			return err
		}
		return p.until("all of its writes are answered", func() bool {
			for _, w := range c.open {
				if w.answer == nil {
					return false
				}
			}
			return true
		})
	case "opened":
		return p.connections(st)
	}
	s, err := p.sub(st)
	if err != nil {
		return err
	}
	switch st.verb {
	case "fresh":
		return p.until("it is "+st.word(1), func() bool { return s.fresh == st.word(1) && (st.word(2) == "" || s.code == st.word(2)) })
	case "rows":
		return p.until("it has "+st.word(1)+" rows", func() bool { return len(s.rows) == number(st.word(1)) })
	case "partly": // something of it is there, and it goes on without waiting for the rest
		return p.until("rows are coming", func() bool { return len(s.rows) > 0 || s.fresh != "loading" })
	case "has", "lacks":
		return p.until("it "+st.verb+" such a row", func() bool { return s.has(st.json) == (st.verb == "has") })
	case "count":
		return p.count(st, s)
	}
	return fmt.Errorf("%q is no verb", st.verb)
}

// has reports whether a row has these members.
func (s *followed) has(part string) bool {
	var want map[string]any
	if json.Unmarshal([]byte(part), &want) != nil {
		return false
	}
	for _, text := range s.rows {
		var r map[string]any
		if json.Unmarshal([]byte(text), &r) != nil {
			continue
		}
		fits := true
		for k, v := range want {
			fits = fits && fmt.Sprint(r[k]) == fmt.Sprint(v)
		}
		if fits {
			return true
		}
	}
	return false
}

// count compares how often something was told since the last mark: count a.x gap = 1. Where a lane cuts by itself, only what is at least so
// often can be asked.
func (p *play) count(st *step, s *followed) error {
	what, op, n := st.word(1), st.word(2), number(st.word(3))
	p.pump()
	if op == ">=" {
		return p.until("there are so many", func() bool { return s.causes[what] >= n })
	}
	if p.lane.cutting() {
		return nil
	}
	have := s.causes[what]
	if op == "=" && have == n || op == "<=" && have <= n {
		return nil
	}
	return fmt.Errorf("%d", have)
}

// connections compares how many connections there were since the last mark.
func (p *play) connections(st *step) error {
	c, err := p.client(st.word(0))
	if err != nil || c.gate == nil || c.lane.cutting() {
		return err
	}
	op, n, have := st.word(1), number(st.word(2)), c.gate.opened()
	if op == "=" && have == n || op == "<=" && have <= n || op == ">=" && have >= n {
		return nil
	}
	return fmt.Errorf("%d", have)
}

// answered waits for the answer of a client's write and compares it: answer a w1 accepted=1 rejected=0 problem=too_large.
func (p *play) answered(st *step) error {
	c, err := p.client(st.word(0))
	if err != nil {
		return err
	}
	w := c.open[st.word(1)]
	if w == nil {
		return fmt.Errorf("there is no such write")
	}
	if err := p.until("the write is answered", func() bool { return w.answer != nil }); err != nil {
		return err
	}
	a := w.answer
	is := map[string]string{"accepted": fmt.Sprint(a.Accepted), "duplicates": fmt.Sprint(a.Duplicates), "rejected": fmt.Sprint(len(a.Rejected)), "problem": a.Problem}
	if len(a.Rejected) > 0 {
		is["code"] = a.Rejected[0].Code
	}
	for name, want := range st.options {
		if !slices.Contains(strings.Split(want, "|"), is[name]) {
			return fmt.Errorf("%s is %q, in %+v", name, is[name], *a)
		}
	}
	return nil
}
