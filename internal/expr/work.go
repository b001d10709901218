package expr

// Matching a text with a pattern is the one thing in a condition whose cost a caller can choose: characters of the text times elements of the pattern.
// RE2 makes that the most it can be; these bounds make it a number.

// Bound makes Spent begin at 0 and lets expressions do at most so much matching until the next Bound: beyond it they fail. Without a Bound, or with 0,
// each match is bounded alone.
func (c *Ctx) Bound(work int) { c.work, c.most = 0, work }

// Spent returns how much matching was done since the last Bound: characters of texts times elements of patterns, about ten nanoseconds each at most.
func (c *Ctx) Spent() int { return c.work }

// spend counts a match before it is done.
func (c *Ctx) spend(work int) error {
	if c.work += work; c.most > 0 && c.work > c.most {
		return tooCostly()
	}
	return nil
}

// Weight returns how many elements the patterns of the condition have together, repetitions written out: what a character of a text costs at most. A
// comparison without a pattern counts nothing.
func (f *Filter) Weight() int {
	if f.cond == nil {
		return 0
	}
	return weight(f.cond)
}

func weight(n *Node) int {
	w := 0
	for _, a := range n.Args {
		w += weight(a)
	}
	if n.Kind != KCall || len(n.Args) != 2 || n.Args[1].Kind != KConst {
		return w
	}
	pattern := n.Args[1].Value.B
	switch n.Func.Name {
	case "~", "!~", "~*", "!~*":
		if p, err := compileRegexp(pattern, regexpFlags{}); err == nil {
			w += p.size
		}
	case "~~", "!~~", "~~*", "!~~*":
		w += len(pattern)
	}
	return w
}
