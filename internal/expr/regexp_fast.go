package expr

import (
	"bytes"
	"regexp/syntax"
	"unicode/utf8"
)

// fastPattern matches patterns of a simple kind without the machinery of package regexp and without allocating: a sequence of
// plain text, groups, choices between plain texts, anchors, and runs of a class of characters that nothing need be given
// back of, since what follows a run cannot begin with a character of the class. It finds what regexp finds.
type fastPattern struct {
	items  []fastItem
	must   []byte // plain text that is in every match
	before int    // bytes of a match before must: at least
	most   int    // and at most
}

type fastKind uint8

const (
	fastText   fastKind = iota // text
	fastChoice                 // one of texts, the first that leads to a match
	fastRun                    // characters of class, as many as there are and at least least
	fastOpen                   // the beginning of group n
	fastClose                  // its end
	fastBegin                  // ^
	fastEnd                    // $
)

type fastItem struct {
	kind  fastKind
	text  []byte
	texts []fastItem // of kinds fastText, fastBegin and fastEnd
	class *[256]bool
	least int
	n     int
}

// newFastPattern returns the fast form, nil when the pattern is of another kind.
func newFastPattern(re *syntax.Regexp) *fastPattern {
	if re.MaxCap() > maxFastGroups {
		return nil
	}
	p := &fastPattern{}
	if !p.add(re) {
		return nil
	}
	for i := range p.items {
		if p.items[i].kind == fastRun && !p.possessive(i) {
			return nil
		}
	}
	return p.plan()
}

// maxFastGroups bounds the groups of a fast pattern.
const maxFastGroups = 7

func (p *fastPattern) add(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			if !p.add(sub) {
				return false
			}
		}
		return true
	case syntax.OpCapture:
		p.items = append(p.items, fastItem{kind: fastOpen, n: re.Cap})
		ok := p.add(re.Sub[0])
		p.items = append(p.items, fastItem{kind: fastClose, n: re.Cap})
		return ok
	case syntax.OpStar, syntax.OpPlus:
		class := byteClass(re.Sub[0])
		least := 0
		if re.Op == syntax.OpPlus {
			least = 1
		}
		p.items = append(p.items, fastItem{kind: fastRun, class: class, least: least})
		return class != nil
	case syntax.OpAlternate:
		return p.addChoice(re)
	}
	item, ok := fastAtom(re)
	if ok {
		p.items = append(p.items, item)
	}
	return ok
}

// fastAtom is plain text or an anchor.
func fastAtom(re *syntax.Regexp) (fastItem, bool) {
	switch re.Op {
	case syntax.OpEmptyMatch:
		return fastItem{kind: fastText}, true
	case syntax.OpBeginText:
		return fastItem{kind: fastBegin}, true
	case syntax.OpEndText:
		return fastItem{kind: fastEnd}, true
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase != 0 {
			return fastItem{}, false
		}
		return fastItem{kind: fastText, text: []byte(string(re.Rune))}, true
	case syntax.OpCharClass:
		if len(re.Rune) == 2 && re.Rune[0] == re.Rune[1] {
			return fastItem{kind: fastText, text: []byte(string(re.Rune[:1]))}, true
		}
	}
	return fastItem{}, false
}

// addChoice takes choices between texts of which none begins another: then no choice is longer than another that matches, but
// for anchors, which are empty and come last.
func (p *fastPattern) addChoice(re *syntax.Regexp) bool {
	item := fastItem{kind: fastChoice}
	for _, sub := range re.Sub {
		atom, ok := fastAtom(sub)
		if !ok {
			return false
		}
		for _, other := range item.texts {
			if other.kind != fastText || bytes.HasPrefix(other.text, atom.text) && atom.kind == fastText || bytes.HasPrefix(atom.text, other.text) && atom.kind == fastText {
				return false
			}
		}
		item.texts = append(item.texts, atom)
	}
	p.items = append(p.items, item)
	return true
}

