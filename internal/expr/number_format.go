package expr

import (
	"bytes"
	"math"
	"math/big"
	"strconv"
	"strings"

	"laaster/app"
	"laaster/internal/change"
)

// numKey is a pattern of to_char for numbers.
type numKey uint8

const (
	numText numKey = iota
	numComma
	numPoint
	numZero
	numNine
	numB
	numD
	numE
	numFM
	numG
	numL
	numMI
	numPL
	numPR
	numRN
	numRNLower
	numSG
	numS
	numTH
	numTHLower
	numV
	numSP
)

type numPart struct {
	key  numKey
	text string
}

// numFormat is a format of to_char for numbers, with PostgreSQL's names for what it holds.
type numFormat struct {
	ops                                     []numPart
	pre, post, multi                        int // digits before and after the point, and added by V
	zeroStart, zeroEnd                      int // where a 0 stands first, and last
	hasZero, decimal, fill, bracket         bool
	sign, minus, plus, roman, hasV, eeee, b bool // S, MI, PL, RN, V, EEEE, B
	signPost                                bool // S stands behind
	preSign                                 int  // digits before S
}

func numWords() []struct {
	word string
	key  numKey
} {
	return []struct {
		word string
		key  numKey
	}{{",", numComma}, {".", numPoint}, {"0", numZero}, {"9", numNine}, {"B", numB}, {"D", numD}, {"EEEE", numE}, {"FM", numFM}, {"G", numG}, {"L", numL},
		{"MI", numMI}, {"PL", numPL}, {"PR", numPR}, {"RN", numRN}, {"rn", numRNLower}, {"SG", numSG}, {"SP", numSP}, {"S", numS}, {"TH", numTH}, {"th", numTHLower}, {"V", numV}}
}

// parseNumFormat reads a format of to_char for numbers.
func parseNumFormat(format string) (*numFormat, error) {
	if len(format) > maxFormat {
		return nil, evalErrorf(codeLimit, "the format has more than %d bytes", maxFormat)
	}
	f, words := &numFormat{}, numWords()
next:
	for s := format; s != ""; {
		for _, w := range words {
			if strings.HasPrefix(s, w.word) || len(s) >= len(w.word) && s[:len(w.word)] == strings.ToLower(w.word) && w.key != numTH && w.key != numRN {
				s = s[len(w.word):]
				f.ops = append(f.ops, numPart{key: w.key})
				if err := f.note(w.key); err != nil {
					return nil, err
				}
				continue next
			}
		}
		var text string
		text, s = formatLiteral(s)
		f.ops = append(f.ops, numPart{text: text})
	}
	return f, nil
}

func formatError(msg string) error { return &EvalError{codeSyntaxError, msg} }

// note counts a pattern.
func (f *numFormat) note(key numKey) error {
	if f.eeee && key != numE {
		return formatError(`"EEEE" must be the last pattern used`)
	}
	switch key {
	case numNine, numZero:
		return f.noteDigit(key)
	case numB:
		f.b = f.b || f.pre == 0 && f.post == 0 && !f.hasZero
	case numD, numPoint:
		if f.decimal {
			return formatError("multiple decimal points")
		}
		if f.hasV {
			return formatError(`cannot use "V" and decimal point together`)
		}
		f.decimal = true
	case numFM:
		f.fill = true
	case numS, numMI, numPL, numSG, numPR:
		return f.noteSign(key)
	case numRN, numRNLower:
		f.roman = true
	case numV:
		if f.decimal {
			return formatError(`cannot use "V" and decimal point together`)
		}
		f.hasV = true
	case numE:
		if f.eeee {
			return formatError(`cannot use "EEEE" twice`)
		}
		if f.b || f.fill || f.sign || f.bracket || f.minus || f.plus || f.roman || f.hasV {
			return formatError(`"EEEE" is incompatible with other formats`)
		}
		f.eeee = true
	}
	return nil
}

func (f *numFormat) noteDigit(key numKey) error {
	if f.bracket {
		return formatError(`digits must be ahead of "PR"`)
	}
	if key == numNine && f.hasV {
		f.multi++
		return nil
	}
	if key == numZero && !f.hasZero && !f.decimal {
		f.hasZero, f.zeroStart = true, f.pre+1
	}
	if f.decimal {
		f.post++
	} else {
		f.pre++
	}
	if key == numZero {
		f.zeroEnd = f.pre + f.post
	}
	return nil
}

func (f *numFormat) noteSign(key numKey) error {
	switch {
	case key == numS && f.sign:
		return formatError(`cannot use "S" twice`)
	case key == numS && (f.plus || f.minus || f.bracket), key != numS && f.sign:
		return formatError(`cannot use "S" and "PL"/"MI"/"SG"/"PR" together`)
	case key == numPR && (f.plus || f.minus):
		return formatError(`cannot use "PR" and "S"/"PL"/"MI"/"SG" together`)
	}
	switch key {
	case numS:
		f.sign, f.preSign, f.signPost = true, f.pre, f.decimal
	case numMI:
		f.minus = true
	case numPL:
		f.plus = true
	case numSG:
		f.minus, f.plus = true, true
	case numPR:
		f.bracket = true
	}
	return nil
}

func addToCharNumbers(c *catalog) {
	for _, t := range []app.Type{app.Int4, app.Int8, app.Numeric, app.Float8} {
		c.add("to_char("+t.String()+", text) text", buildFunc(buildToCharNumber))
	}
}

