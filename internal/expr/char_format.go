package expr

import "strings"

// charKey is a pattern of to_char for times.
type charKey uint8

const (
	charText charKey = iota // plain text
	charAMDots
	charAM
	charHH12
	charHH24
	charMI
	charSS
	charFF1
	charFF2
	charFF3
	charFF4
	charFF5
	charFF6
	charSSSS
	charTZ
	charTZH
	charTZM
	charOF
	charADDots
	charAD
	charMonth
	charMon
	charMM
	charDay
	charDy
	charDDD
	charIDDD
	charDD
	charD
	charID
	charWW
	charIW
	charW
	charQ
	charCC
	charJ
	charYComma
	charYear // the last n digits
	charIYear
	charRM
	charFX
)

// charCase is how words are written.
type charCase uint8

const (
	charUpper charCase = iota
	charTitle
	charLower
)

// charOp is one part of a format.
type charOp struct {
	key    charKey
	letter charCase
	n      int8 // digits of charYear and charIYear
	fill   bool // FM: without padding
	th     byte // 0, 't' for th or 'T' for TH
	quoted bool // the text stood in quotes
	text   string
}

// charWord is a pattern and what it means.
type charWord struct {
	word string
	op   charOp
}

// charWords lists the patterns in the order in which they are looked for, longer before shorter ones that begin them.
// Those that are not here in lower case mean in lower case what they mean in upper case.
func charWords() []charWord {
	k := func(word string, key charKey) charWord { return charWord{word, charOp{key: key}} }
	l := func(word string, key charKey, c charCase) charWord {
		return charWord{word, charOp{key: key, letter: c}}
	}
	y := func(word string, key charKey, n int8) charWord { return charWord{word, charOp{key: key, n: n}} }
	return []charWord{
		l("A.D.", charADDots, charUpper), l("a.d.", charADDots, charLower), l("B.C.", charADDots, charUpper), l("b.c.", charADDots, charLower),
		l("A.M.", charAMDots, charUpper), l("a.m.", charAMDots, charLower), l("P.M.", charAMDots, charUpper), l("p.m.", charAMDots, charLower),
		l("AD", charAD, charUpper), l("ad", charAD, charLower), l("BC", charAD, charUpper), l("bc", charAD, charLower),
		l("AM", charAM, charUpper), l("am", charAM, charLower), l("PM", charAM, charUpper), l("pm", charAM, charLower),
		k("CC", charCC),
		l("DAY", charDay, charUpper), l("Day", charDay, charTitle), l("day", charDay, charLower),
		k("DDD", charDDD), k("DD", charDD),
		l("DY", charDy, charUpper), l("Dy", charDy, charTitle), l("dy", charDy, charLower),
		k("D", charD),
		k("FF1", charFF1), k("FF2", charFF2), k("FF3", charFF3), k("FF4", charFF4), k("FF5", charFF5), k("FF6", charFF6), k("FX", charFX),
		k("HH24", charHH24), k("HH12", charHH12), k("HH", charHH12),
		k("IDDD", charIDDD), k("ID", charID), k("IW", charIW), y("IYYY", charIYear, 4), y("IYY", charIYear, 3), y("IY", charIYear, 2), y("I", charIYear, 1),
		k("J", charJ), k("MI", charMI), k("MM", charMM),
		l("MONTH", charMonth, charUpper), l("Month", charMonth, charTitle), l("month", charMonth, charLower),
		l("MON", charMon, charUpper), l("Mon", charMon, charTitle), l("mon", charMon, charLower),
		k("MS", charFF3), k("OF", charOF), k("Q", charQ), l("RM", charRM, charUpper), l("rm", charRM, charLower),
		k("SSSSS", charSSSS), k("SSSS", charSSSS), k("SS", charSS),
		k("TZH", charTZH), k("TZM", charTZM), l("TZ", charTZ, charUpper), l("tz", charTZ, charLower),
		k("US", charFF6), k("WW", charWW), k("W", charW),
		k("Y,YYY", charYComma), y("YYYY", charYear, 4), y("YYY", charYear, 3), y("YY", charYear, 2), y("Y", charYear, 1),
	}
}

// charWordAt returns the pattern at the beginning of s.
func charWordAt(words []charWord, s string) (charWord, bool) {
	for _, w := range words {
		if strings.HasPrefix(s, w.word) {
			return w, true
		}
	}
	for _, w := range words {
		if len(s) >= len(w.word) && w.op.letter == charUpper && s[:len(w.word)] == strings.ToLower(w.word) {
			return w, true
		}
	}
	return charWord{}, false
}

// maxFormat bounds the text of a format.
const maxFormat = 1024

// parseCharFormat reads a format of to_char for times.
func parseCharFormat(format string) ([]charOp, error) {
	if len(format) > maxFormat {
		return nil, evalErrorf(codeLimit, "the format has more than %d bytes", maxFormat)
	}
	words := charWords()
	var ops []charOp
	literal := func(s string, quoted bool) {
		if n := len(ops); n > 0 && ops[n-1].key == charText && ops[n-1].quoted == quoted {
			ops[n-1].text += s
			return
		}
		ops = append(ops, charOp{text: s, quoted: quoted})
	}
	for s := format; s != ""; {
		fill := false
		if strings.HasPrefix(s, "FM") || strings.HasPrefix(s, "fm") {
			fill, s = true, s[2:]
		} else if strings.HasPrefix(s, "TM") || strings.HasPrefix(s, "tm") {
			s = s[2:] // the locale is C
		}
		if w, ok := charWordAt(words, s); ok {
			op := w.op
			op.fill, s = fill, s[len(w.word):]
			switch {
			case strings.HasPrefix(s, "TH"), strings.HasPrefix(s, "th"):
				op.th, s = s[0], s[2:]
			case strings.HasPrefix(s, "SP"), strings.HasPrefix(s, "sp"):
				s = s[2:]
			}
			ops = append(ops, op)
			continue
		}
		if s == "" {
			break
		}
		var text string
		quoted := s[0] == '"'
		text, s = formatLiteral(s)
		literal(text, quoted)
	}
	return ops, nil
}

// formatLiteral takes what stands for itself from the beginning of a format: a text in quotes or one character.
func formatLiteral(s string) (text, rest string) {
	if s[0] != '"' {
		if strings.HasPrefix(s, `\"`) {
			return `"`, s[2:]
		}
		n := runeLength(s)
		return s[:n], s[n:]
	}
	var b strings.Builder
	for s = s[1:]; s != ""; {
		if s[0] == '"' {
			return b.String(), s[1:]
		}
		if s[0] == '\\' && len(s) > 1 {
			s = s[1:]
		}
		n := runeLength(s)
		b.WriteString(s[:n])
		s = s[n:]
	}
	return b.String(), ""
}
