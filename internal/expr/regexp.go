package expr

import (
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"

	"laaster/internal/change"
)

// pattern is a compiled regular expression.
type pattern struct {
	re       *regexp.Regexp
	size     int  // elements, with repetitions written out
	groups   int  // in parentheses
	anchored bool // what matches depends on what stands before it: the text cannot be cut there
	fast     *fastPattern
}

// regexpFlags are the options of a pattern.
type regexpFlags struct {
	fold   bool // i: without regard to case
	lines  bool // n, m: ^ and $ match at line ends, a dot does not
	quote  bool // q: the pattern is plain text
	global bool // g: all matches
}

// parseFlags reads option letters as PostgreSQL does; of opposites the last one counts.
func parseFlags(s []byte) (f regexpFlags, err error) {
	for _, c := range s {
		switch c {
		case 'g':
			f.global = true
		case 'i':
			f.fold = true
		case 'c':
			f.fold = false
		case 'm', 'n':
			f.lines = true
		case 's':
			f.lines = false
		case 'q':
			f.quote = true
		case 'e', 't': // the default
		default:
			return f, evalErrorf(codeParameter, "invalid regular expression option: %q", string(rune(c)))
		}
	}
	return f, nil
}

// compileRegexp reads a pattern. As in PostgreSQL a point matches a line end too, unless flags say otherwise, and the longest
// of the leftmost matches counts, unless a quantifier of the pattern is not greedy.
func compileRegexp(text []byte, flags regexpFlags) (pattern, error) {
	source := string(text)
	if flags.quote {
		source = regexp.QuoteMeta(source)
	} else {
		source = translateRegexp(source)
	}
	head := "(?s)"
	if flags.lines {
		head = "(?m)"
	}
	if flags.fold {
		head += "(?i)"
	}
	tree, err := syntax.Parse(head+source, syntax.Perl)
	if err != nil {
		return pattern{}, regexpError(err, head)
	}
	p := pattern{size: regexpSize(tree), groups: tree.MaxCap()}
	if p.size > maxRegexpSize {
		return pattern{}, evalErrorf(codeLimit, "the regular expression has more than %d elements, repetitions written out", maxRegexpSize)
	}
	if p.re, err = regexp.Compile(head + source); err != nil {
		return pattern{}, regexpError(err, head)
	}
	lazy := false
	walkRegexp(tree, func(re *syntax.Regexp) {
		lazy = lazy || re.Flags&syntax.NonGreedy != 0 && isQuantifier(re.Op)
		switch re.Op {
		case syntax.OpBeginText, syntax.OpBeginLine, syntax.OpWordBoundary, syntax.OpNoWordBoundary:
			p.anchored = true
		}
	})
	if !lazy {
		p.re.Longest()
		p.fast = newFastPattern(tree)
	}
	return p, nil
}

// regexpError says what is wrong with a pattern, without the flags that were put in front of it.
func regexpError(err error, head string) error {
	msg := strings.TrimPrefix(err.Error(), "error parsing regexp: ")
	return evalErrorf(codeRegexp, "invalid regular expression: %s", strings.Replace(msg, "`"+head, "`", 1))
}

// translateRegexp writes the escapes of PostgreSQL that mean something else to RE2 as RE2 has them: \y and \Y for word
// boundaries, \b for a backspace, \B for a backslash, \Z for the end.
func translateRegexp(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch s[i] {
		case 'y':
			b.WriteString(`\b`)
		case 'Y':
			b.WriteString(`\B`)
		case 'b':
			b.WriteString(`\x08`)
		case 'B':
			b.WriteString(`\\`)
		case 'Z':
			b.WriteString(`\z`)
		default:
			b.WriteString(s[i-1 : i+1])
		}
	}
	return b.String()
}

func isQuantifier(op syntax.Op) bool {
	return op == syntax.OpStar || op == syntax.OpPlus || op == syntax.OpQuest || op == syntax.OpRepeat
}

func walkRegexp(re *syntax.Regexp, visit func(*syntax.Regexp)) {
	visit(re)
	for _, sub := range re.Sub {
		walkRegexp(sub, visit)
	}
}

// regexpSize counts the elements of a pattern, at most a little beyond maxRegexpSize.
func regexpSize(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		if n += regexpSize(sub); n > maxRegexpSize {
			return n
		}
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return n
}

func (p *pattern) match(c *Ctx, text []byte) (bool, error) {
	if len(text)*p.size > maxRegexpWork {
		return false, tooCostly()
	}
	if err := c.spend(len(text) * p.size); err != nil {
		return false, err
	}
	return p.re.Match(text), nil
}

// maxRegexps bounds the patterns that a Ctx remembers.
const maxRegexps = 64

// regexp compiles a pattern that is not a constant, and remembers it.
func (c *Ctx) regexp(text []byte, flags regexpFlags) (*pattern, error) {
	from := len(c.scratch)
	c.scratch = append(c.scratch, 'a'+flags.bits())
	c.scratch = append(c.scratch, text...)
	key := c.scratch[from:]
	if p, ok := c.regexps[string(key)]; ok {
		return p, nil
	}
	p, err := compileRegexp(text, flags)
	if err != nil {
		return nil, err
	}
	if c.regexps == nil || len(c.regexps) >= maxRegexps {
		c.regexps = map[string]*pattern{}
	}
	c.regexps[string(key)] = &p
	return &p, nil
}

