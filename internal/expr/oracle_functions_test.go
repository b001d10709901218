package expr_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"laaster/app"
	"laaster/internal/expr"
)

// call is one question: a function over constants, as a node and as SQL.
type question struct {
	sql    string
	answer string
}

// sqlCall writes a call of f as SQL.
func sqlCall(f *expr.Function, args []string) string {
	switch {
	case f.IsOperator() && len(args) == 2:
		return args[0] + " " + f.Name + " " + args[1]
	case f.IsOperator():
		return f.Name + " " + args[0]
	}
	return `pg_catalog."` + f.Name + `"(` + strings.Join(args, ", ") + ")"
}

// argument returns the text of a random argument for parameter i of f.
func argument(r *rand.Rand, f *expr.Function, i int, typ app.Type) string {
	switch {
	case f.Name == "make_interval" && typ == app.Float8: // PostgreSQL 15 lets large ones wrap
		return pick(r, "0", "1.5", "-0.0000015", "100000.25")
	case f.Name == "repeat" || strings.HasSuffix(f.Name, "pad") || f.Name == "make_interval" || f.Name == "right":
		if typ == app.Int4 {
			return pick(r, "0", "1", "3", "-2", "12")
		}
	case f.Name == "to_char" && i == 1 && category(f.Args[0]) == 'N':
		return pick(r, "999", "9.99", "FM9.99", "000", "FM000", "S999", "999S", "9,999", "FM9,999.00", "99D9", "9G999", "999MI", "MI999", "PL999", "SG99", "999PR",
			"RN", "FMrn", "99th", "999TH", "9.99EEEE", "0.99", "FM990.99", "099", "$999", "L99", "\"n=\"99", "B99", "FM999999999999.999", "99999999999999999999.9", "")
	case f.Name == "to_date" || f.Name == "to_timestamp" && typ == app.Text:
		if i == 1 {
			return pick(r, "YYYY-MM-DD", "DD Mon YYYY", "YYYY-MM-DD HH24:MI:SS")
		}
		return pick(r, "2024-02-29", "12 Jan 1999", "2024-01-02 03:04:05", "2023-02-29", "x", "1 2 3")
	case f.Name == "to_char" && i == 1:
		return pick(r, "YYYY-MM-DD", "HH24:MI", "HH24:MI:SS.US", "FMHH12:MI AM", "Day, DD Month YYYY", "FMDay FMDD FMMonth", "DY dy Dy MON Mon mon", "IYYY-IW-ID", "IDDD DDD", "WW W Q CC J",
			"Y,YYY YYY YY Y", "IYY IY I", "RM rm FMRM", "SSSS SSSSS MS FF3 FF1", "TZ tz TZH:TZM OF", "BC b.c. A.D. P.M. am", "DDth FMDDTH", "\"quoted \\\" DD\" DD", "month MONTH", "day DAY", "D ID", "", "yyyy-mm-dd hh24:mi:ss", "FXYYYY é DD")
	case strings.HasPrefix(f.Name, "regexp_") && typ == app.Text && i > 2:
		return pick(r, "", "i", "c", "ic", "n", "s", "g", "gi", "q", "ng", "m", "z")
	case (strings.HasPrefix(f.Name, "regexp_") || f.Name == "substring") && typ == app.Text && i == 1:
		return pick(r, "a", "b+", "(a)(b)?", "[a-c]+", "x*", "^a", "c$", "", ".", "(l+)", "a|b", "(o)|(x)", "[^a-z]", `\\d+`, ",", "é")
	case strings.HasPrefix(f.Name, "regexp_") && typ == app.Text && i == 2:
		if f.Name != "regexp_replace" {
			return pick(r, "", "i", "c", "n", "s", "q", "g")
		}
		return pick(r, "", "-", `\\1`, `<\\&>`, `\\\\`, `\\2\\1`, "abc", `a\\`)
	case strings.HasPrefix(f.Name, "regexp_") && typ == app.Int4:
		return pick(r, "0", "1", "1", "1", "2", "3", "-1")
	case typ == app.Text && (f.Name == "timezone" || f.Name == "make_timestamptz" || i == 2):
		return pick(r, "UTC", "Europe/Berlin", "america/new_york", "EST", "PDT", "+03", "-05:30", "Asia/Kolkata", "Asia/Tokyo", "Mars/Base", "GMT+3", "Europe/London", "CET")
	case (f.Name == "timezone" || strings.HasPrefix(f.Name, "make_") || f.Name == "date_trunc") && (typ == app.Timestamptz || typ == app.Timestamp):
		return fmt.Sprintf("%04d-%02d-%02d %02d:%02d:%02d", 1971+r.IntN(60), 1+r.IntN(12), 1+r.IntN(28), r.IntN(24), r.IntN(60), r.IntN(60))
	case f.Name == "timezone":
		return pick(r, "2 hours", "-05:30", "1 day", "00:00:30", "1 mon")
	case (f.Name == "age" || f.Name == "overlaps") && (typ == app.Timestamptz || typ == app.Timestamp):
		return fmt.Sprintf("%04d-%02d-%02d %02d:%02d:%02d", 2000+r.IntN(10), 1+r.IntN(12), 1+r.IntN(28), r.IntN(24), r.IntN(60), r.IntN(60))
	case f.Name == "make_date" || strings.HasPrefix(f.Name, "make_timestamp"):
		if typ == app.Int4 {
			return pick(r, "1", "2", "12", "2024", "0", "-44", "23", "24", "59", "60", "29", "31")
		}
		return pick(r, "0", "59.9999999", "60", "61", "-1", "12.345", "30")
	case typ == app.Text && i == 0 && (f.Name == "extract" || strings.HasPrefix(f.Name, "date_")):
		return pick(r, "day", "month", "hour", "epoch", "year", "week", "quarter", "decade", "century", "millennium", "second", "milliseconds",
			"microseconds", "minute", "dow", "isodow", "doy", "isoyear", "julian", "timezone", "Hours", "mons", "nonsense")
	case f.Name == "jsonb_object" && r.IntN(2) == 0:
		return pick(r, "{}", "{a,1,b,2}", "{a,b}", "{a,NULL}", "{b,x,a,y,b,z}", "{a,b,c,d}")
	case f.Name == "factorial":
		return pick(r, "0", "1", "5", "20", "33", "-1", "100")
	case f.Name == "format" && i == 0:
		return pick(r, "%s", "%I", "%L", "a%%b", "%10s|", "%-10s|", "%1$s %1$L", "%*s", "%", "%z", "%s %s", "x", "%2$s", "%5I")
	case f.Name == "width_bucket" && typ == app.Int4 && i == 3:
		return pick(r, "1", "5", "10", "100", "0", "-1")
	case f.Name == "width_bucket" && category(typ) == 'N':
		return pick(r, "0", "1", "10", "5", "3", "7")
	case (strings.HasPrefix(f.Name, "#") || strings.HasPrefix(f.Name, "?") || strings.HasPrefix(f.Name, "jsonb_set") || strings.HasPrefix(f.Name, "jsonb_insert")) && typ == app.Array(app.Text):
		return pick(r, "{}", "{a}", "{b,0}", "{0}", "{-1,a}", `{"x\ny"}`, "{abc, a}", "{é}", "{null}", "{0,0}", "{a,b,abc}", "{1}")
	}
	return sample(r, typ)
}

