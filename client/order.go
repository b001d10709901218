package client

import (
	"bytes"
	"cmp"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// term is one part of an order.
type term struct {
	column     string
	desc       bool
	nullsFirst bool
}

// terms reads "total.desc,country.asc.nullslast"; ties are broken by the key columns. NULL is last ascending and first descending unless said
// otherwise.
func terms(order string, key []string) []term {
	var out []term
	for _, t := range append(strings.Split(order, ","), key...) {
		words := strings.Split(strings.TrimSpace(t), ".")
		if words[0] == "" {
			continue
		}
		x := term{column: words[0]}
		for _, w := range words[1:] {
			switch w {
			case "desc":
				x.desc, x.nullsFirst = true, true
			case "nullsfirst":
				x.nullsFirst = true
			case "nullslast":
				x.nullsFirst = false
			}
		}
		out = append(out, x)
	}
	return out
}

// sortKey returns the values of a row that an order looks at.
func sortKey(row []byte, by []term) []sortValue {
	out := make([]sortValue, len(by))
	members(row, func(name, value []byte) {
		for i := range by {
			if string(name) == by[i].column {
				out[i] = sortable(value)
			}
		}
	})
	return out
}

// sortValue is one value to sort by.
type sortValue struct {
	kind kind
	num  float64
	text string // of a string what it says, of a number its digits, else the JSON
}

type kind uint8

const (
	kindNull kind = iota
	kindBool
	kindNumber
	kindText
	kindJSON
)

func sortable(value []byte) sortValue {
	switch value[0] {
	case 'n':
		return sortValue{}
	case 't':
		return sortValue{kind: kindBool, num: 1}
	case 'f':
		return sortValue{kind: kindBool}
	case '"':
		return sortValue{kind: kindText, text: text(value)}
	case '{', '[':
		return sortValue{kind: kindJSON, text: string(appendCanonical(nil, value))}
	}
	f, _ := strconv.ParseFloat(string(value), 64) // beyond its range: an infinity, and the digits decide
	return sortValue{kind: kindNumber, num: f, text: string(value)}
}

// compareBy orders two rows by their sort keys.
func compareBy(by []term, a, b []sortValue) int {
	for i := range by {
		x, y := &a[i], &b[i]
		if x.kind == kindNull || y.kind == kindNull {
			if x.kind == y.kind {
				continue
			}
			if (x.kind == kindNull) == by[i].nullsFirst {
				return -1
			}
			return 1
		}
		c := compareValues(x, y)
		if by[i].desc {
			c = -c
		}
		if c != 0 {
			return c
		}
	}
	return 0
}

// compareValues compares numbers as numbers, text bytewise, false before true. Numbers that are not finite come as strings.
func compareValues(x, y *sortValue) int {
	if x.kind != y.kind && x.kind >= kindNumber && y.kind >= kindNumber && x.kind <= kindText && y.kind <= kindText {
		a, b := special(x), special(y)
		if a != 0 || b != 0 {
			return cmp.Compare(a, b)
		}
	}
	if x.kind != y.kind {
		return cmp.Compare(x.kind, y.kind)
	}
	switch x.kind {
	case kindBool:
		return cmp.Compare(x.num, y.num)
	case kindNumber:
		if c := cmp.Compare(x.num, y.num); c != 0 || x.text == y.text || math.Abs(x.num) < 1<<53 && whole(x.text) && whole(y.text) {
			return c
		}
		return compareDigits(x.text, y.text)
	case kindText:
		if a, b := special(x), special(y); a != 0 && b != 0 {
			return cmp.Compare(a, b)
		}
	}
	return bytes.Compare([]byte(x.text), []byte(y.text))
}

// special places the numbers that JSON cannot hold: NaN is above all, as in PostgreSQL.
func special(v *sortValue) int {
	if v.kind != kindText {
		return 0
	}
	switch v.text {
	case "NaN":
		return 2
	case "Infinity":
		return 1
	case "-Infinity":
		return -1
	}
	return 0
}

func whole(digits string) bool { return !strings.ContainsAny(digits, ".eE") }

// compareDigits compares numbers that are the same as doubles by all their digits. The numbers of a double column have few, those of a
// numeric one no exponent.
func compareDigits(a, b string) int {
	if len(a) > 1<<17 || len(b) > 1<<17 || strings.ContainsAny(a, "eE") || strings.ContainsAny(b, "eE") {
		return 0
	}
	x, ok := new(big.Rat).SetString(a)
	y, also := new(big.Rat).SetString(b)
	if !ok || !also {
		return 0
	}
	return x.Cmp(y)
}
