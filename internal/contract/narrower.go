package contract

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"strings"
)

// Break is one thing that a schema asks and another one did not.
type Break struct {
	At       string // where in values, as a JSON pointer; * stands for any member or item. Empty: the whole
	Old, New string // "maximum 10"; nothing, or in words, when the other has no such thing
}

// maxBreaks bounds what [Narrower] returns, maxPairs the pairs of sub-schemas that it looks at, and each 256 bytes of them that it reads whole: beyond them it gives
// up on the rest.
const (
	maxBreaks = 100
	maxPairs  = 50_000
	maxApart  = 8 // levels that are looked into to tell branches apart
)

// Narrower returns where now may refuse a value that old allows; nothing when it never does. Both are schemas that [Compile] took. What it cannot prove to
// be safe it returns: choices whose branches changed beyond additions, if, dependentSchemas, unevaluatedProperties and the like must stay as they are.
func Narrower(old, now []byte) []Break {
	a, errA := decode(old)
	b, errB := decode(now)
	if errA != nil || errB != nil {
		return []Break{{Old: "a schema", New: "one that cannot be read"}}
	}
	c := newComparison(document{a}, document{b})
	found := c.implies(conjunction{a}, b, "")
	slices.SortFunc(found, func(a, b Break) int {
		return strings.Compare(a.At+"\x00"+a.New+a.Old, b.At+"\x00"+b.New+b.Old)
	})
	found = slices.Compact(found)
	return found[:min(len(found), maxBreaks)]
}

// document resolves the references of one schema file.
type document struct{ root any }

// resolve returns what a $ref means, false when it is not a plain reference into the document.
func (d document) resolve(ref string) (any, bool) {
	if root, ok := d.root.(map[string]any); ok {
		if id, ok := root["$id"].(string); ok {
			ref = strings.TrimPrefix(ref, strings.TrimSuffix(id, "#"))
		}
	}
	if ref == "" || ref == "#" {
		return d.root, true
	}
	path, ok := strings.CutPrefix(ref, "#/")
	if !ok || strings.Contains(path, "%") {
		return nil, false
	}
	v := d.root
	for part := range strings.SplitSeq(path, "/") {
		part = strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")
		switch x := v.(type) {
		case map[string]any:
			v, ok = x[part]
		case []any:
			var i int
			_, err := fmt.Sscan(part, &i)
			if ok = err == nil && i >= 0 && i < len(x); ok {
				v = x[i]
			}
		default:
			ok = false
		}
		if !ok {
			return nil, false
		}
	}
	return v, true
}

// conjunction is what a value is known to follow: all of these schemas of the old document.
type conjunction []any

// comparison is one run of [Narrower].
type comparison struct {
	old, now document
	// assumed has the pairs that are done without a break, or under way at a place: a schema that refers to itself meets them again further down. Trail has
	// its keys in the order that they came, so that a break takes back what rested on it.
	assumed map[string]string
	trail   []string
	broken  map[string]broken // pairs with breaks: what is assumed can only take breaks away
	pairs   int
	cut     map[string]map[string]any // see without
	alike   bool                      // the definitions of both documents are the same, and refer to each other alone
}

// broken is what was found at a place.
type broken struct {
	at    string
	found []Break
}

func newComparison(old, now document) *comparison {
	c := &comparison{old: old, now: now, assumed: map[string]string{}, broken: map[string]broken{}, cut: map[string]map[string]any{}}
	defs := text(object(now.root)["$defs"])
	c.alike = within(defs) && defs == text(object(old.root)["$defs"])
	return c
}

// within reports whether the text of a schema refers to definitions alone.
func within(s string) bool {
	return !strings.Contains(s, `"$dynamicRef"`) && strings.Count(s, `"$ref":`) == strings.Count(s, `"$ref":"#/$defs/`)
}

// done is no place: the pair is proven.
const done = "\x00"

// key names a schema of a document: objects are who they are, not what they look like.
func key(v any) string {
	if m, ok := v.(map[string]any); ok {
		return fmt.Sprint(reflect.ValueOf(m).Pointer())
	}
	return fmt.Sprint(v)
}

func (k conjunction) key() string {
	names := make([]string, len(k))
	for i, v := range k {
		names[i] = key(v)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), " ")
}

