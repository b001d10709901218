package expr

import (
	"bytes"
	"unicode/utf8"

	"laaster/app"
	"laaster/internal/change"
)

// regexpCall computes a function of a text, a pattern and more arguments.
type regexpCall func(c *Ctx, p *pattern, flags regexpFlags, args []change.Value) (change.Value, error)

func addRegexp(c *catalog) {
	add := func(sig string, flagsAt int, f regexpCall) { c.add(sig, buildFunc(buildRegexpCall(flagsAt, f))) }
	add("regexp_match(text, text) text[]", -1, regexpMatch)
	add("regexp_match(text, text, text) text[]", 2, regexpMatch)
	add("regexp_like(text, text) boolean", -1, regexpLike)
	add("regexp_like(text, text, text) boolean", 2, regexpLike)
	add("regexp_count(text, text) integer", -1, regexpCount)
	add("regexp_count(text, text, integer) integer", -1, regexpCount)
	add("regexp_count(text, text, integer, text) integer", 3, regexpCount)
	add("regexp_substr(text, text) text", -1, regexpSubstr)
	add("regexp_substr(text, text, integer) text", -1, regexpSubstr)
	add("regexp_substr(text, text, integer, integer) text", -1, regexpSubstr)
	add("regexp_substr(text, text, integer, integer, text) text", 4, regexpSubstr)
	add("regexp_substr(text, text, integer, integer, text, integer) text", 4, regexpSubstr)
	add("regexp_instr(text, text) integer", -1, regexpInstr)
	add("regexp_instr(text, text, integer) integer", -1, regexpInstr)
	add("regexp_instr(text, text, integer, integer) integer", -1, regexpInstr)
	add("regexp_instr(text, text, integer, integer, integer) integer", -1, regexpInstr)
	add("regexp_instr(text, text, integer, integer, integer, text) integer", 5, regexpInstr)
	add("regexp_instr(text, text, integer, integer, integer, text, integer) integer", 5, regexpInstr)
	add("regexp_replace(text, text, text) text", -1, regexpReplace)
	add("regexp_replace(text, text, text, text) text", 3, regexpReplace)
	add("regexp_replace(text, text, text, integer) text", -1, regexpReplaceFrom)
	add("regexp_replace(text, text, text, integer, integer) text", -1, regexpReplaceFrom)
	add("regexp_replace(text, text, text, integer, integer, text) text", 5, regexpReplaceFrom)
	add("regexp_split_to_array(text, text) text[]", -1, regexpSplit)
	add("regexp_split_to_array(text, text, text) text[]", 2, regexpSplit)
	add("substring(text, text) text", -1, substringPattern)
}

// buildRegexpCall compiles f for a pattern in argument 1 and option letters in argument flagsAt, -1 for none. Constants are
// compiled once.
func buildRegexpCall(flagsAt int, f regexpCall) buildFunc {
	return func(n *Node, _ *change.Layout, args []Func) (Func, error) {
		if p, flags := constantPattern(n, flagsAt); p != nil {
			return strictN(func(c *Ctx, args []change.Value) (change.Value, error) { return f(c, p, flags, args) }, args), nil
		}
		return strictN(func(c *Ctx, args []change.Value) (change.Value, error) {
			var flags regexpFlags
			if flagsAt >= 0 {
				var err error
				if flags, err = parseFlags(args[flagsAt].B); err != nil {
					return change.Value{}, err
				}
			}
			p, err := c.regexp(args[1].B, flags)
			if err != nil {
				return change.Value{}, err
			}
			return f(c, p, flags, args)
		}, args), nil
	}
}

// constantPattern compiles the pattern of a call when it and its options are constants in order; nil when not.
func constantPattern(n *Node, flagsAt int) (*pattern, regexpFlags) {
	var flags regexpFlags
	if flagsAt >= 0 {
		k := n.Args[flagsAt]
		if k.Kind != KConst || k.Value.Null {
			return nil, flags
		}
		var err error
		if flags, err = parseFlags(k.Value.B); err != nil {
			return nil, flags
		}
	}
	k := n.Args[1]
	if k.Kind != KConst || k.Value.Null {
		return nil, flags
	}
	p, err := compileRegexp(k.Value.B, flags)
	if err != nil {
		return nil, flags
	}
	return &p, flags
}

// regexpMatch returns the groups of the first match, or the match itself when the pattern has none.
func regexpMatch(c *Ctx, p *pattern, flags regexpFlags, args []change.Value) (change.Value, error) {
	if err := hasGlobal("regexp_match", flags); err != nil {
		return change.Value{}, err
	}
	text := args[0].B
	m := p.find(text, 0)
	loc, err := m.next()
	if err != nil || loc == nil {
		return change.Null(), err
	}
	base := len(c.stack)
	first := min(1, p.groups)
	for i := first; i <= p.groups; i++ {
		c.stack = append(c.stack, group(text, loc, i))
	}
	v, err := c.array(app.Text, c.stack[base:])
	c.stack = c.stack[:base]
	return v, err
}

