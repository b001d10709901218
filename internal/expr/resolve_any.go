package expr

import (
	"slices"

	"laaster/app"
)

// instantiateAll replaces the candidates whose signatures have anyarray and its relatives by what they are for arguments of
// these types, and drops those that do not fit.
func instantiateAll(candidates []*Function, args []app.Type, operator bool) []*Function {
	if !slices.ContainsFunc(candidates, (*Function).polymorphic) {
		return candidates
	}
	out := make([]*Function, 0, len(candidates))
	for _, f := range candidates {
		if f.polymorphic() {
			f = instantiate(f, args, operator)
		}
		if f != nil {
			out = append(out, f)
		}
	}
	return out
}

// polymorphic reports whether the signature has a type that stands for one and the same type in several places.
func (f *Function) polymorphic() bool {
	return slices.ContainsFunc(f.Args, func(t app.Type) bool { return t.Elem() == anyElement || t.Elem() == anyCommon })
}

// instantiate returns f for arguments of these types; nil when there is no such f.
func instantiate(f *Function, args []app.Type, operator bool) *Function {
	if !f.takes(len(args)) {
		return nil
	}
	element, ok1 := meant(f, args, anyElement, operator)
	common, ok2 := meant(f, args, anyCommon, operator)
	if !ok1 || !ok2 {
		return nil
	}
	g := *f
	g.declared = f.Args
	g.Args = make([]app.Type, len(f.Args))
	for i, t := range f.Args {
		g.Args[i] = substitute(t, element, common)
	}
	g.Result = substitute(f.Result, element, common)
	if slices.Contains(g.Args, app.Unknown) || g.Result == app.Unknown {
		return nil
	}
	return &g
}

// substitute puts the types in; Unknown when that makes an array of arrays.
func substitute(t, element, common app.Type) app.Type {
	to := app.Unknown
	switch t.Elem() {
	case anyElement:
		to = element
	case anyCommon:
		to = common
	default:
		return t
	}
	if !t.IsArray() {
		return to
	}
	if to.IsArray() || to == app.Unknown {
		return app.Unknown
	}
	return app.Array(to)
}

// meant returns the type that a pseudo-type stands for.
func meant(f *Function, args []app.Type, pseudo app.Type, operator bool) (app.Type, bool) {
	var have []app.Type
	used := false
	for i, t := range args {
		want := f.param(i)
		if want.Elem() != pseudo {
			continue
		}
		used = true
		switch {
		case t == app.Unknown:
		case want.IsArray() && !t.IsArray():
			return app.Unknown, false
		case want.IsArray():
			have = append(have, t.Elem())
		default:
			have = append(have, t)
		}
	}
	switch {
	case !used:
		return app.Unknown, true
	case len(have) == 0:
		return app.Text, pseudo == anyCommon && !operator
	case pseudo == anyElement:
		return have[0], !slices.ContainsFunc(have, func(t app.Type) bool { return t != have[0] })
	}
	t, bad := commonType(have)
	return t, bad < 0
}