// show is a value in the text of a break.
func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	if len(b) > 80 {
		return string(b[:77]) + "…"
	}
	return string(b)
}

// flat resolves references and allOf of what is known into plain objects. false among them: no value at all.
func (c *comparison) flat(known conjunction) (out []map[string]any, none bool) {
	seen := map[string]bool{}
	var add func(v any, depth int)
	add = func(v any, depth int) {
		switch v := v.(type) {
		case bool:
			none = none || !v
		case map[string]any:
			out = append(out, v)
			if ref, ok := v["$ref"].(string); ok && !seen[ref] && depth < MaxDepth {
				seen[ref] = true
				if to, ok := c.old.resolve(ref); ok {
					add(to, depth+1)
				}
			}
			if all, ok := v["allOf"].([]any); ok && depth < MaxDepth {
				for _, x := range all {
					add(x, depth+1)
				}
			}
		}
	}
	for _, v := range known {
		add(v, 0)
	}
	return out, none
}

// implies returns the breaks of values that follow what is known against one schema of the new document.
func (c *comparison) implies(known conjunction, now any, at string) []Break {
	switch now := now.(type) {
	case bool:
		if now {
			return nil
		}
		if list, none := c.flat(known); none || typesOf(list) == 0 {
			return nil
		}
		return []Break{{at, "allowed", "not allowed"}}
	case map[string]any:
		pair := known.key() + " | " + key(now)
		if where, ok := c.assumed[pair]; ok {
			if where == at {
				return []Break{{at, "", "a schema that refers to itself without end"}}
			}
			return nil
		}
		if c.pairs++; c.pairs > maxPairs {
			return []Break{{at, "", "the schemas are too large to be compared"}}
		}
		if b, ok := c.broken[pair]; ok {
			out := slices.Clone(b.found)
			for i := range out {
				out[i].At = at + strings.TrimPrefix(out[i].At, b.at)
			}
			return out
		}
		mark := len(c.trail)
		c.assumed[pair], c.trail = at, append(c.trail, pair)
		found := c.object(known, now, at)
		if len(found) == 0 {
			c.assumed[pair] = done
			return nil
		}
		for _, k := range c.trail[mark:] {
			delete(c.assumed, k)
		}
		c.trail = c.trail[:mark]
		c.broken[pair] = broken{at, found[:min(len(found), maxBreaks)]}
		return c.broken[pair].found
	}
	return []Break{{at, "", "something that is no schema"}}
}

// text returns a schema with members in the order of their names.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

// object compares with one object schema. When what is known is a choice, and does not imply it as it is, each branch must.
func (c *comparison) object(known conjunction, now map[string]any, at string) []Break {
	list, none := c.flat(known)
	types := typesOf(list)
	if none || types == 0 || c.identical(list, now) {
		return nil
	}
	found := c.keywords(list, types, known, now, at)
	if len(found) == 0 {
		return nil
	}
	for i, s := range list {
		for _, word := range [...]string{"anyOf", "oneOf"} {
			branches, ok := s[word].([]any)
			if !ok || len(branches) == 0 {
				continue
			}
			rest := conjunction{}
			for j, other := range list {
				if j == i {
					other = c.without(other, word, "$ref", "allOf")
				} else {
					other = c.without(other, "$ref", "allOf")
				}
				rest = append(rest, other)
			}
			var worse []Break
			for _, b := range branches {
				worse = append(worse, c.implies(append(slices.Clone(rest), b), now, at)...)
			}
			if len(worse) == 0 {
				return nil
			}
		}
	}
	return found
}

// without returns a schema without some keywords, the same object each time.
func (c *comparison) without(s map[string]any, words ...string) map[string]any {
	if !slices.ContainsFunc(words, func(w string) bool { _, ok := s[w]; return ok }) {
		return s
	}
	k := key(s) + strings.Join(words, " ")
	out := c.cut[k]
	if out == nil {
		out = maps.Clone(s)
		for _, w := range words {
			delete(out, w)
		}
		c.cut[k] = out
	}
	return out
}

