package flow

// Break makes the last operator of a view panic, as a bug of ours would.
func (e *Engine) Break(view int) {
	n := e.views[view].root
	n.one, n.many = broken{}, nil
}

type broken struct{}

func (broken) apply(*exec, []delta) []delta { panic("index out of range") }
func (broken) bytes() int                   { return 0 }
func (broken) name() string                 { return "broken" }