// buildMatchedGroup compiles (regexp_match(text, pattern))[k] with constants: it makes no array. nil for other subscripts.
func buildMatchedGroup(n *Node, in *change.Layout) (Func, error) {
	call, k := n.Args[0], n.Args[1]
	if call.Kind != KCall || call.Func.Name != "regexp_match" || k.Kind != KConst || k.Value.Null {
		return nil, nil
	}
	flagsAt := -1
	if len(call.Args) == 3 {
		flagsAt = 2
	}
	p, flags := constantPattern(call, flagsAt)
	if p == nil || flags.global {
		return nil, nil
	}
	x, err := Compile(call.Args[0], in)
	if err != nil {
		return nil, err
	}
	at := int(k.Value.N)
	if at < 1 || at > max(p.groups, 1) {
		return strict1(func(*Ctx, change.Value) (change.Value, error) { return change.Null(), nil }, x), nil
	}
	if p.groups == 0 {
		at = 0
	}
	return strict1(func(_ *Ctx, a change.Value) (change.Value, error) {
		if p.fast != nil {
			var m fastMatch
			if found, ok := p.fast.find(a.B, &m); found {
				return group(a.B, m.loc[:], at), nil
			} else if ok {
				return change.Null(), nil
			}
		}
		m := p.find(a.B, 0)
		loc, err := m.next()
		if err != nil || loc == nil {
			return change.Null(), err
		}
		return group(a.B, loc, at), nil
	}, x), nil
}

func regexpLike(c *Ctx, p *pattern, flags regexpFlags, args []change.Value) (change.Value, error) {
	if err := hasGlobal("regexp_like", flags); err != nil {
		return change.Value{}, err
	}
	ok, err := p.match(c, args[0].B)
	return change.Bool(ok), err
}

// searchFrom returns where character start, counted from 1, begins.
func searchFrom(text []byte, args []change.Value, i int) (int, error) {
	if len(args) <= i {
		return 0, nil
	}
	start := args[i].N
	if start <= 0 {
		return 0, evalErrorf(codeParameter, `invalid value for parameter "start": %d`, start)
	}
	if start > int64(utf8.RuneCount(text))+1 {
		return len(text) + 1, nil
	}
	return runeOffset(text, start-1), nil
}

func regexpCount(_ *Ctx, p *pattern, flags regexpFlags, args []change.Value) (change.Value, error) {
	at, err := searchFrom(args[0].B, args, 2)
	if err == nil {
		err = hasGlobal("regexp_count", flags)
	}
	if err != nil {
		return change.Value{}, err
	}
	m := p.find(args[0].B, at)
	for n := int64(0); ; n++ {
		loc, err := m.next()
		if err != nil || loc == nil {
			return change.Int(n), err
		}
	}
}

// nthMatch returns match number args[i], counted from 1, that begins at character args[i-1] or later.
func nthMatch(p *pattern, args []change.Value, i int) ([]int, error) {
	at, err := searchFrom(args[0].B, args, i-1)
	if err != nil {
		return nil, err
	}
	nth := int64(1)
	if len(args) > i {
		if nth = args[i].N; nth <= 0 {
			return nil, evalErrorf(codeParameter, `invalid value for parameter "n": %d`, nth)
		}
	}
	m := p.find(args[0].B, at)
	for {
		loc, err := m.next()
		if nth--; err != nil || loc == nil || nth == 0 {
			return loc, err
		}
	}
}

// subexpression returns the group that is asked for in args[i].
func subexpression(p *pattern, args []change.Value, i int) (group int, ok bool, err error) {
	if len(args) <= i {
		return 0, true, nil
	}
	k := args[i].N
	if k < 0 {
		return 0, false, evalErrorf(codeParameter, `invalid value for parameter "subexpr": %d`, k)
	}
	if p.groups == 0 && k == 1 { // the match counts as a group then
		k = 0
	}
	return int(k), k <= int64(p.groups), nil
}

func regexpSubstr(_ *Ctx, p *pattern, flags regexpFlags, args []change.Value) (change.Value, error) {
	k, has, err := subexpression(p, args, 5)
	if err == nil {
		err = hasGlobal("regexp_substr", flags)
	}
	if err != nil {
		return change.Value{}, err
	}
	loc, err := nthMatch(p, args, 3)
	if err != nil || loc == nil || !has {
		return change.Null(), err
	}
	return group(args[0].B, loc, k), nil
}