// keywords goes through what the new schema asks.
func (c *comparison) keywords(list []map[string]any, types kinds, known conjunction, now map[string]any, at string) []Break {
	if values, ok := finite(list); ok {
		return c.values(list, values, now, at)
	}
	if types&^(kindNull|kindBool) == 0 {
		var values []any
		if types&kindNull != 0 {
			values = append(values, nil)
		}
		if types&kindBool != 0 {
			values = append(values, true, false)
		}
		return c.values(list, values, now, at)
	}
	var out []Break
	say := func(word string, found any) {
		out = append(out, Break{at, was(list, word), word + " " + show(found)})
	}
	for _, word := range slices.Sorted(maps.Keys(now)) {
		asked := now[word]
		if types&applies(word) == 0 {
			continue
		}
		switch word {
		case "$ref":
			ref, _ := asked.(string)
			to, ok := c.now.resolve(ref)
			if !ok {
				out = append(out, c.same(list, now, word, at)...)
				continue
			}
			out = append(out, c.implies(known, to, at)...)
		case "allOf":
			for _, x := range items(asked) {
				out = append(out, c.implies(known, x, at)...)
			}
		case "anyOf":
			if !c.someBranch(known, items(asked), at) {
				out = append(out, Break{at, was(list, word), "none of the branches of anyOf surely allows it"})
			}
		case "oneOf":
			out = append(out, c.oneOf(list, known, items(asked), at)...)
		case "not":
			out = append(out, c.not(list, known, asked, at)...)
		case "type":
			if lost := types &^ typeSet(asked); lost != 0 {
				out = append(out, Break{at, "type " + types.String(), "type " + show(asked)})
			}
		case "enum", "const":
			say(word, asked)
		case "required":
			for _, name := range items(asked) {
				if !requires(list, name) {
					out = append(out, Break{at + "/" + escape(fmt.Sprint(name)), "optional", "required"})
				}
			}
		case "properties":
			for _, name := range slices.Sorted(maps.Keys(object(asked))) {
				out = append(out, c.implies(c.member(list, name), object(asked)[name], at+"/"+escape(name))...)
			}
		case "patternProperties":
			out = append(out, c.patterns(list, object(asked), at)...)
		case "additionalProperties":
			out = append(out, c.additional(list, now, asked, at)...)
		case "prefixItems":
			for i, x := range items(asked) {
				if n, ok := most(list, "maxItems"); ok && n.Cmp(ratOf(i)) <= 0 {
					break
				}
				out = append(out, c.implies(c.item(list, i), x, fmt.Sprint(at, "/", i))...)
			}
		case "items":
			out = append(out, c.rest(list, now, asked, at)...)
		case "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties":
			if !bounded(list, word, asked) {
				say(word, asked)
			}
		case "multipleOf":
			if !multiple(list, types, asked) {
				say(word, asked)
			}
		case "pattern", "format", "uniqueItems":
			if asked != false && !has(list, word, asked) {
				say(word, asked)
			}
		case "dependentRequired":
			for name, names := range object(asked) {
				for _, n := range items(names) {
					if !requires(list, n) && !dependent(list, name, n) {
						out = append(out, Break{at + "/" + escape(fmt.Sprint(n)), "optional", "required beside " + name})
					}
				}
			}
		case "then", "else":
			if _, ok := now["if"]; ok {
				out = append(out, c.same(list, now, word, at)...)
			}
		case "minContains", "maxContains":
			if _, ok := now["contains"]; ok {
				out = append(out, c.same(list, now, word, at)...)
			}
		case "if":
			if now["then"] != nil || now["else"] != nil {
				out = append(out, c.same(list, now, word, at)...)
			}
		case "contains", "propertyNames", "dependentSchemas", "$dynamicRef", "unevaluatedProperties", "unevaluatedItems":
			out = append(out, c.same(list, now, word, at)...)
		}
	}
	return out
}

// same refuses a keyword that is not looked into: the object as a whole was not there before (see identical).
func (c *comparison) same(list []map[string]any, now map[string]any, word, at string) []Break {
	return []Break{{at, was(list, word), "(cannot be compared) " + word + " " + show(now[word])}}
}

// identical reports whether one old object is this very one, and refers to nothing whose meaning may have changed.
func (c *comparison) identical(list []map[string]any, now map[string]any) bool {
	is := text(now)
	c.pairs += (1 + len(list)) * len(is) >> 8 // it is read as often
	return slices.ContainsFunc(list, func(s map[string]any) bool { return text(s) == is }) && c.closed(is)
}

