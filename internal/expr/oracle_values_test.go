package expr_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// mutate changes a character or two.
func mutate(r *rand.Rand, s string) string {
	const chars = "0123456789abcdefTZzPpeE+-.:, {}[]\"\\/_@adsmyu"
	b := []byte(s)
	for range 1 + r.IntN(2) {
		if len(b) == 0 {
			return string(chars[r.IntN(len(chars))])
		}
		at := r.IntN(len(b))
		switch r.IntN(3) {
		case 0:
			b[at] = chars[r.IntN(len(chars))]
		case 1:
			b = append(b[:at], b[at+1:]...)
		default:
			b = append(b[:at:at], append([]byte{chars[r.IntN(len(chars))]}, b[at:]...)...)
		}
	}
	return string(b)
}

// inputs returns text that looks like values of a type.
func inputs(r *rand.Rand, t app.Type) string {
	switch r.IntN(10) {
	case 0:
		return " " + sample(r, t) + "\t"
	case 1, 2:
		if t == app.Timestamptz || t == app.Timestamp || t == app.Date || t.Elem() == app.Timestamp {
			break // see TestTimestampInput: PostgreSQL reads far more than ISO 8601
		}
		return strings.ToValidUTF8(mutate(r, sample(r, t)), "")
	}
	switch t {
	case app.Bool:
		return pick(r, "t", "f", "TRUE", "yes", "no", "on", "off", "o", "of", "1", "0", "tr", "fals", "y", "n", "2", "", "truee", "nope")
	case app.Float8:
		return pick(r, "1e400", "-1e400", "1e-400", ".5", "5.", ".", "1e", "1e+5", "inf", "-inf", "+Infinity", "nan", "NAN", "0x10p", "1_0", "--1", "1e5.5", "4.9e-324", "2e-324", sample(r, t))
	case app.Numeric:
		return pick(r, "1e10", "1e-10", "1.5e3", ".5", "5.", ".", "1e", "+1", "1e131071", "1e131072", "1e-16383", "1e-16384", "0e-16384", "0e200000", "inf", "-Infinity", "+nan",
			"0.0e5", "1e", "00012.300", "1E+3", "-0", "-0.00", "12e-3", sample(r, t))
	case app.UUID:
		u := sample(r, t)
		return pick(r, u, strings.ToUpper(u), "{"+u+"}", strings.ReplaceAll(u, "-", ""), u+"0", u[1:], "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11", "{a0eebc999c0b4ef8-bb6d6bb9bd380a11}")
	case app.Interval:
		return inputInterval(r)
	}
	return sample(r, t)
}

func inputInterval(r *rand.Rand) string {
	n := func() string {
		return pick(r, "", "-") + fmt.Sprint(r.IntN(40)) + pick(r, "", "", ".5", ".25", ".123456789")
	}
	unit := func() string {
		return pick(r, "year", "years", "y", "mon", "months", "month", "week", "w", "day", "d", "days", "hour", "h", "min", "m", "minutes", "sec", "s", "seconds",
			"ms", "milliseconds", "us", "microseconds", "decade", "decades", "century", "c", "millennium", "mil", "quarter", "foo")
	}
	switch r.IntN(7) {
	case 0:
		return "P" + n() + "Y" + n() + "M" + n() + "DT" + n() + "H" + n() + "M" + n() + "S"
	case 1:
		return pick(r, "P1W", "PT1H", "P1Y2M", "PT-5.5S", "P", "PT", "P1", "P0001-02-03T04:05:06", "P1-2-3", "P1Y1W", "P1.5Y", "P0.5M", "PT0.5H", "p1d", "P20T")
	case 2:
		return n() + " " + pick(r, "1:02", "04:05:06", "04:05:06.789", "-04:05", "1:2:3", "100:00:00")
	case 3:
		return n() + " " + unit() + " " + n() + " " + unit() + pick(r, "", " ago", " 1:02:03")
	case 4:
		return pick(r, "1-2", "-1-2", "1-2 3 4:05:06", "@ 1 minute", "@ 1 hour ago", "1 day", "12:34.5", "1:2", "1.5", "-1.5", "", "1 2 3", "1 day 1 day", "1d2h", "1 day, 2 hours",
			"5 hours ago", "- 1 day", "+1 day", "1 hour 5", "2147483647 months", "2147483648 months", "178956970 years", "178956971 years", "9223372036854775807 us", "1e3 s", "1 minute 61 seconds")
	}
	return n() + pick(r, " ", "") + unit()
}