func regexpInstr(_ *Ctx, p *pattern, flags regexpFlags, args []change.Value) (change.Value, error) {
	end := int64(0)
	if len(args) > 4 {
		if end = args[4].N; end != 0 && end != 1 {
			return change.Value{}, evalErrorf(codeParameter, `invalid value for parameter "endoption": %d`, end)
		}
	}
	k, has, err := subexpression(p, args, 6)
	if err == nil {
		err = hasGlobal("regexp_instr", flags)
	}
	if err != nil {
		return change.Value{}, err
	}
	loc, err := nthMatch(p, args, 3)
	if err != nil || loc == nil || !has || loc[2*k] < 0 {
		return change.Int(0), err
	}
	return change.Int(int64(utf8.RuneCount(args[0].B[:loc[2*k+int(end)]])) + 1), nil
}

func regexpReplace(c *Ctx, p *pattern, flags regexpFlags, args []change.Value) (change.Value, error) {
	nth := int64(1)
	if flags.global {
		nth = 0
	}
	return c.replaceMatches(p, args[0], args[2].B, 0, nth)
}

// regexpReplaceFrom takes the start and which match to replace: 0 for all.
func regexpReplaceFrom(c *Ctx, p *pattern, _ regexpFlags, args []change.Value) (change.Value, error) {
	at, err := searchFrom(args[0].B, args, 3)
	nth := int64(1)
	if err == nil && len(args) > 4 {
		if nth = args[4].N; nth < 0 {
			err = evalErrorf(codeParameter, `invalid value for parameter "n": %d`, nth)
		}
	}
	if err != nil {
		return change.Value{}, err
	}
	return c.replaceMatches(p, args[0], args[2].B, at, nth)
}

// replaceMatches replaces match number nth, or all when it is 0.
func (c *Ctx) replaceMatches(p *pattern, v change.Value, by []byte, at int, nth int64) (change.Value, error) {
	text := v.B
	from, done := len(c.scratch), 0
	m := p.find(text, at)
	for i := int64(1); ; i++ {
		loc, err := m.next()
		if err != nil {
			return v, err
		}
		if loc == nil {
			break
		}
		if nth != 0 && i < nth {
			continue
		}
		c.scratch = append(c.scratch, text[done:loc[0]]...)
		c.scratch = expand(c.scratch, by, text, loc)
		if done = loc[1]; len(c.scratch)-from > MaxValue {
			return v, tooLong()
		}
		if nth != 0 {
			break
		}
	}
	c.scratch = append(c.scratch, text[done:]...)
	return c.limited(from)
}

// regexpSplit returns what is between the matches. Empty matches at the ends and behind another match do not count.
func regexpSplit(c *Ctx, p *pattern, flags regexpFlags, args []change.Value) (change.Value, error) {
	if err := hasGlobal("regexp_split_to_array", flags); err != nil {
		return change.Value{}, err
	}
	text := args[0].B
	base, done, previous := len(c.stack), 0, 0
	defer func() { c.stack = c.stack[:base] }()
	m := p.find(text, 0)
	for {
		loc, err := m.next()
		if err != nil {
			return change.Value{}, err
		}
		if loc == nil {
			break
		}
		if loc[0] < len(text) && loc[1] > previous {
			c.stack = append(c.stack, change.Bytes(text[done:loc[0]:loc[0]]))
			done = loc[1]
		}
		previous = loc[1]
	}
	c.stack = append(c.stack, change.Bytes(text[done:]))
	return c.array(app.Text, c.stack[base:])
}

// substringPattern is substring(text from pattern): the first group, or the match when the pattern has no group.
func substringPattern(_ *Ctx, p *pattern, _ regexpFlags, args []change.Value) (change.Value, error) {
	text := args[0].B
	m := p.find(text, 0)
	loc, err := m.next()
	if err != nil || loc == nil {
		return change.Null(), err
	}
	return group(text, loc, min(1, p.groups)), nil
}

// splitText appends the parts of text between separators to vals: of an empty separator the text, of a nil one its
// characters.
func splitText(vals []change.Value, text, sep []byte, chars bool) []change.Value {
	if chars {
		for len(text) > 0 {
			_, n := utf8.DecodeRune(text)
			vals = append(vals, change.Bytes(text[:n:n]))
			text = text[n:]
		}
		return vals
	}
	for len(sep) > 0 {
		i := bytes.Index(text, sep)
		if i < 0 {
			break
		}
		vals = append(vals, change.Bytes(text[:i:i]))
		text = text[i+len(sep):]
	}
	return append(vals, change.Bytes(text))
}