// closed reports whether the text of a schema refers to nothing, or to definitions that are the same in both documents.
func (c *comparison) closed(is string) bool {
	return within(is) && (c.alike || !strings.Contains(is, `"$ref":`))
}

// was says what the old schemas had for a keyword.
func was(list []map[string]any, word string) string {
	for _, s := range list {
		if v, ok := s[word]; ok {
			return word + " " + show(v)
		}
	}
	return ""
}

func (c *comparison) someBranch(known conjunction, branches []any, at string) bool {
	return slices.ContainsFunc(branches, func(b any) bool { return len(c.implies(known, b, at)) == 0 })
}

// oneOf wants a branch that allows it, and no other that could.
func (c *comparison) oneOf(list []map[string]any, known conjunction, branches []any, at string) []Break {
	for i, b := range branches {
		if len(c.implies(known, b, at)) > 0 {
			continue
		}
		others := slices.Clone(branches)
		others = slices.Delete(others, i, i+1)
		if !slices.ContainsFunc(others, func(o any) bool { return !c.apart(list, o, 0) }) {
			return nil
		}
	}
	return []Break{{at, was(list, "oneOf"), "not surely one branch of oneOf, and one alone, allows it"}}
}

// not wants the old schemas to exclude at least as much.
func (c *comparison) not(list []map[string]any, known conjunction, asked any, at string) []Break {
	if c.apart(list, asked, 0) {
		return nil
	}
	for _, s := range list {
		if n, ok := s["not"]; ok {
			swapped := newComparison(c.now, c.old)
			if swapped.pairs = c.pairs; len(swapped.implies(conjunction{asked}, n, at)) == 0 {
				return nil
			}
		}
	}
	return []Break{{at, was(list, "not"), "not " + show(asked)}}
}

// apart reports whether no value can follow both what is known and a schema of the new document: their types differ, or a member that both require has
// values that differ.
func (c *comparison) apart(list []map[string]any, now any, depth int) bool {
	s, ok := c.plain(now)
	if !ok {
		return now == false
	}
	types := typesOf(list)
	if set, ok := s["type"]; ok && types&typeSet(set) == 0 {
		return true
	}
	if mine, ok := finite(list); ok {
		if theirs, ok := finite([]map[string]any{s}); ok && disjoint(mine, theirs) {
			return true
		}
	}
	if types != kindObject || depth == maxApart {
		return false
	}
	for name, p := range object(s["properties"]) {
		if !requires(list, name) && !requires([]map[string]any{s}, name) {
			continue
		}
		if member, none := c.flat(c.member(list, name)); none || c.apart(member, p, depth+1) {
			return true
		}
	}
	return false
}

// plain resolves references of the new document that stand alone.
func (c *comparison) plain(now any) (map[string]any, bool) {
	for range MaxDepth {
		s, ok := now.(map[string]any)
		if !ok {
			return nil, false
		}
		ref, ok := s["$ref"].(string)
		if !ok || len(s) > 1 {
			return s, true
		}
		if now, ok = c.now.resolve(ref); !ok {
			return nil, false
		}
	}
	return nil, false
}

func disjoint(a, b []any) bool {
	for _, x := range a {
		for _, y := range b {
			if equal(x, y) {
				return false
			}
		}
	}
	return true
}

// finite returns the values that are possible at most, when const or enum lists them.
func finite(list []map[string]any) ([]any, bool) {
	var out []any
	found := false
	for _, s := range list {
		var these []any
		if v, ok := s["const"]; ok {
			these = []any{v}
		} else if v, ok := s["enum"].([]any); ok {
			these = v
		} else {
			continue
		}
		if !found {
			out, found = these, true
			continue
		}
		out = slices.DeleteFunc(slices.Clone(out), func(x any) bool { return disjoint([]any{x}, these) })
	}
	return out, found
}

// values asks the new schema about each value that the old one lists, with the validator itself.
func (c *comparison) values(list []map[string]any, values []any, now map[string]any, at string) []Break {
	check, err := c.part(c.now, now)
	if err != nil {
		return []Break{{at, "", err.Error()}}
	}
	var out []Break
	for _, v := range values {
		if value := []byte(text(v)); check.Check(value) == nil || c.refused(list, value) {
			continue
		}
		out = append(out, Break{at, "allowed " + show(v), "not allowed " + show(v)})
	}
	return out
}

