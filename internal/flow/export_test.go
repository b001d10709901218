package flow

import (
	"fmt"

	"laaster/internal/checkpoint"
)

// Break makes the last operator of a view panic, as a bug of ours would.
func (e *Engine) Break(view int) {
	n := e.views[view].root
	n.one, n.many = broken{}, nil
}

// Guarded returns opt for an engine that finds changes of its state that no checkpoint would have.
func Guarded(opt Options) Options {
	opt.guard = true
	return opt
}

type broken struct{}

func (broken) apply(*exec, []delta) []delta { panic("index out of range") }
func (broken) bytes() int                   { return 0 }
func (broken) state(*keeper)                {}
func (broken) name() string                 { return "broken" }

// Holding names the types of the operators and accumulators of the engine that hold state.
func (e *Engine) Holding() (names []string) {
	add := func(what any, bytes int) {
		if bytes > 0 {
			names = append(names, fmt.Sprintf("%T", what))
		}
	}
	accumulators := func(acc accumulator) {
		for acc != nil {
			add(acc, acc.bytes())
			switch a := acc.(type) {
			case *distinct:
				acc = a.accumulator
			case averageOf:
				acc = a.averager
			default:
				acc = nil
			}
		}
	}
	for _, n := range e.steps {
		if n.one != nil {
			add(n.one, n.one.bytes())
		} else if n.many != nil {
			add(n.many, n.many.bytes())
		}
		if n.errors.rows > 0 {
			add(n.errors, 1)
		}
		switch o := n.one.(type) {
		case *aggregate:
			for _, g := range o.working {
				accumulators(g.accumulator)
			}
			for _, d := range o.sets {
				add(d, d.bytes())
			}
			if o.closes != nil {
				add(o.closes, o.closes.tree.bytes())
			}
		case *over:
			for i := range o.calls {
				if acc := o.calls[i].acc; acc != nil {
					accumulators(acc)
				}
			}
		case *sessionSum:
			for i := range o.aggs {
				accumulators(o.aggs[i].accumulator)
			}
		}
	}
	for _, v := range e.views {
		switch {
		case v.sink.seen != nil:
			add(v.sink.seen, v.sink.bytes())
		case v.sink.bag != nil:
			names = append(names, "bag")
		}
		if v.late.count > 0 {
			add(&v.late, 1)
		}
		if v.stopped != nil {
			add(v.stopped, 1)
		}
	}
	for _, t := range e.tables {
		add(t, t.rows.n)
		if t.wm != nil && t.wm.max != minTime {
			add(t.wm, 1)
		}
		if t.ttl != nil {
			add(t.ttl, t.ttl.bytes())
		}
		if t.seen != nil {
			add(t.seen, t.seen.t.n)
		}
	}
	if len(e.marks.groups) > 0 {
		add(e.marks, 1)
	}
	if e.seen.t.n > 0 {
		names = append(names, "seen")
	}
	if e.requests.t.n > 0 {
		names = append(names, "requests")
	}
	add(&e.producers, e.producers.t.n)
	add(&e.audit, e.audit.rows.n)
	return names
}

// LoadRoot loads an engine from a root that is not the checkpoint's own.
func LoadRoot(p *Program, from *checkpoint.State, root []byte) error {
	k := loadingFrom(from, root, 0)
	scopes := formState(k, nil)
	if len(scopes) != len(p.Views) || k.err != nil {
		return fmt.Errorf("%d views: %w", len(scopes), k.err)
	}
	e, err := newEngine(p, Options{}, scopes)
	if err != nil {
		return err
	}
	e.state(k)
	return k.loaded()
}
