package expr

import (
	"bytes"

	"laaster/internal/change"
)

// numWriter lays a number out by a format, step by step as PostgreSQL does (NUM_processor in formatting.c).
type numWriter struct {
	f        *numFormat
	out      []byte
	number   []byte // digits and the point
	at       int    // in number
	negative bool
	signed   bool // the sign is written, or need not be
	bracket  bool
	signPost bool
	in       bool // a digit was just written
	spaces   int  // places before the first digit
	curr     int
	count    int
	relevant int // the last digit that FM keeps; -1: all
	start    int // where zeros begin
}

// writeNumber lays out text, the print of a number with post digits after its point.
func (c *Ctx) writeNumber(f *numFormat, post int, text []byte) change.Value {
	w := numWriter{f: f, number: text, bracket: f.bracket, signPost: f.signPost, relevant: -1, start: max(f.zeroStart-1, 0)}
	if len(text) > 0 && text[0] == '-' {
		w.negative, w.number = true, text[1:]
	}
	before, pre := len(w.number), f.pre
	if i := bytes.IndexByte(w.number, '.'); i >= 0 {
		before = i
	}
	if f.hasV {
		pre += f.multi
	}
	switch {
	case before < pre:
		w.spaces = pre - before
	case before > pre:
		w.number = bytes.Repeat([]byte{'#'}, pre+post+1)
		w.number[pre] = '.'
	}
	w.prepare(pre, post)
	from := len(c.scratch)
	w.out = c.scratch
	for i := range f.ops {
		w.write(&f.ops[i])
	}
	c.scratch = w.out
	return c.made(from)
}

func (w *numWriter) prepare(pre, post int) {
	f := w.f
	if f.plus || f.minus {
		w.signed = !f.plus || f.minus
	} else {
		if !w.negative && f.fill {
			w.bracket = false
		}
		w.signed = !w.negative && f.fill && !f.sign
		if f.sign && pre == f.preSign {
			w.signPost = true
		}
	}
	w.count = post + pre - 1
	if f.fill && f.decimal {
		if point := bytes.IndexByte(w.number, '.'); point >= 0 {
			w.relevant = point
			for i := point + 1; i < len(w.number); i++ {
				if w.number[i] != '0' {
					w.relevant = i
				}
			}
			if f.zeroEnd > w.spaces {
				w.relevant = max(w.relevant, min(len(w.number)-1, f.zeroEnd-w.spaces))
			}
		}
	}
	if !w.signed && w.spaces == 0 {
		w.count++
	}
}

// write writes one part of the format.
func (w *numWriter) write(op *numPart) {
	switch op.key {
	case numText:
		w.out = append(w.out, op.text...)
	case numNine, numZero, numPoint, numD:
		w.digit(op.key)
	case numComma, numG:
		if w.in {
			w.out = append(w.out, ',')
		} else if !w.f.fill {
			w.out = append(w.out, ' ')
		}
	case numL:
		w.out = append(w.out, ' ')
	case numTH, numTHLower:
		if w.number[0] != '#' && !w.negative && !w.f.decimal {
			th := byte('T')
			if op.key == numTHLower {
				th = 't'
			}
			w.out = append(w.out, ordinal(w.number, th)...)
		}
	case numMI:
		w.mark(w.negative, '-')
	case numPL:
		w.mark(!w.negative, '+')
	case numSG:
		w.out = append(w.out, w.signByte())
	}
}

// mark writes a sign when it holds, a space when not.
func (w *numWriter) mark(holds bool, sign byte) {
	switch {
	case holds:
		w.out = append(w.out, sign)
	case !w.f.fill:
		w.out = append(w.out, ' ')
	}
}

func (w *numWriter) signByte() byte {
	if w.negative {
		return '-'
	}
	return '+'
}

// beforePoint reports whether the digit at hand is the 0 before the point that 9.9 does not show.
func (w *numWriter) beforePoint() bool {
	return !w.f.hasZero && w.at == 0 && len(w.number) > 0 && w.number[0] == '0' && w.f.post != 0
}

// onlyPoint reports whether FM leaves nothing behind the point.
func (w *numWriter) onlyPoint() bool { return w.relevant >= 0 && w.number[w.relevant] == '.' }

func (w *numWriter) digit(key numKey) {
	w.in = false
	if !w.signed && (w.curr >= w.spaces || w.f.hasZero && w.start == w.curr) && (!w.beforePoint() || w.onlyPoint()) {
		w.leadingSign()
	}
	switch {
	case w.curr < w.spaces && (w.start > w.curr || !w.f.hasZero):
		if !w.f.fill {
			w.out = append(w.out, ' ')
		}
	case w.curr < w.spaces && w.f.hasZero:
		w.out = append(w.out, '0')
		w.in = true
	default:
		w.copyDigit(key)
		if w.at < len(w.number) {
			w.at++
		}
	}
	end := w.count + int(boolInt(w.spaces > 0)) + int(boolInt(w.f.decimal))
	if w.relevant >= 0 && w.relevant == w.at {
		end = w.curr
	}
	if w.curr+1 == end {
		w.trailingSign()
	}
	w.curr++
}

func (w *numWriter) copyDigit(key numKey) {
	ch := byte(0)
	if w.at < len(w.number) {
		ch = w.number[w.at]
	}
	switch {
	case ch == '.':
		w.out = append(w.out, '.')
	case w.relevant >= 0 && w.at > w.relevant && key != numZero:
	case w.beforePoint():
		if !w.f.fill {
			w.out = append(w.out, ' ')
		} else if w.onlyPoint() {
			w.out = append(w.out, '0')
		}
	case ch != 0:
		w.out = append(w.out, ch)
		w.in = true
	default:
		w.in = true
	}
}

func (w *numWriter) leadingSign() {
	switch {
	case w.f.sign:
		if w.signPost {
			return
		}
		w.out = append(w.out, w.signByte())
	case w.bracket:
		w.out = append(w.out, " <"[boolInt(w.negative)])
	case w.negative:
		w.out = append(w.out, '-')
	case !w.f.fill:
		w.out = append(w.out, ' ')
	}
	w.signed = true
}

func (w *numWriter) trailingSign() {
	switch {
	case w.signed && w.bracket:
		w.out = append(w.out, " >"[boolInt(w.negative)])
	case w.f.sign && w.signPost:
		w.out = append(w.out, w.signByte())
	}
}