// read answers for the input of a type.
func read(t app.Type, text string) string {
	v, _, err := expr.ParseText(t, []byte(text), nil)
	if err != nil {
		return "error: " + pgCode(err.(*expr.EvalError).Code) + " " + err.Error()
	}
	return t.String() + ": " + string(expr.AppendText(nil, t, v))
}

// bothRefuse reports two refusals of input that differ only in what they found first, bad syntax or a number too large.
func bothRefuse(a, b string) bool {
	group := func(s string) int {
		switch {
		case strings.HasPrefix(s, "error: 22P02"), strings.HasPrefix(s, "error: 22003"):
			return 1
		case strings.HasPrefix(s, "error: 22007"), strings.HasPrefix(s, "error: 22008"), strings.HasPrefix(s, "error: 22015"), strings.HasPrefix(s, "error: 22009"):
			return 2
		}
		return 0
	}
	return group(a) != 0 && group(a) == group(b)
}

func TestInputIsAsPostgres(t *testing.T) {
	o := newOracle(t)
	r := rand.New(rand.NewPCG(5, 23))
	for _, typ := range everyType() {
		var sql, texts, got []string
		for range 1000 {
			text := inputs(r, typ)
			if strings.ContainsRune(text, 0) || !utf8.ValidString(text) {
				continue
			}
			texts = append(texts, text)
			sql = append(sql, sqlLiteral(typ, text))
			got = append(got, read(typ, text))
		}
		bad := 0
		for i, want := range o.ask(sql) {
			if typ == app.Interval && strings.HasPrefix(got[i], "error") && strings.ContainsAny(texts[i], `-/:.\[{_`) {
				continue // PostgreSQL reads odd punctuation: "-276- seconds" are years there, somehow
			}
			if typ.IsArray() && strings.HasPrefix(got[i], "error: 0A000") {
				continue // of more dimensions, or with bounds
			}
			if !same(got[i], want) && !bothRefuse(got[i], want) {
				if bad++; bad < 8 {
					t.Errorf("%s %q\n got %s\nwant %s", typ, texts[i], got[i], want)
				}
			}
		}
	}
}

// What we read as a time PostgreSQL reads as the same time. It reads more: see docs/sql-values.md.
func TestTimestampInputIsAsPostgres(t *testing.T) {
	o := newOracle(t)
	r := rand.New(rand.NewPCG(1, 8))
	must := []string{"2024-01-02", "2024-1-2", "20240102", "20240102T030405", "20240102 0304", "2024-01-02T03:04:05Z", "2024-01-02t03:04:05z", "2024-01-02 03:04:05.123456+00",
		"2024-01-02 03:04", "2024-01-02 3:4:5", "2024-01-02 03:04:05+02", "2024-01-02 03:04:05+0230", "2024-01-02 03:04:05 +02:30", "2024-01-02 03:04:05-02:30:15",
		"2024-01-02 24:00:00", "2024-01-02 23:59:60", "2024-02-29", "2024-01-02 03:04:05.1234565", "2024-01-02 03:04:05.9999999", "0044-03-15 BC", "2024-01-02 BC",
		"4714-11-24 00:00:00 BC", "10000-01-01", "2024-01-02 03:04 PM", "2024-01-02 12:30 AM", "2024-01-02 12:30 PM", "2024-01-02 03:04:05 UTC", "2024-01-02 03:04:05 GMT",
		"2024-01-02Z", "2024-01-02+02", "2024-01-02 +02", "  2024-01-02  ", "infinity", "-infinity", "INFINITY", "epoch", "2024-01-02 03:04:05+15:59", "2024-01-02 03:04:05+530",
		"999-01-01", "2024-001"}
	refused := []string{"2024-13-01", "2024-02-30", "2023-02-29", "2024-01-02 25:00", "2024-01-02 24:00:01", "2024-01-02 03:60", "2024-01-02 03:04:61", "", "x", "2024",
		"2024-01", "2024-01-02 03:04:05+16", "0000-01-01", "4714-11-23 BC", "300000-01-01", "2024-01-02T", "2024-01-02 13:00 PM", "12:00", "2024-01-02 03:04:05 Mars"}
	texts := append(append([]string{}, must...), refused...)
	for range 3000 {
		text := sample(r, app.Timestamptz)
		if text[0] >= '0' && text[0] <= '9' {
			text = mutate(r, text)
		}
		texts = append(texts, text)
	}
	sql := make([]string, len(texts))
	for i, text := range texts {
		sql[i] = sqlLiteral(app.Timestamptz, text)
	}
	for i, want := range o.ask(sql) {
		got := read(app.Timestamptz, texts[i])
		switch {
		case i < len(must)-1 && strings.HasPrefix(got, "error"), i >= len(must) && i < len(must)+len(refused) && !bothRefuse(got, want):
			t.Errorf("%q\n got %s\nwant %s", texts[i], got, want)
		case !strings.HasPrefix(got, "error") && got != want:
			t.Errorf("%q\n got %s\nwant %s", texts[i], got, want)
		}
	}
}