// bits tells the flags apart that change what is compiled.
func (f regexpFlags) bits() byte {
	return byte(boolInt(f.fold) | boolInt(f.lines)<<1 | boolInt(f.quote)<<2)
}

// matches finds one match after the other.
type matches struct {
	p    *pattern
	text []byte
	at   int     // where the next search begins; beyond the text: there is none
	work int     // characters times elements that searches may still look at
	all  [][]int // of a pattern that is anchored: all that are left
	done bool    // all is set
}

// How much work all searches of one call may take, and how many matches of an anchored pattern are looked at.
const (
	maxMatchesWork = 1 << 28
	maxMatches     = 100_000
)

func (p *pattern) find(text []byte, at int) matches {
	return matches{p: p, text: text, at: at, work: maxMatchesWork}
}

// next returns the positions of the next match and of its groups, as regexp's FindSubmatchIndex does; nil when there is none.
// A match may be empty and lie just behind the one before.
func (m *matches) next() ([]int, error) {
	if m.at > len(m.text) {
		return nil, nil
	}
	if m.work -= (len(m.text) - m.at + 1) * m.p.size; m.work < 0 || len(m.text)*m.p.size > maxRegexpWork {
		return nil, tooCostly()
	}
	if m.p.anchored {
		return m.nextAnchored()
	}
	loc := m.p.re.FindSubmatchIndex(m.text[m.at:])
	if loc == nil {
		m.at = len(m.text) + 1
		return nil, nil
	}
	for i := range loc {
		if loc[i] >= 0 {
			loc[i] += m.at
		}
	}
	m.at = loc[1]
	if loc[0] == loc[1] {
		_, n := utf8.DecodeRune(m.text[m.at:])
		m.at += max(n, 1)
	}
	return loc, nil
}

func (m *matches) nextAnchored() ([]int, error) {
	if !m.done {
		m.done = true
		if m.all = m.p.re.FindAllSubmatchIndex(m.text, maxMatches+1); len(m.all) > maxMatches {
			return nil, tooCostly()
		}
	}
	for len(m.all) > 0 {
		loc := m.all[0]
		m.all = m.all[1:]
		if loc[0] >= m.at {
			return loc, nil
		}
	}
	return nil, nil
}

// group returns group i of a match, NULL when it took no part; group 0 is the match.
func group(text []byte, loc []int, i int) change.Value {
	if 2*i+1 >= len(loc) || loc[2*i] < 0 {
		return change.Null()
	}
	return change.Bytes(text[loc[2*i]:loc[2*i+1]:loc[2*i+1]])
}

// expand appends a replacement: \1 to \9 are groups, \& the match, \\ a backslash. It stops a little beyond MaxValue bytes.
func expand(dst, by, text []byte, loc []int) []byte {
	from := len(dst)
	for i := 0; i < len(by) && len(dst)-from <= MaxValue; i++ {
		if by[i] != '\\' || i+1 == len(by) {
			dst = append(dst, by[i])
			continue
		}
		switch c := by[i+1]; {
		case c >= '1' && c <= '9':
			dst = append(dst, group(text, loc, int(c-'0')).B...)
		case c == '&':
			dst = append(dst, text[loc[0]:loc[1]]...)
		case c == '\\':
			dst = append(dst, '\\')
		default:
			dst = append(dst, '\\')
			continue
		}
		i++
	}
	return dst
}

// buildRegexp compiles ~ and its relatives. The language is RE2's, see docs/sql-values.md.
func buildRegexp(n *Node, _ *change.Layout, args []Func) (Func, error) {
	op := n.Func.Name
	not, flags := op[0] == '!', regexpFlags{fold: op[len(op)-1] == '*'}
	if k := n.Args[1]; k.Kind == KConst && !k.Value.Null {
		if p, err := compileRegexp(k.Value.B, flags); err == nil {
			return strict1(func(c *Ctx, a change.Value) (change.Value, error) {
				ok, err := p.match(c, a.B)
				return change.Bool(ok != not), err
			}, args[0]), nil
		}
	}
	return strict2(func(c *Ctx, a, b change.Value) (change.Value, error) {
		p, err := c.regexp(b.B, flags)
		if err != nil {
			return a, err
		}
		ok, err := p.match(c, a.B)
		return change.Bool(ok != not), err
	}, args[0], args[1]), nil
}

// hasGlobal refuses the flag g where there is but one match.
func hasGlobal(name string, flags regexpFlags) error {
	if !flags.global {
		return nil
	}
	hint := ""
	if strings.HasSuffix(name, "match") {
		hint = ": use regexp_replace or regexp_split_to_array"
	}
	return evalErrorf(codeParameter, `%s() does not support the "global" option%s`, name, hint)
}