func buildToCharNumber(n *Node, _ *change.Layout, args []Func) (Func, error) {
	t := n.Args[0].Type
	if k := n.Args[1]; k.Kind == KConst && !k.Value.Null {
		if f, err := parseNumFormat(string(k.Value.B)); err == nil {
			return strict1(func(c *Ctx, a change.Value) (change.Value, error) { return c.toCharNumber(f, t, a) }, args[0]), nil
		}
	}
	return strict2(func(c *Ctx, a, b change.Value) (change.Value, error) {
		f, err := parseNumFormat(string(b.B))
		if err != nil {
			return a, err
		}
		return c.toCharNumber(f, t, a)
	}, args[0], args[1]), nil
}

func (c *Ctx) toCharNumber(f *numFormat, t app.Type, v change.Value) (change.Value, error) {
	if len(f.ops) == 0 {
		return change.Bytes(nil), nil
	}
	var n num
	switch t {
	case app.Int4, app.Int8:
		n = intNum(v.N)
	case app.Numeric:
		n = toNum(v.B)
	default:
		return c.toCharFloat(f, v.Float())
	}
	switch {
	case f.roman:
		r := roundTo(n, 0)
		i, err := intFromNum(&r, app.Int4)
		if err != nil {
			return v, err
		}
		return c.toCharRoman(f, i.N), nil
	case f.eeee:
		return c.toCharScience(f, &n), nil
	case f.hasV:
		p := num{lo: 1}
		p.scaleUp(f.multi)
		p.scale = 0
		n = mulNum(n, p)
	}
	n = roundTo(n, f.post)
	if n.kind == change.NumericFinite && f.post > n.scale {
		n.scaleUp(f.post - n.scale)
	}
	from := len(c.scratch)
	c.scratch = appendNumText(c.scratch, &n)
	text := c.scratch[from:len(c.scratch):len(c.scratch)]
	return c.writeNumber(f, f.post, text), nil
}

// toCharFloat keeps to the 15 digits that a double has.
func (c *Ctx) toCharFloat(f *numFormat, x float64) (change.Value, error) {
	post := f.post
	switch {
	case f.roman:
		r := math.RoundToEven(x)
		if !(r >= 1 && r <= 3999) {
			r = 0
		}
		return c.toCharRoman(f, int64(r)), nil
	case f.eeee && x-x != 0:
		return c.hashes(f), nil
	case f.eeee:
		from := len(c.scratch)
		if !math.Signbit(x) {
			c.scratch = append(c.scratch, ' ')
		}
		c.scratch = strconv.AppendFloat(c.scratch, x, 'e', post, 64)
		return c.made(from), nil
	case f.hasV:
		x *= math.Pow(10, float64(f.multi))
	}
	from := len(c.scratch)
	if x-x != 0 {
		c.scratch = appendFloat(c.scratch, x)
		return c.writeNumber(f, post, c.scratch[from:len(c.scratch):len(c.scratch)]), nil
	}
	before := len(strconv.AppendFloat(c.scratch[from:], math.Abs(x), 'f', 0, 64))
	if before >= 15 {
		post = 0
	} else if before+post > 15 {
		post = 15 - before
	}
	c.scratch = strconv.AppendFloat(c.scratch, x, 'f', post, 64)
	return c.writeNumber(f, post, c.scratch[from:len(c.scratch):len(c.scratch)]), nil
}

func (c *Ctx) toCharRoman(f *numFormat, n int64) change.Value {
	from := len(c.scratch)
	var buf [16]byte
	text := buf[:0]
	if n < 1 || n > 3999 {
		text = append(text, "###############"...)
	}
	for n >= 1 && n <= 3999 {
		for _, r := range [...]struct {
			value int64
			text  string
		}{{1000, "M"}, {900, "CM"}, {500, "D"}, {400, "CD"}, {100, "C"}, {90, "XC"}, {50, "L"}, {40, "XL"}, {10, "X"}, {9, "IX"}, {5, "V"}, {4, "IV"}, {1, "I"}} {
			for ; n >= r.value; n -= r.value {
				text = append(text, r.text...)
			}
		}
	}
	for i := len(text); i < 15 && !f.fill; i++ {
		c.scratch = append(c.scratch, ' ')
	}
	for _, op := range f.ops {
		if op.key == numRNLower {
			text = bytes.ToLower(text)
			break
		}
		if op.key == numRN {
			break
		}
	}
	c.scratch = append(c.scratch, text...)
	return c.made(from)
}

// hashes stands for a number that EEEE cannot write.
func (c *Ctx) hashes(f *numFormat) change.Value {
	from := len(c.scratch)
	c.scratch = append(c.scratch, ' ')
	for range f.pre {
		c.scratch = append(c.scratch, '#')
	}
	c.scratch = append(c.scratch, '.')
	for range f.post + 4 {
		c.scratch = append(c.scratch, '#')
	}
	return c.made(from)
}

// toCharScience writes d.ddde+00.
func (c *Ctx) toCharScience(f *numFormat, n *num) change.Value {
	if n.kind != change.NumericFinite {
		return c.hashes(f)
	}
	from := len(c.scratch)
	if n.sign() < 0 {
		c.scratch = append(c.scratch, '-')
	} else {
		c.scratch = append(c.scratch, ' ')
	}
	exponent, digits := 0, "0"
	if !n.isZero() {
		exponent = n.digitsBefore() - 1
		abs := *n
		abs.neg = false
		r := cut(abs, f.post-exponent, true)
		if r.digitsBefore()-1 > exponent {
			exponent++
		}
		digits = new(big.Int).Set(r.bigCoef()).String()
	}
	for len(digits) < f.post+1 {
		digits += "0"
	}
	c.scratch = append(c.scratch, digits[0])
	if f.post > 0 {
		c.scratch = append(append(c.scratch, '.'), digits[1:f.post+1]...)
	}
	c.scratch = append(c.scratch, 'e', "+-"[boolInt(exponent < 0)])
	c.scratch = appendPadded(c.scratch, int64(max(exponent, -exponent)), 2)
	return c.made(from)
}