// concrete returns the type of an argument for a parameter of any kind. elem stands for anyelement and its relatives.
func concrete(r *rand.Rand, t, elem app.Type) app.Type {
	switch word := expr.TypeWord(t); {
	case word == "any":
		return everyType()[r.IntN(len(everyType()))]
	case word == "anynonarray":
		return everyType()[r.IntN(10)]
	case strings.HasPrefix(word, "any") && t.IsArray():
		return app.Array(elem)
	case strings.HasPrefix(word, "any"):
		return elem
	}
	return t
}

// askFunction builds a random call of f.
func askFunction(t *testing.T, r *rand.Rand, f *expr.Function) question {
	var sql []string
	var nodes []*expr.Node
	elem := []app.Type{app.Int4, app.Text, app.Numeric, app.Timestamp}[r.IntN(4)]
	for i, typ := range f.Args {
		typ = concrete(r, typ, elem)
		text := argument(r, f, i, typ)
		lit := sqlLiteral(typ, text)
		if typ == app.Text {
			lit += ` COLLATE "C.utf8"` // whose case rules are Unicode's
		}
		sql = append(sql, lit)
		nodes = append(nodes, constOf(t, typ, text))
	}
	if f.IsOperator() {
		n, err := expr.Operator(f.Name, nodes, -1)
		return question{sqlCall(f, sql), ours(n, err)}
	}
	n, err := expr.Call(f.Name, nodes, -1)
	return question{sqlCall(f, sql), ours(n, err)}
}