// refused reports whether what is known refuses a value that const or enum lists.
func (c *comparison) refused(list []map[string]any, value []byte) bool {
	for _, s := range list {
		check, err := c.part(c.old, s)
		if err == nil && check.Check(value) != nil {
			return true
		}
	}
	return false
}

// part compiles a sub-schema of a document with the definitions that it may refer to.
func (c *comparison) part(d document, s map[string]any) (*Schema, error) {
	root, _ := d.root.(map[string]any)
	whole := maps.Clone(root)
	if whole == nil {
		whole = map[string]any{}
	}
	// The document stays where references look for it; what is wanted is one more definition in it.
	defs := maps.Clone(object(whole["$defs"]))
	if defs == nil {
		defs = map[string]any{}
	}
	const name = "laaster-part"
	defs[name] = s
	whole["$defs"] = defs
	return compileAt([]byte(text(whole)), "#/$defs/"+name)
}

func items(v any) []any {
	list, _ := v.([]any)
	return list
}

func object(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func requires(list []map[string]any, name any) bool {
	return slices.ContainsFunc(list, func(s map[string]any) bool { return slices.Contains(items(s["required"]), name) })
}

func dependent(list []map[string]any, name string, n any) bool {
	return slices.ContainsFunc(list, func(s map[string]any) bool {
		return slices.Contains(items(object(s["dependentRequired"])[name]), n)
	})
}

func has(list []map[string]any, word string, value any) bool {
	return slices.ContainsFunc(list, func(s map[string]any) bool { return s[word] == value })
}

func ratOf(n int) *big.Rat { return new(big.Rat).SetInt64(int64(n)) }

func number(v any) (*big.Rat, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return nil, false
	}
	return new(big.Rat).SetString(n.String())
}

// most returns the smallest value of an upper bound among the schemas.
func most(list []map[string]any, word string) (found *big.Rat, ok bool) {
	for _, s := range list {
		if n, is := number(s[word]); is && (found == nil || n.Cmp(found) < 0) {
			found = n
		}
	}
	return found, found != nil
}

// least returns the largest value of a lower bound among the schemas.
func least(list []map[string]any, word string) (found *big.Rat, ok bool) {
	for _, s := range list {
		if n, is := number(s[word]); is && (found == nil || n.Cmp(found) > 0) {
			found = n
		}
	}
	return found, found != nil
}

// bounded reports whether what is known implies a bound.
func bounded(list []map[string]any, word string, asked any) bool {
	want, ok := number(asked)
	if !ok {
		return false
	}
	switch word {
	case "minLength", "minItems", "minProperties":
		if want.Sign() <= 0 {
			return true
		}
		n, ok := least(list, word)
		return ok && n.Cmp(want) >= 0
	case "maxLength", "maxItems", "maxProperties":
		n, ok := most(list, word)
		return ok && n.Cmp(want) <= 0
	case "minimum", "exclusiveMinimum":
		over, okOver := least(list, "exclusiveMinimum")
		from, okFrom := least(list, "minimum")
		if okOver && over.Cmp(want) >= 0 {
			return true
		}
		if word == "minimum" {
			return okFrom && from.Cmp(want) >= 0
		}
		return okFrom && from.Cmp(want) > 0
	}
	under, okUnder := most(list, "exclusiveMaximum")
	to, okTo := most(list, "maximum")
	if okUnder && under.Cmp(want) <= 0 {
		return true
	}
	if word == "maximum" {
		return okTo && to.Cmp(want) <= 0
	}
	return okTo && to.Cmp(want) < 0
}

func multiple(list []map[string]any, types kinds, asked any) bool {
	want, ok := number(asked)
	if !ok || want.Sign() <= 0 {
		return false
	}
	divides := func(n *big.Rat) bool { return new(big.Rat).Quo(n, want).IsInt() }
	if types&kindFraction == 0 && divides(ratOf(1)) {
		return true
	}
	return slices.ContainsFunc(list, func(s map[string]any) bool {
		n, ok := number(s["multipleOf"])
		return ok && divides(n)
	})
}

// member returns what is known of one property when it is there.
func (c *comparison) member(list []map[string]any, name string) conjunction {
	out := conjunction{}
	for _, s := range list {
		met := false
		if p, ok := object(s["properties"])[name]; ok {
			out, met = append(out, p), true
		}
		for pattern, p := range object(s["patternProperties"]) {
			if re, err := compileRegexp(pattern); err == nil && re.MatchString(name) {
				out, met = append(out, p), true
			}
		}
		if p, ok := s["additionalProperties"]; ok && !met {
			out = append(out, p)
		}
	}
	return out
}

