package expr

import (
	"slices"
	"strings"

	"laaster/app"
)

// resolve picks the overload for arguments of these types as PostgreSQL does (its manual, "Type Conversion", functions and
// operators). It returns nil and whether several fit equally well.
func resolve(candidates []*Function, args []app.Type, operator bool) (f *Function, ambiguous bool) {
	candidates = instantiateAll(candidates, args, operator)
	if operator {
		if f := exactOperator(candidates, args); f != nil {
			return f, false
		}
	}
	var fit []*Function
	for _, f := range candidates {
		if !f.takes(len(args)) || !coercible(f, args) {
			continue
		}
		if exact(f, args) {
			return f, false
		}
		fit = append(fit, f)
	}
	if len(fit) > 1 {
		fit = narrow(fit, args)
	}
	if len(fit) == 1 {
		return fit[0], false
	}
	return nil, len(fit) > 1
}

// exactOperator applies the rule that an unknown operand of a binary operator is first taken to be of the other's type.
func exactOperator(candidates []*Function, args []app.Type) *Function {
	if len(args) == 2 {
		args = slices.Clone(args)
		if args[0] == app.Unknown {
			args[0] = args[1]
		} else if args[1] == app.Unknown {
			args[1] = args[0]
		}
	}
	for _, f := range candidates {
		if f.takes(len(args)) && exact(f, args) {
			return f
		}
	}
	return nil
}

func (f *Function) takes(n int) bool {
	return n == len(f.Args) || f.variadic && n >= len(f.Args)
}

// param returns the type of parameter i, counting variadic arguments on.
func (f *Function) param(i int) app.Type {
	if i >= len(f.Args) {
		i = len(f.Args) - 1
	}
	return f.Args[i]
}

// signs returns the type of parameter i as it is declared: anyarray is no exact match for an array.
func (f *Function) signs(i int) app.Type {
	if f.declared == nil {
		return f.param(i)
	}
	return f.declared[min(i, len(f.declared)-1)]
}

func coercible(f *Function, args []app.Type) bool {
	for i, t := range args {
		if castAllowed(t, f.param(i)) != castImplicit {
			return false
		}
	}
	return true
}

func exact(f *Function, args []app.Type) bool {
	for i, t := range args {
		if f.param(i) != t {
			return false
		}
	}
	return true
}

// narrow drops candidates by PostgreSQL's rules in their order until one is left or the rules are used up.
func narrow(fit []*Function, args []app.Type) []*Function {
	fit = best(fit, args, func(want, have app.Type) bool { return want == have })
	if len(fit) == 1 {
		return fit
	}
	fit = best(fit, args, func(want, have app.Type) bool {
		return want == have || preferred(want) && category(want) == category(have)
	})
	if len(fit) == 1 || !slices.Contains(args, app.Unknown) {
		return fit
	}
	if byCategory := narrowByCategory(fit, args); len(byCategory) > 0 {
		fit = byCategory
	}
	if len(fit) == 1 {
		return fit
	}
	return narrowByKnown(fit, args)
}

// best keeps the candidates that match most of the known arguments.
func best(fit []*Function, args []app.Type, match func(want, have app.Type) bool) []*Function {
	var kept []*Function
	most := -1
	for _, f := range fit {
		n := 0
		for i, have := range args {
			if have != app.Unknown && match(f.signs(i), have) {
				n++
			}
		}
		if n > most {
			most, kept = n, nil
		}
		if n == most {
			kept = append(kept, f)
		}
	}
	return kept
}

// narrowByCategory takes each unknown argument to be of the one category that all candidates want there, or a string when
// any wants a string. None are left when the candidates disagree on an argument.
func narrowByCategory(fit []*Function, args []app.Type) []*Function {
	cats, pref := make([]byte, len(args)), make([]bool, len(args))
	for i, t := range args {
		if t != app.Unknown {
			continue
		}
		conflict := false
		for _, f := range fit {
			want := f.signs(i)
			switch c := category(want); {
			case cats[i] == 0:
				cats[i], pref[i] = c, preferred(want)
			case cats[i] == c:
				pref[i] = pref[i] || preferred(want)
			case c == 'S':
				cats[i], pref[i] = c, preferred(want)
			case cats[i] != 'S':
				conflict = true
			}
		}
		if conflict && cats[i] != 'S' {
			return nil
		}
	}
	return slices.DeleteFunc(slices.Clone(fit), func(f *Function) bool {
		for i, t := range args {
			want := f.signs(i)
			if t == app.Unknown && (category(want) != cats[i] || pref[i] && !preferred(want)) {
				return true
			}
		}
		return false
	})
}

// narrowByKnown takes unknown arguments to be of the type that all known ones share.
func narrowByKnown(fit []*Function, args []app.Type) []*Function {
	known := app.Unknown
	for _, t := range args {
		if t == app.Unknown {
			continue
		}
		if known != app.Unknown && known != t {
			return fit
		}
		known = t
	}
	if known == app.Unknown {
		return fit
	}
	same := slices.Repeat([]app.Type{known}, len(args))
	kept := slices.DeleteFunc(slices.Clone(fit), func(f *Function) bool { return !coercible(f, same) })
	if len(kept) == 1 {
		return kept
	}
	return fit
}

// Closest returns the name nearest to name by edit distance, or "" when none is near: for "did you mean" hints.
func Closest(name string, names []string) string {
	limit := max(1, min(3, len(name)/3))
	bestName, bestDist := "", limit+1
	for _, n := range names {
		if d := editDistance(strings.ToLower(name), strings.ToLower(n), bestDist); d < bestDist {
			bestName, bestDist = n, d
		}
	}
	return bestName
}

// editDistance counts insertions, deletions, substitutions and swaps of neighbours; it stops counting at limit.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return min(prev[len(b)], limit)
}