// byteClass returns the bytes of the characters of a class that holds all or none of those beyond ASCII; nil for others.
func byteClass(re *syntax.Regexp) *[256]bool {
	var class [256]bool
	switch re.Op {
	case syntax.OpAnyChar:
		for i := range class {
			class[i] = true
		}
		return &class
	case syntax.OpCharClass:
	default:
		return nil
	}
	for i := 0; i < len(re.Rune); i += 2 {
		lo, hi := re.Rune[i], re.Rune[i+1]
		if hi >= utf8.RuneSelf && (hi != utf8.MaxRune || lo > utf8.RuneSelf) {
			return nil
		}
		if hi >= utf8.RuneSelf {
			hi = 255
		}
		for r := lo; r <= hi; r++ {
			class[r] = true
		}
	}
	return &class
}

// possessive reports whether what follows the run at item i cannot begin with a character of the run.
func (p *fastPattern) possessive(i int) bool {
	class := p.items[i].class
	for _, next := range p.items[i+1:] {
		switch next.kind {
		case fastOpen, fastClose, fastEnd: // a run that is cut short is not at the end
		case fastText:
			if len(next.text) > 0 {
				return !class[next.text[0]]
			}
		default:
			return false
		}
	}
	return true
}

// plan finds the text that every match holds.
func (p *fastPattern) plan() *fastPattern {
	least, most := 0, 0
	for _, item := range p.items {
		switch item.kind {
		case fastText:
			if len(item.text) > len(p.must) {
				p.must, p.before, p.most = item.text, least, most
			}
			least, most = least+len(item.text), most+len(item.text)
		case fastChoice:
			shortest, longest := 1<<20, 0
			for _, t := range item.texts {
				shortest, longest = min(shortest, len(t.text)), max(longest, len(t.text))
			}
			least, most = least+shortest, most+longest
		case fastRun: // of no known length: what follows does not help to find the beginning
			if len(p.must) == 0 {
				return nil
			}
			return p
		}
	}
	if len(p.must) == 0 {
		return nil
	}
	return p
}

// fastMatch is a search and what it found.
type fastMatch struct {
	loc  [2 * (maxFastGroups + 1)]int // where groups begin and end; group 0 is the match. -1: it took no part
	work int                          // characters that may still be looked at
}

// find looks for the first match in text. When that takes too long it stops with ok false: runs from many beginnings may
// each go through the whole text.
func (p *fastPattern) find(text []byte, m *fastMatch) (found, ok bool) {
	m.work = 4*len(text) + 64
	tried := -1 // the last start that was tried
	for from := 0; ; {
		i := bytes.Index(text[from:], p.must)
		if i < 0 {
			return false, true
		}
		at := from + i
		for start := max(tried+1, at-p.most, 0); start <= at-p.before; start++ {
			for g := range m.loc {
				m.loc[g] = -1
			}
			if end := p.run(0, text, start, m); end >= 0 {
				m.loc[0], m.loc[1] = start, end
				return true, true
			}
			if tried = start; m.work < 0 {
				return false, false
			}
		}
		from = at + 1
	}
}

// run matches from item i on at a position and returns where the match ends, -1 when there is none.
func (p *fastPattern) run(i int, text []byte, at int, m *fastMatch) int {
	for ; i < len(p.items); i++ {
		item := &p.items[i]
		switch item.kind {
		case fastOpen:
			m.loc[2*item.n] = at
		case fastClose:
			m.loc[2*item.n+1] = at
		case fastRun:
			from := at
			for at < len(text) && item.class[text[at]] {
				at++
			}
			if m.work -= at - from; at-from < item.least {
				return -1
			}
		case fastChoice:
			for j := range item.texts {
				if next := item.texts[j].step(text, at); next >= 0 {
					if end := p.run(i+1, text, next, m); end >= 0 {
						return end
					}
				}
			}
			return -1
		default:
			if at = item.step(text, at); at < 0 {
				return -1
			}
		}
	}
	return at
}

// step matches plain text or an anchor and returns where it ends, -1 when it does not match.
func (it *fastItem) step(text []byte, at int) int {
	switch it.kind {
	case fastBegin:
		if at != 0 {
			return -1
		}
		return at
	case fastEnd:
		if at != len(text) {
			return -1
		}
		return at
	}
	if !bytes.HasPrefix(text[at:], it.text) {
		return -1
	}
	return at + len(it.text)
}