// others returns what is known of the properties that one schema does not name and that match none of its patterns.
func others(s map[string]any) any {
	if p, ok := s["additionalProperties"]; ok {
		return p
	}
	return true
}

// patterns compares properties by their patterns.
func (c *comparison) patterns(list []map[string]any, asked map[string]any, at string) []Break {
	var out []Break
	for _, pattern := range slices.Sorted(maps.Keys(asked)) {
		now, re := asked[pattern], (func(string) bool)(nil)
		if len(c.implies(conjunction{}, now, at)) == 0 {
			continue
		}
		if x, err := compileRegexp(pattern); err == nil {
			re = x.MatchString
		}
		place := at + "/*"
		names := map[string]bool{}
		for _, s := range list {
			for name := range object(s["properties"]) {
				if re == nil || re(name) {
					names[name] = true
				}
			}
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			out = append(out, c.implies(c.member(list, name), now, at+"/"+escape(name))...)
		}
		// A name that nobody lists may match any pattern, or none. One old schema that implies it in every case is enough.
		if !slices.ContainsFunc(list, func(s map[string]any) bool {
			if p, ok := object(s["patternProperties"])[pattern]; ok {
				return len(c.implies(conjunction{p}, now, place)) == 0
			}
			for _, p := range object(s["patternProperties"]) {
				if len(c.implies(conjunction{p}, now, place)) > 0 {
					return false
				}
			}
			return len(c.implies(conjunction{others(s)}, now, place)) == 0
		}) {
			out = append(out, Break{place, "", "patternProperties " + show(pattern) + " " + show(now)})
		}
	}
	return out
}

// additional compares the properties that the new schema does not name.
func (c *comparison) additional(list []map[string]any, now map[string]any, asked any, at string) []Break {
	if len(c.implies(conjunction{}, asked, at)) == 0 {
		return nil
	}
	var out []Break
	named := object(now["properties"])
	matches := func(name string) bool {
		for pattern := range object(now["patternProperties"]) {
			if re, err := compileRegexp(pattern); err == nil && re.MatchString(name) {
				return true
			}
		}
		return false
	}
	names := map[string]bool{}
	for _, s := range list {
		for name := range object(s["properties"]) {
			if _, ok := named[name]; !ok && !matches(name) {
				names[name] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		out = append(out, c.implies(c.member(list, name), asked, at+"/"+escape(name))...)
	}
	// As above, for the names that no old schema lists.
	if !slices.ContainsFunc(list, func(s map[string]any) bool {
		for pattern, p := range object(s["patternProperties"]) {
			if _, same := object(now["patternProperties"])[pattern]; !same && len(c.implies(conjunction{p}, asked, at)) > 0 {
				return false
			}
		}
		return len(c.implies(conjunction{others(s)}, asked, at)) == 0
	}) {
		is := "additionalProperties " + show(asked)
		if asked == false {
			is = "no other properties"
		}
		out = append(out, Break{at, "other properties", is})
	}
	return out
}

// item returns what is known of the item at an index.
func (c *comparison) item(list []map[string]any, i int) conjunction {
	out := conjunction{}
	for _, s := range list {
		if prefix := items(s["prefixItems"]); i < len(prefix) {
			out = append(out, prefix[i])
		} else if x, ok := s["items"]; ok {
			out = append(out, x)
		}
	}
	return out
}

// rest compares the items behind prefixItems of the new schema.
func (c *comparison) rest(list []map[string]any, now map[string]any, asked any, at string) []Break {
	var out []Break
	from := len(items(now["prefixItems"]))
	to := from
	for _, s := range list {
		to = max(to, len(items(s["prefixItems"])))
	}
	limit, limited := most(list, "maxItems")
	for i := from; i <= to; i++ { // at to every prefix has ended, and all further items are alike
		if limited && limit.Cmp(ratOf(i)) <= 0 {
			break
		}
		place := fmt.Sprint(at, "/", i)
		if i == to {
			place = at + "/*"
		}
		out = append(out, c.implies(c.item(list, i), asked, place)...)
	}
	return out
}
