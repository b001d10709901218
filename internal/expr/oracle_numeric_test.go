package expr_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// bigNumeric reaches for the limits of numeric.
func bigNumeric(r *rand.Rand) string {
	switch r.IntN(24) {
	case 0:
		return pick(r, "1e131071", "9e131071", "-1e131071", "1e-16383", "-5e-16383", "1e100000", "0."+strings.Repeat("0", 16382)+"1", "1e16383", "3", "0.5")
	case 1, 4, 5:
		return "1" + digits(r, 500) + "." + digits(r, 300)
	case 2, 6, 7, 8:
		return pick(r, "18446744073709551615", "18446744073709551616", "340282366920938463463374607431768211455", "340282366920938463463374607431768211456",
			"-340282366920938463463374607431768211455", "99999999999999999999999999999999999999", "100000000000000000000000000000000000000")
	case 3, 9, 10:
		return "0." + strings.Repeat("9", r.IntN(60)) + "5"
	}
	return sampleNumeric(r)
}

func TestNumericArithmeticIsAsPostgres(t *testing.T) {
	o := newOracle(t)
	r := rand.New(rand.NewPCG(99, 1))
	var sql, got []string
	for range 600 {
		a, b := bigNumeric(r), bigNumeric(r)
		op := pick(r, "+", "-", "*", "/", "%", "<", "=")
		n, err := expr.Operator(op, []*expr.Node{constOf(t, app.Numeric, a), constOf(t, app.Numeric, b)}, -1)
		sql, got = append(sql, sqlLiteral(app.Numeric, a)+" "+op+" "+sqlLiteral(app.Numeric, b)), append(got, ours(n, err))

		f := pick(r, "round", "trunc", "ceil", "floor", "abs", "sqrt", "sign", "-")
		n, err = expr.Call(f, []*expr.Node{constOf(t, app.Numeric, a)}, -1)
		if f == "-" {
			n, err = expr.Operator("-", []*expr.Node{constOf(t, app.Numeric, a)}, -1)
		}
		sql, got = append(sql, f+"("+sqlLiteral(app.Numeric, a)+")"), append(got, ours(n, err))

		places := fmt.Sprint(r.IntN(60) - 30)
		f = pick(r, "round", "trunc")
		n, err = expr.Call(f, []*expr.Node{constOf(t, app.Numeric, b), constOf(t, app.Int4, places)}, -1)
		sql, got = append(sql, f+"("+sqlLiteral(app.Numeric, b)+", "+places+")"), append(got, ours(n, err))
	}
	for i, want := range o.ask(sql) {
		if !same(got[i], want) {
			t.Errorf("%.300s\n got %.300s\nwant %.300s", sql[i], got[i], want)
		}
	}
}

// avg divides the exact sum by the count.
func TestAverageIsAsPostgres(t *testing.T) {
	o := newOracle(t)
	r := rand.New(rand.NewPCG(12, 3))
	var sql, got []string
	for range 500 {
		sum, count := sampleNumeric(r), 1+r.IntN(1000)
		b := expr.AppendAverage(nil, constOf(t, app.Numeric, sum).Value.B, int64(count))
		got = append(got, "numeric: "+string(expr.AppendText(nil, app.Numeric, change.Bytes(b))))
		sql = append(sql, fmt.Sprintf("%s / %d", sqlLiteral(app.Numeric, sum), count))
	}
	for i, want := range o.ask(sql) {
		if got[i] != want {
			t.Errorf("%s\n got %s\nwant %s", sql[i], got[i], want)
		}
	}
}

// The simple patterns that both languages of regular expressions read mean the same in both.
func TestRegularExpressionsAreAsPostgres(t *testing.T) {
	o := newOracle(t)
	r := rand.New(rand.NewPCG(4, 4))
	var sql, got []string
	for range 1500 {
		text := sampleText(r)
		var b strings.Builder
		for range 1 + r.IntN(4) {
			b.WriteString(pick(r, "a", "b", ".", "[a-c]", "[^a]", "(ab|X)", "x", "é", `\d`, `\s`, `\w`, "hello", ",", `\.`, "^", "$", "[[:alpha:]]", "(?:a|b)"))
			b.WriteString(pick(r, "", "", "*", "+", "?", "{2}", "{1,3}"))
		}
		pattern := b.String()
		if strings.Contains(pattern, "^*") || strings.Contains(pattern, "^+") || strings.Contains(pattern, "^?") || strings.Contains(pattern, "^{") || strings.Contains(pattern, "$*") ||
			strings.Contains(pattern, "$+") || strings.Contains(pattern, "$?") || strings.Contains(pattern, "${") {
			continue // repeating an anchor is an error there
		}
		op := pick(r, "~", "!~", "~*", "!~*")
		n, err := expr.Operator(op, []*expr.Node{constOf(t, app.Text, text), constOf(t, app.Text, pattern)}, -1)
		sql, got = append(sql, sqlLiteral(app.Text, text)+` COLLATE "C" `+op+" "+sqlLiteral(app.Text, pattern)), append(got, ours(n, err))
	}
	for i, want := range o.ask(sql) {
		if !same(got[i], want) {
			t.Errorf("%s\n got %s\nwant %s", sql[i], got[i], want)
		}
	}
}
