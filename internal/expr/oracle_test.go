package expr_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/kit/testkit"
)

// The oracle answers a list of SQL expressions, each on its own, with the type and the output of its value or with the name
// of the error condition.
type oracle struct {
	t    *testing.T
	conn *pgx.Conn
}

// answer is "NULL", "type: output" or "error: condition".
func newOracle(t *testing.T) *oracle {
	t.Helper()
	conn := testkit.Postgres(t).Schema(t)
	_, err := conn.Exec(t.Context(), `
		CREATE FUNCTION try(x text) RETURNS text LANGUAGE plpgsql AS $$
		DECLARE r text;
		BEGIN
			EXECUTE 'SELECT pg_typeof(v)::text || CASE WHEN v IS NULL THEN '' NULL'' ELSE format('': %s'', v) END FROM (SELECT (' || x || ') AS v) AS s' INTO r;
			RETURN r;
		EXCEPTION WHEN OTHERS THEN
			RETURN 'error: ' || SQLSTATE || ' ' || SQLERRM;
		END $$;
		SET timezone = 'UTC'; SET extra_float_digits = 1; SET client_min_messages = error`)
	if err != nil {
		t.Fatal(err)
	}
	return &oracle{t, conn}
}

// ask evaluates the expressions.
func (o *oracle) ask(exprs []string) []string {
	o.t.Helper()
	rows, err := o.conn.Query(o.t.Context(), "SELECT try(x) FROM unnest($1::text[]) WITH ORDINALITY AS u(x, n) ORDER BY n", exprs)
	if err != nil {
		o.t.Fatal(err)
	}
	answers, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		o.t.Fatal(err)
	}
	if len(answers) != len(exprs) {
		o.t.Fatalf("%d answers to %d questions", len(answers), len(exprs))
	}
	for i, a := range answers {
		a = strings.ReplaceAll(a, "timestamp with time zone", "timestamptz")
		a = strings.ReplaceAll(a, "timestamp without time zone", "timestamp")
		if a == "double precision: -0" { // we have one zero
			a = "double precision: 0"
		}
		answers[i] = a
	}
	return answers
}

// pgCode returns the SQLSTATE of a condition name that we use.
func pgCode(condition string) string {
	return map[string]string{
		"invalid_text_representation": "22P02", "numeric_value_out_of_range": "22003", "division_by_zero": "22012",
		"invalid_datetime_format": "22007", "datetime_field_overflow": "22008", "interval_field_overflow": "22015",
		"invalid_parameter_value": "22023", "feature_not_supported": "0A000", "program_limit_exceeded": "54000",
		"untranslatable_character": "22P05", "character_not_in_repertoire": "22021", "substring_error": "22011",
		"invalid_escape_sequence": "22025", "invalid_regular_expression": "2201B", "invalid_argument_for_logarithm": "2201E",
		"invalid_argument_for_power_function": "2201F", "invalid_time_zone_displacement_value": "22009",
		"null_value_not_allowed": "22004", "syntax_error": "42601", "array_subscript_error": "2202E", "invalid_argument_for_width_bucket_function": "2201G",
	}[condition]
}

// ours evaluates a node and writes its answer as the oracle does.
func ours(n *expr.Node, err error) string {
	if err != nil {
		if strings.Contains(err.Error(), "does not exist") {
			return "error: 42883"
		}
		if strings.Contains(err.Error(), "cannot cast type") {
			return "error: 42846"
		}
		if strings.Contains(err.Error(), "not unique") {
			return "error: 42725"
		}
		return "error: bind: " + err.Error()
	}
	n = expr.Settle(n)
	f, err := expr.Compile(n, nil)
	if err != nil {
		return "error: compile: " + err.Error()
	}
	v, err := f(&expr.Ctx{})
	if err != nil {
		return "error: " + pgCode(err.(*expr.EvalError).Code) + " " + err.Error()
	}
	if v.Null {
		return n.Type.String() + " NULL"
	}
	return n.Type.String() + ": " + string(expr.AppendText(nil, n.Type, v))
}

// same compares answers; of errors only the code.
func same(a, b string) bool {
	if strings.HasPrefix(a, "error: ") && strings.HasPrefix(b, "error: ") && len(a) >= 12 && len(b) >= 12 {
		return a[:12] == b[:12]
	}
	return a == b
}

// sqlLiteral writes a value as SQL.
func sqlLiteral(t app.Type, text string) string {
	return "'" + strings.ReplaceAll(text, "'", "''") + "'::" + t.String()
}

