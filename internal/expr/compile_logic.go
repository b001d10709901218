package expr

import (
	"slices"

	"laaster/app"
	"laaster/internal/change"
)

// compileAnd stops at the first false, so what follows it cannot fail.
func compileAnd(args []Func) Func {
	if len(args) == 2 {
		x, y := args[0], args[1]
		return func(c *Ctx) (change.Value, error) {
			a, err := x(c)
			if err != nil || !a.Null && a.N == 0 {
				return a, err
			}
			b, err := y(c)
			if err != nil || !b.Null && b.N == 0 || !a.Null {
				return b, err
			}
			return a, nil
		}
	}
	return func(c *Ctx) (change.Value, error) {
		result := change.Bool(true)
		for _, f := range args {
			v, err := f(c)
			if err != nil || !v.Null && v.N == 0 {
				return v, err
			}
			if v.Null {
				result = v
			}
		}
		return result, nil
	}
}

// compileOr stops at the first true.
func compileOr(args []Func) Func {
	return func(c *Ctx) (change.Value, error) {
		result := change.Bool(false)
		for _, f := range args {
			v, err := f(c)
			if err != nil || v.True() {
				return v, err
			}
			if v.Null {
				result = v
			}
		}
		return result, nil
	}
}

func compileNot(x Func) Func {
	return func(c *Ctx) (change.Value, error) {
		v, err := x(c)
		if err != nil || v.Null {
			return v, err
		}
		return change.Int(1 - v.N), nil
	}
}

func compileIsNull(x Func) Func {
	return func(c *Ctx) (change.Value, error) {
		v, err := x(c)
		return change.Bool(v.Null), err
	}
}

func compileDistinct(x, y Func, t app.Type) Func {
	compare := comparer(t)
	return func(c *Ctx) (change.Value, error) {
		a, err := x(c)
		if err != nil {
			return a, err
		}
		b, err := y(c)
		if err != nil {
			return b, err
		}
		if a.Null || b.Null {
			return change.Bool(a.Null != b.Null), nil
		}
		return change.Bool(compare(a, b) != 0), nil
	}
}

// compileCase takes when, then, when, then, …, else.
func compileCase(args []Func) Func {
	other := args[len(args)-1]
	return func(c *Ctx) (change.Value, error) {
		for i := 0; i+1 < len(args); i += 2 {
			v, err := args[i](c)
			if err != nil {
				return v, err
			}
			if v.True() {
				return args[i+1](c)
			}
		}
		return other(c)
	}
}

func compileCoalesce(args []Func) Func {
	return func(c *Ctx) (change.Value, error) {
		for _, f := range args {
			v, err := f(c)
			if err != nil || !v.Null {
				return v, err
			}
		}
		return change.Null(), nil
	}
}

// compileIn compares with constants by a set, where there are many of them and the type's equality is that of its bytes.
func compileIn(n *Node, args []Func) Func {
	t := n.Args[0].Type
	if hashable(t) && !slices.ContainsFunc(n.Args[1:], func(a *Node) bool { return a.Kind != KConst }) {
		return compileInSet(n, args[0])
	}
	compare := comparer(t)
	return func(c *Ctx) (change.Value, error) {
		x, err := args[0](c)
		if err != nil || x.Null {
			return x, err
		}
		result := change.Bool(false)
		for _, f := range args[1:] {
			v, err := f(c)
			switch {
			case err != nil:
				return v, err
			case v.Null:
				result = v
			case compare(x, v) == 0:
				return change.Bool(true), nil
			}
		}
		return result, nil
	}
}

// hashable reports whether equal values of the type are equal as Values.
func hashable(t app.Type) bool {
	switch t {
	case app.Bool, app.Int4, app.Int8, app.Float8, app.Timestamptz, app.Timestamp, app.Date, app.Text, app.UUID:
		return true
	}
	return false
}

func compileInSet(n *Node, x Func) Func {
	missing := change.Bool(false)
	ints, texts := map[int64]struct{}{}, map[string]struct{}{}
	inB := false
	for _, a := range n.Args[1:] {
		switch t := a.Type; {
		case a.Value.Null:
			missing = change.Null()
		case t == app.Text || t == app.UUID:
			inB = true
			texts[string(a.Value.B)] = struct{}{}
		default:
			ints[a.Value.N] = struct{}{}
		}
	}
	if inB && len(n.Args) <= smallSet {
		return inSmallSet(n, x, missing)
	}
	if inB {
		return func(c *Ctx) (change.Value, error) {
			v, err := x(c)
			if err != nil || v.Null {
				return v, err
			}
			if _, ok := texts[string(v.B)]; ok {
				return change.Bool(true), nil
			}
			return missing, nil
		}
	}
	return func(c *Ctx) (change.Value, error) {
		v, err := x(c)
		if err != nil || v.Null {
			return v, err
		}
		if _, ok := ints[v.N]; ok {
			return change.Bool(true), nil
		}
		return missing, nil
	}
}

// smallSet is how many texts are compared one by one faster than they are hashed.
const smallSet = 8

func inSmallSet(n *Node, x Func, missing change.Value) Func {
	var texts []string
	for _, a := range n.Args[1:] {
		if !a.Value.Null {
			texts = append(texts, string(a.Value.B))
		}
	}
	return func(c *Ctx) (change.Value, error) {
		v, err := x(c)
		if err != nil || v.Null {
			return v, err
		}
		for _, t := range texts {
			if t == string(v.B) {
				return change.Bool(true), nil
			}
		}
		return missing, nil
	}
}

// buildExtreme compiles GREATEST and LEAST.
func buildExtreme(n *Node, _ *change.Layout, args []Func) (Func, error) {
	compare, sign := comparer(n.Type), 1
	if n.Func.Name == "least" {
		sign = -1
	}
	return func(c *Ctx) (change.Value, error) {
		best := change.Null()
		for _, f := range args {
			v, err := f(c)
			if err != nil {
				return v, err
			}
			if !v.Null && (best.Null || compare(v, best)*sign > 0) {
				best = v
			}
		}
		return best, nil
	}, nil
}
