package expr_test

import (
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
	case typ == app.Text && i == 0 && (f.Name == "extract" || strings.HasPrefix(f.Name, "date_")):
		return pick(r, "day", "month", "hour", "epoch", "year", "week", "quarter", "decade", "century", "millennium", "second", "milliseconds",
			"microseconds", "minute", "dow", "isodow", "doy", "isoyear", "julian", "timezone", "Hours", "mons", "nonsense")
	case strings.HasPrefix(f.Name, "#>") && typ == app.Text:
		return pick(r, "{}", "{a}", "{b,0}", "{0}", "{-1,a}", `{"x\ny"}`, "{abc, a}", "{é}", "{null}", "{0,0}", "{a,b,abc}", "{1}")
	}
	return sample(r, typ)
}

// askFunction builds a random call of f.
func askFunction(t *testing.T, r *rand.Rand, f *expr.Function) question {
	var sql []string
	var nodes []*expr.Node
	for i, typ := range f.Args {
		if typ > app.Interval { // any
			typ = everyType()[r.IntN(len(everyType()))]
		}
		text := argument(r, f, i, typ)
		lit := sqlLiteral(typ, text)
		if typ == app.Text {
			lit += ` COLLATE "C.utf8"` // whose case rules are Unicode's
			if strings.HasPrefix(f.Name, "#>") {
				lit = strings.Replace(lit, `::text COLLATE "C.utf8"`, "::text[]", 1)
			}
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

// approximate reports whether a function's last digits are its library's own.
func approximate(f *expr.Function) bool {
	if len(f.Args) == 0 {
		return true
	}
	switch f.Name {
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