// constOf reads text as a constant.
func constOf(t *testing.T, typ app.Type, text string) *expr.Node {
	t.Helper()
	v, _, err := expr.ParseText(typ, []byte(text), nil)
	if err != nil {
		t.Fatalf("%s %q: %v", typ, text, err)
	}
	return expr.Const(typ, change.Value{N: v.N, B: append([]byte{}, v.B...)}, -1)
}

// everyType lists the types of values.
func everyType() []app.Type {
	return []app.Type{app.Bool, app.Int4, app.Int8, app.Float8, app.Numeric, app.Text, app.UUID, app.Timestamptz, app.JSONB, app.Interval,
		app.Timestamp, app.Date, app.Array(app.Int4), app.Array(app.Text), app.Array(app.Numeric), app.Array(app.Timestamp)}
}

func pick(r *rand.Rand, from ...string) string { return from[r.IntN(len(from))] }

// sample returns the text of a random value: every type's edges and its everyday values.
func sample(r *rand.Rand, t app.Type) string {
	switch t {
	case app.Bool:
		return pick(r, "true", "false")
	case app.Int4:
		return pick(r, "0", "1", "-1", "2", "7", "2147483647", "-2147483648", "10", "100", fmt.Sprint(int32(r.Uint32())), fmt.Sprint(r.IntN(40)-20))
	case app.Int8:
		return pick(r, "0", "1", "-1", "9223372036854775807", "-9223372036854775808", "2147483648", fmt.Sprint(int64(r.Uint64())), fmt.Sprint(r.IntN(40)-20))
	case app.Float8:
		return sampleFloat(r)
	case app.Numeric:
		return sampleNumeric(r)
	case app.Text:
		return sampleText(r)
	case app.UUID:
		return fmt.Sprintf("%08x-0000-4000-8000-%012x", r.Uint32(), r.Uint32())
	case app.Timestamptz, app.Timestamp:
		return sampleTimestamp(r)
	case app.Date:
		return sampleDate(r)
	case app.JSONB:
		return sampleJSON(r, 3)
	case app.Interval:
		return sampleInterval(r)
	}
	return sampleArray(r, t.Elem())
}

func sampleDate(r *rand.Rand) string {
	if r.IntN(3) == 0 {
		return pick(r, "epoch", "infinity", "-infinity", "2000-01-01", "1999-12-31", "2024-02-29", "0001-01-01", "4714-11-24 BC", "0044-03-15 BC", "9999-12-31", "5874897-12-31")
	}
	return fmt.Sprintf("%04d-%02d-%02d", 1800+r.IntN(400), 1+r.IntN(12), 1+r.IntN(28))
}

func sampleArray(r *rand.Rand, elem app.Type) string {
	items := make([]string, r.IntN(5))
	for i := range items {
		text := sample(r, elem)
		if items[i] = `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(text) + `"`; r.IntN(6) == 0 {
			items[i] = "NULL"
		}
	}
	return "{" + strings.Join(items, ",") + "}"
}

func sampleFloat(r *rand.Rand) string {
	switch r.IntN(8) {
	case 0:
		return pick(r, "0", "1", "-1", "0.5", "-0.5", "1.5", "2.5", "1e15", "1e14", "123456789012345680", "1e-4", "1e-5", "NaN", "Infinity", "-Infinity")
	case 1:
		return pick(r, "1e308", "-1e308", "1.7976931348623157e308", "5e-324", "2.2250738585072014e-308", "9223372036854775807", "-9223372036854775808", "2147483647.5", "4503599627370497.5")
	case 2:
		return fmt.Sprint((r.Float64() - 0.5) * 1e-6)
	case 3:
		return fmt.Sprintf("%fe%d", r.Float64(), r.IntN(600)-300)
	case 4:
		return fmt.Sprint(r.IntN(2000) - 1000)
	}
	return fmt.Sprint((r.Float64() - 0.5) * 1000)
}

func digits(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('0' + r.IntN(10))
	}
	return string(b)
}