// category is 'N' for numbers.
func category(t app.Type) byte {
	switch t {
	case app.Int4, app.Int8, app.Float8, app.Numeric:
		return 'N'
	}
	return 'X'
}

// approximate reports whether a function's last digits are its library's own.
func approximate(f *expr.Function) bool {
	if len(f.Args) == 0 {
		return true
	}
	switch f.Name {
	case "sin", "cos", "tan", "cot", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "cbrt", "degrees", "radians", "||/":
		return true
	case "exp", "ln", "log", "log10", "power", "pow", "^":
		return f.Args[0] == app.Float8
	}
	return false
}

// The functions of double precision whose last digit is the library's own: near enough, and refused for the same arguments.
func TestApproximateFunctionsAreNearPostgres(t *testing.T) {
	o := newOracle(t)
	r := rand.New(rand.NewPCG(13, 19))
	for _, f := range expr.Functions() {
		if f.Volatility != expr.Immutable || !approximate(f) {
			continue
		}
		var questions []question
		var sql []string
		for range 100 {
			q := askFunction(t, r, f)
			questions, sql = append(questions, q), append(sql, q.sql)
		}
		for i, want := range o.ask(sql) {
			got := questions[i].answer
			if same(got, want) {
				continue
			}
			a, err1 := strconv.ParseFloat(strings.TrimPrefix(got, "double precision: "), 64)
			b, err2 := strconv.ParseFloat(strings.TrimPrefix(want, "double precision: "), 64)
			if err1 != nil || err2 != nil || math.Abs(a-b) > 1e-13*math.Abs(b) {
				t.Errorf("%s\n got %s\nwant %s", sql[i], got, want)
			}
		}
	}
}

// The reference page names every function and operator.
func TestReferenceIsComplete(t *testing.T) {
	page, err := os.ReadFile("../../docs/sql-values.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(page), `\|`, "|")
	for _, f := range expr.Functions() {
		if !strings.Contains(text, "`"+f.Name+"`") && !strings.Contains(text, "`"+f.Name+"(") {
			t.Errorf("docs/sql-values.md does not name %s", f.Signature())
		}
	}
}

func TestFunctionsAreAsPostgres(t *testing.T) {
	o := newOracle(t)
	r := rand.New(rand.NewPCG(11, 17))
	for _, f := range expr.Functions() {
		if f.Volatility != expr.Immutable || approximate(f) {
			continue
		}
		if strings.HasSuffix(strings.TrimSuffix(f.Name, "*"), "~") && !strings.Contains(f.Name, "~~") && f.Args[0] == app.Text {
			continue // regular expressions have another language there
		}
		var questions []question
		for range 60 {
			questions = append(questions, askFunction(t, r, f))
		}
		var sql []string
		for _, q := range questions {
			sql = append(sql, q.sql)
		}
		bad := 0
		for i, want := range o.ask(sql) {
			if got := questions[i].answer; !same(got, want) {
				if bad++; bad <= 4 {
					t.Errorf("%s\n got %s\nwant %s", sql[i], got, want)
				}
			}
		}
	}
}
