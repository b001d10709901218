package expr

import (
	"slices"
	"strings"
	"sync"

	"laaster/app"
	"laaster/internal/change"
)

// Volatility says what an expression's value depends on.
type Volatility uint8

// The volatilities.
const (
	Immutable Volatility = iota // on its arguments alone
	Stable                      // on the Ctx too: the time, the caller
	Volatile                    // on neither: it differs from call to call and so belongs to ingest alone
)

// Function is one overload of a function or operator. Read-only.
type Function struct {
	Name       string     // "abs", or an operator such as "+" or "~~" (LIKE)
	Args       []app.Type // types of the parameters
	Result     app.Type
	Volatility Volatility

	declared []app.Type // the parameters before anyarray and its relatives were replaced; nil when there are none
	variadic bool       // the last parameter takes any number of arguments, at least one
	operator bool
	prefix   bool // an operator with one operand
	kind     Kind // when not 0: the call becomes a node of this kind without arguments (now(), auth_subject(), …)

	// Exactly one of these is set, unless kind is. The fn forms are strict (a NULL argument makes NULL); fnAll sees
	// every argument; build compiles by hand.
	fn0   func(c *Ctx) (change.Value, error)
	fn1   func(c *Ctx, a change.Value) (change.Value, error)
	fn2   func(c *Ctx, a, b change.Value) (change.Value, error)
	fn3   func(c *Ctx, a, b, d change.Value) (change.Value, error)
	fnN   func(c *Ctx, args []change.Value) (change.Value, error)
	fnAll func(c *Ctx, args []change.Value) (change.Value, error)
	build buildFunc
}

// buildFunc compiles a call of n.Func; args are its compiled arguments.
type buildFunc func(n *Node, in *change.Layout, args []Func) (Func, error)

// Signature returns the overload as people write it, such as "round(numeric, integer)" or "integer + integer".
func (f *Function) Signature() string {
	s := signature(f.Name, f.operator, f.Args)
	if f.variadic {
		s = strings.TrimSuffix(s, ")") + ", …)"
	}
	return s
}

func signature(name string, operator bool, args []app.Type) string {
	types := make([]string, len(args))
	for i, t := range args {
		types[i] = typeWord(t)
	}
	switch {
	case operator && len(types) == 2:
		return types[0] + " " + name + " " + types[1]
	case operator:
		return name + " " + types[0]
	}
	return name + "(" + strings.Join(types, ", ") + ")"
}

func typeWord(t app.Type) string {
	switch t.Elem() {
	case anyType:
		return "any"
	case anyNonArray:
		return "anynonarray"
	case anyElement:
		return "any" + map[bool]string{true: "array", false: "element"}[t.IsArray()]
	case anyCommon:
		return "anycompatible" + map[bool]string{true: "array"}[t.IsArray()]
	}
	return t.String()
}

// catalog holds every overload by name.
type catalog struct {
	functions map[string][]*Function
	operators map[string][]*Function
}

// builtins returns the catalog, made at its first use.
var builtins = sync.OnceValue(func() *catalog {
	c := &catalog{functions: map[string][]*Function{}, operators: map[string][]*Function{}}
	addComparisons(c)
	addArithmetic(c)
	addMath(c)
	addText(c)
	addMatching(c)
	addTime(c)
	addJSON(c)
	addArrays(c)
	addSets(c)
	addSession(c)
	return c
})

// Functions returns every function and operator overload but set-returning functions, ordered by name: for documentation, and
// for hints.
func Functions() []*Function {
	var all []*Function
	for _, group := range []map[string][]*Function{builtins().functions, builtins().operators} {
		for _, name := range sortedKeys(group) {
			if !isSet(name) {
				all = append(all, group[name]...)
			}
		}
	}
	return all
}

// IsOperator reports whether f is written between its operands rather than called.
func (f *Function) IsOperator() bool { return f.operator }

// FunctionNames returns the names of all functions but set-returning ones, sorted.
func FunctionNames() []string { return slices.DeleteFunc(sortedKeys(builtins().functions), isSet) }

// KnownFunction reports whether there is a function of this name, with whatever arguments.
func KnownFunction(name string) bool { return len(builtins().functions[name]) > 0 }

func sortedKeys(m map[string][]*Function) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// add registers a function. sig reads "name(type, type) result"; a last type of "any..." or "text..." is variadic. An
// operator's name is its symbol. impl is one of Function's forms.
func (c *catalog) add(sig string, impl any) *Function {
	open, close := strings.IndexByte(sig, '('), strings.LastIndexByte(sig, ')')
	f := &Function{Name: sig[:open], Result: mustType(strings.TrimSpace(sig[close+1:]))}
	if list := sig[open+1 : close]; list != "" {
		for _, word := range strings.Split(list, ", ") {
			word, f.variadic = strings.CutSuffix(word, "...")
			f.Args = append(f.Args, mustType(word))
		}
	}
	switch impl := impl.(type) {
	case func(c *Ctx) (change.Value, error):
		f.fn0 = impl
	case func(c *Ctx, a change.Value) (change.Value, error):
		f.fn1 = impl
	case func(c *Ctx, a, b change.Value) (change.Value, error):
		f.fn2 = impl
	case func(c *Ctx, a, b, d change.Value) (change.Value, error):
		f.fn3 = impl
	case func(c *Ctx, args []change.Value) (change.Value, error):
		f.fnN = impl
	case allArgs:
		f.fnAll = impl
	case buildFunc:
		f.build = impl
	case Kind:
		f.kind = impl
	default:
		panic("expr: no form of implementation for " + sig)
	}
	into := c.functions
	if ch := f.Name[0]; (ch < 'a' || ch > 'z') && ch != '_' {
		into = c.operators
		f.operator, f.prefix = true, len(f.Args) == 1
	}
	into[f.Name] = append(into[f.Name], f)
	return f
}

// allArgs marks an implementation that sees NULL arguments.
type allArgs func(c *Ctx, args []change.Value) (change.Value, error)

func mustType(name string) app.Type {
	if t := pseudo(name); t != app.Unknown {
		return t
	}
	t := TypeNamed(name)
	if t == app.Unknown {
		panic("expr: no type " + name)
	}
	return t
}