// Every value's text reads back as the value, and PostgreSQL prints it in the same way.
func TestFloatOutputIsAsPostgres(t *testing.T) {
	o := newOracle(t)
	r := rand.New(rand.NewPCG(3, 9))
	var sql, got []string
	for i := range 6000 {
		f := math.Float64frombits(r.Uint64())
		switch {
		case i < 2098:
			f = math.Ldexp(1, i-1074)
		case i%3 == 0:
			f = float64(int64(r.Uint64()))
		case i%3 == 1:
			f = float64(r.Uint64N(1<<58)) * 16
		}
		if math.IsNaN(f) || math.IsInf(f, 0) {
			continue
		}
		text := string(expr.AppendText(nil, app.Float8, change.Float(f)))
		got = append(got, "double precision: "+text)
		sql = append(sql, sqlLiteral(app.Float8, fmt.Sprintf("%.17g", f)))
		if v, _, err := expr.ParseText(app.Float8, []byte(text), nil); err != nil || v.Float() != f {
			t.Fatalf("%v prints as %s and reads back as %v, %v", f, text, v.Float(), err)
		}
	}
	for i, want := range o.ask(sql) {
		if got[i] != want {
			t.Errorf("%s: got %s, want %s", sql[i], got[i], want)
		}
	}
}

func TestCastsAreAsPostgres(t *testing.T) {
	o := newOracle(t)
	r := rand.New(rand.NewPCG(7, 1))
	var sql, got []string
	for _, from := range everyType() {
		for _, to := range everyType() {
			for range 30 {
				text := sample(r, from)
				if from == app.Text {
					text = inputs(r, to)
					if to.Elem() == app.Timestamptz || to.Elem() == app.Timestamp || to == app.Date {
						text = sample(r, to)
					}
				}
				if from == app.JSONB {
					text = pick(r, "1", "1.5", "2.5", "1e3", "true", "false", "null", `"a"`, "[]", "{}", "99999999999", "1e400", "-0.5")
				}
				sql = append(sql, sqlLiteral(from, text)+"::"+to.String())
				n, err := expr.Cast(constOf(t, from, text), to, -1)
				got = append(got, ours(n, err))
			}
		}
	}
	for i, want := range o.ask(sql) {
		if strings.HasPrefix(want, "text: ") && strings.Contains(sql[i], "::boolean::text") {
			continue // PostgreSQL's own print of the cast is the same word
		}
		if !same(got[i], want) {
			t.Errorf("%s\n got %s\nwant %s", sql[i], got[i], want)
		}
	}
}

func TestComparisonIsAsPostgres(t *testing.T) {
	o := newOracle(t)
	r := rand.New(rand.NewPCG(2, 4))
	var sql, got []string
	for _, typ := range everyType() {
		for range 400 {
			a, b := sample(r, typ), sample(r, typ)
			if r.IntN(10) == 0 {
				b = a
			}
			op := pick(r, "=", "<", ">=", "<>", ">", "<=")
			sql = append(sql, sqlLiteral(typ, a)+" "+op+" "+sqlLiteral(typ, b))
			n, err := expr.Operator(op, []*expr.Node{constOf(t, typ, a), constOf(t, typ, b)}, -1)
			got = append(got, ours(n, err))
		}
	}
	for i, want := range o.ask(sql) {
		if !same(got[i], want) {
			t.Errorf("%s\n got %s\nwant %s", sql[i], got[i], want)
		}
	}
}