func sampleNumeric(r *rand.Rand) string {
	sign := pick(r, "", "", "-")
	switch r.IntN(10) {
	case 0:
		return pick(r, "0", "1", "-1", "0.0", "0.000", "1.0", "10", "0.1", "0.9", "1.1", "9999", "10000", "0.0001", "0.00001", "NaN", "Infinity", "-Infinity")
	case 1:
		return sign + digits(r, 1+r.IntN(60)) + "." + digits(r, 1+r.IntN(60))
	case 2:
		return sign + "0." + strings.Repeat("0", r.IntN(30)) + digits(r, 1+r.IntN(20))
	case 3:
		return sign + digits(r, 1+r.IntN(20)) + strings.Repeat("0", r.IntN(30))
	case 4:
		return sign + digits(r, 18+r.IntN(4))
	case 5:
		return sign + digits(r, 36+r.IntN(6))
	case 6:
		return sign + fmt.Sprint(r.IntN(20))
	}
	return sign + digits(r, 1+r.IntN(8)) + "." + digits(r, 1+r.IntN(6))
}

func sampleText(r *rand.Rand) string {
	words := []string{"", "a", "abc", "ABC", "a,b,c", "  x  ", "hello world", "%", "_", "a%b", "xyz", "aXbX", "é", "日本語", "naïve café", "1", "-1", "t",
		"true", "12.5", "a\\b", "tab\there", "line\nbreak", "day", "month", "hour", "epoch", "year", "{a,b}", "{a,0}", "a.b", "[a-c]+", "^a", "c$", "O'Neil", "\"q\"", "xx", ",", "b"}
	if r.IntN(4) == 0 {
		return words[r.IntN(len(words))] + words[r.IntN(len(words))]
	}
	return words[r.IntN(len(words))]
}

func sampleTimestamp(r *rand.Rand) string {
	switch r.IntN(8) {
	case 0:
		return pick(r, "epoch", "infinity", "-infinity", "2000-01-01", "1999-12-31 23:59:59.999999", "2024-02-29", "2023-03-31 12:00", "0001-01-01", "4713-01-01 BC", "0044-03-15 BC", "9999-12-31")
	case 1:
		return fmt.Sprintf("%04d-%02d-%02d", 1+r.IntN(3000), 1+r.IntN(12), 1+r.IntN(28))
	case 2:
		return fmt.Sprintf("2024-%02d-%02d %02d:00", 1+r.IntN(12), 1+r.IntN(28), r.IntN(24))
	}
	return fmt.Sprintf("%04d-%02d-%02d %02d:%02d:%02d.%06d%+03d", 1900+r.IntN(200), 1+r.IntN(12), 1+r.IntN(28), r.IntN(24), r.IntN(60), r.IntN(60), r.IntN(1000000), r.IntN(24)-12)
}

func sampleInterval(r *rand.Rand) string {
	switch r.IntN(6) {
	case 0:
		return pick(r, "0", "1 day", "-1 day", "1 month", "30 days", "24 hours", "1 year", "00:00:01", "1 mon -30 days", "720:00:00", "12 months", "-1 year 3 mons")
	case 1:
		return fmt.Sprintf("%d seconds", r.IntN(100000)-50000)
	case 2:
		return fmt.Sprintf("%d days %d:%02d:%02d.%03d", r.IntN(60)-30, r.IntN(50), r.IntN(60), r.IntN(60), r.IntN(1000))
	}
	return fmt.Sprintf("%d years %d mons %d days %d hours %d mins %d.%d secs", r.IntN(6)-3, r.IntN(30)-15, r.IntN(60)-30, r.IntN(60)-30, r.IntN(100), r.IntN(60), r.IntN(1000000))
}

func sampleJSON(r *rand.Rand, depth int) string {
	n := 9
	if depth == 0 {
		n = 6
	}
	switch r.IntN(n) {
	case 0:
		return pick(r, "null", "true", "false")
	case 1, 2:
		return pick(r, "0", "1", "-1", "1.0", "1.50", "1e3", "-0", "12345678901234567890", "0.1")
	case 3, 4, 5:
		return pick(r, `""`, `"a"`, `"abc"`, `"A"`, `"b"`, `"é"`, `"x\ny"`, `"\u0001"`, `"q\"q"`, `"1"`)
	case 6:
		var b strings.Builder
		for i := range r.IntN(4) {
			if i > 0 {
				b.WriteString(",")
			}
			b.WriteString(sampleJSON(r, depth-1))
		}
		return "[" + b.String() + "]"
	}
	var b strings.Builder
	for i := range r.IntN(4) {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(pick(r, `"a"`, `"b"`, `"abc"`, `"é"`, `"0"`, `"x\ny"`) + ":" + sampleJSON(r, depth-1))
	}
	return "{" + b.String() + "}"
}
