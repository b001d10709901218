package flow

import (
	"strings"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// memoized returns f, or a function that computes what f does and remembers the last result where that serves a whole span of time: a day
// printed by to_char is the same for all rows of the day. arg is the instant that f prints.
func memoized(f, arg expr.Func, span int64) expr.Func {
	var last change.Value
	var buf []byte
	var have bool
	var at int64
	return func(c *expr.Ctx) (change.Value, error) {
		v, err := arg(c)
		if err != nil || v.Null {
			return f(c)
		}
		k := v.N / span
		if v.N%span < 0 {
			k--
		}
		if have && k == at {
			return last, nil
		}
		r, err := f(c)
		if err != nil || r.Null {
			return r, err
		}
		buf = append(buf[:0], r.B...)
		last, at, have = change.Bytes(buf), k, true
		return last, nil
	}
}

// compileMemoized compiles n, memoized where that is possible.
func compileMemoized(n *expr.Node, in *change.Layout) (expr.Func, error) {
	f, err := compileOne(n, in)
	span := printedSpan(n)
	if err != nil || span == 0 {
		return f, err
	}
	arg, err := compileOne(n.Args[0], in)
	return memoized(f, arg, span), err
}

// printedSpan returns how many microseconds, from a multiple of it on, n prints alike: n must be to_char of an instant with a constant
// format of the commonest fields; else 0.
func printedSpan(n *expr.Node) int64 {
	if n.Kind != expr.KCall || n.Func.Name != "to_char" || len(n.Args) != 2 {
		return 0
	}
	format := n.Args[1]
	if t := n.Args[0].Type; t != app.Timestamp && t != app.Timestamptz || format.Kind != expr.KConst || format.Value.Null {
		return 0
	}
	const second = 1_000_000
	span := int64(24 * 3600 * second)
	s := string(format.Value.B)
	for s != "" {
		field := ""
		for _, f := range []string{"YYYY", "MM", "DD", "HH24", "MI", "SS"} {
			if strings.HasPrefix(s, f) {
				field = f
			}
		}
		switch {
		case field == "HH24", field == "MI":
			span = min(span, 60*second)
		case field == "SS":
			span = second
		case field == "" && !strings.ContainsRune(" -/.,:;", rune(s[0])):
			return 0
		}
		s = s[max(1, len(field)):]
	}
	return span
}
