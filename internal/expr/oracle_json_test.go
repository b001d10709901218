package expr_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// What a JSON value becomes in a column is what json_populate_record makes of it.
func TestFromJSONIsAsPostgres(t *testing.T) {
	o := newOracle(t)
	r := rand.New(rand.NewPCG(6, 28))
	var sql, got, raws []string
	for i, typ := range everyType() {
		name := "rec" + string(rune('a'+i))
		if _, err := o.conn.Exec(t.Context(), "CREATE TYPE "+name+" AS (x "+typ.String()+")"); err != nil {
			t.Fatal(err)
		}
		for range 300 {
			raw := rawJSON(r, typ)
			raws = append(raws, typ.String()+" "+raw)
			v, _, err := expr.FromJSON(typ, []byte(raw), nil)
			switch {
			case err != nil:
				got = append(got, "error: "+pgCode(err.(*expr.EvalError).Code)+" "+err.Error())
			case v.Null:
				got = append(got, typ.String()+" NULL")
			default:
				got = append(got, typ.String()+": "+string(expr.AppendText(nil, typ, v)))
			}
			sql = append(sql, "SELECT x FROM json_populate_record(NULL::"+name+", '{\"x\": "+strings.ReplaceAll(raw, "'", "''")+"}')")
		}
	}
	for i, want := range o.ask(sql) {
		if !same(got[i], want) && !bothRefuse(got[i], want) && !(strings.HasPrefix(want, "error") && strings.HasPrefix(got[i], "error")) {
			t.Errorf("%s\n got %s\nwant %s", raws[i], got[i], want)
		}
	}
}

func rawJSON(r *rand.Rand, typ app.Type) string {
	switch r.IntN(6) {
	case 0:
		return pick(r, "null", "true", "false", "1", "1.0", "-1", "1e3", "1.50", "0", "[]", "{}", `[1, {"a" : 2}]`, `{"b":1,"a":"x"}`, `""`, `"1"`, `"true"`, "12345678901234567890", "-0",
			`"\u00e9\n"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\u0000"`, `"2024-01-02T03:04:05Z"`, "01", "1.", ".5", "+1", "nul", `"a`, `"\x"`, "1e", "--1")
	case 1:
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(inputsOrSample(r, typ)) + `"`
	}
	text := sample(r, typ)
	if typ == app.JSONB {
		return text
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(text) + `"`
}

func inputsOrSample(r *rand.Rand, typ app.Type) string {
	if typ == app.Timestamptz || typ == app.Interval {
		return sample(r, typ)
	}
	for {
		if s := inputs(r, typ); !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0xFFFD }) {
			return s
		}
	}
}

func TestAppendJSON(t *testing.T) {
	check := func(typ app.Type, text string, exact bool, want string) {
		t.Helper()
		if got := string(expr.AppendJSON(nil, typ, constOf(t, typ, text).Value, exact)); got != want {
			t.Errorf("%s %s: got %s, want %s", typ, text, got, want)
		}
	}
	check(app.Bool, "t", false, "true")
	check(app.Int4, "-5", true, "-5")
	check(app.Int8, "9007199254740992", true, "9007199254740992")
	check(app.Int8, "9007199254740993", true, `"9007199254740993"`)
	check(app.Int8, "-9007199254740993", true, `"-9007199254740993"`)
	check(app.Int8, "9007199254740993", false, "9007199254740993")
	check(app.Numeric, "1.50", false, "1.50")
	check(app.Numeric, "1.50", true, `"1.50"`)
	check(app.Numeric, "NaN", false, `"NaN"`)
	check(app.Numeric, "-Infinity", false, `"-Infinity"`)
	check(app.Float8, "0.1", false, "0.1")
	check(app.Float8, "1e20", false, "1e+20")
	check(app.Float8, "NaN", false, `"NaN"`)
	check(app.Float8, "Infinity", false, `"Infinity"`)
	check(app.Text, "a\"b\\c\n\u0001é<", false, `"a\"b\\c\n\u0001é<"`)
	check(app.UUID, "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", false, `"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"`)
	check(app.Timestamptz, "2024-01-02 03:04:05", false, `"2024-01-02T03:04:05.000000Z"`)
	check(app.Timestamptz, "2024-01-02 03:04:05.1+02", false, `"2024-01-02T01:04:05.100000Z"`)
	check(app.Timestamptz, "infinity", false, `"infinity"`)
	check(app.Timestamptz, "0044-03-15 BC", false, `"0044-03-15T00:00:00.000000Z BC"`)
	check(app.JSONB, `{"b":1.0,"a":[true,null]}`, true, `{"a": [true, null], "b": 1.0}`)
	check(app.Interval, "1 day 2 hours", false, `"1 day 02:00:00"`)
	if got := string(expr.AppendJSON(nil, app.Int4, change.Null(), false)); got != "null" {
		t.Errorf("NULL: %s", got)
	}
}

// Whatever we write as JSON, we read back as the same value.
func TestJSONRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	for _, typ := range everyType() {
		for range 500 {
			v := constOf(t, typ, sample(r, typ)).Value
			if typ == app.JSONB && string(v.B) == "null" {
				continue // reads back as NULL: JSON has one null for both
			}
			for _, exact := range []bool{false, true} {
				raw := expr.AppendJSON(nil, typ, v, exact)
				back, _, err := expr.FromJSON(typ, raw, nil)
				if err != nil || expr.Compare(typ, v, back) != 0 || string(expr.AppendText(nil, typ, v)) != string(expr.AppendText(nil, typ, back)) {
					t.Fatalf("%s %s: read back as %s, %v", typ, raw, expr.AppendText(nil, typ, back), err)
				}
			}
		}
	}
}

func TestJSONLimits(t *testing.T) {
	refuse := func(typ app.Type, raw, want string) {
		t.Helper()
		_, _, err := expr.FromJSON(typ, []byte(raw), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s…: got %v, want %q", raw, err, want)
		}
	}
	refuse(app.JSONB, strings.Repeat("[", 129)+strings.Repeat("]", 129), "nests deeper than 128")
	refuse(app.Text, strings.Repeat("[", 100000), "nests deeper than 128")
	refuse(app.JSONB, "["+strings.Repeat("1e131071,", 20)+"1]", "takes more than")
	refuse(app.JSONB, "\"\xff\"", "invalid byte sequence")
	refuse(app.Text, "\"\xff\"", "invalid byte sequence")
	refuse(app.Int4, "", "there is nothing")
	if _, _, err := expr.FromJSON(app.JSONB, []byte(strings.Repeat("[", 128)+strings.Repeat("]", 128)), nil); err != nil {
		t.Error(err)
	}
}

// Numbers inside of jsonb are texts that are never computed: they are written, refused and ordered as the same ones are in a numeric column.
func TestJSONNumbers(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 22))
	number := func() string {
		text := pick(r, "", "-") + pick(r, "0", "7", "10", "90", strings.Repeat("8", 1+r.IntN(60)), strings.Repeat("9", 131071+r.IntN(3)))
		text += pick(r, "", "", ".0", ".5", ".00", ".050", "."+strings.Repeat("0", r.IntN(40))+"3", "."+strings.Repeat("4", 16382+r.IntN(3)))
		return text + pick(r, "", "", "e0", "E+1", "e-1", fmt.Sprintf("e%d", r.IntN(120)-60), fmt.Sprintf("e-%d", 16300+r.IntN(100)), fmt.Sprintf("e%d", 131000+r.IntN(100)), "e2000000000", "e-2000000000")
	}
	var json, numeric []change.Value
	for range 2000 {
		raw := number()
		v, _, err := expr.FromJSON(app.JSONB, []byte(raw), nil)
		n, _, refused := expr.FromJSON(app.Numeric, []byte(raw), nil)
		switch {
		case (err == nil) != (refused == nil) || err != nil && err.Error() != refused.Error():
			t.Fatalf("%.100s: in jsonb %v, in numeric %v", raw, err, refused)
		case err != nil:
			continue
		}
		if got, want := string(expr.AppendText(nil, app.JSONB, v)), string(expr.AppendText(nil, app.Numeric, n)); got != want {
			t.Fatalf("%.100s: in jsonb %.100s, in numeric %.100s", raw, got, want)
		}
		for i := range json {
			if got, want := expr.Compare(app.JSONB, v, json[i]), expr.Compare(app.Numeric, n, numeric[i]); cmp.Compare(got, 0) != cmp.Compare(want, 0) {
				t.Fatalf("%.100s and %.100s: %d in jsonb, %d in numeric", raw, expr.AppendText(nil, app.Numeric, numeric[i]), got, want)
			}
		}
		if len(json) < 50 {
			json, numeric = append(json, v), append(numeric, n)
		}
	}
	if len(json) < 50 {
		t.Errorf("only %d numbers were compared", len(json))
	}
}

func FuzzFromJSON(f *testing.F) {
	for _, s := range []string{`1`, `"`, `"a"`, `{"a":[1,2,{"b":null}],"a":1}`, `"2024-01-02T03:04:05.5Z"`, `"1 day"`, `1e400`, `"\ud83d\ude00"`, `-0.0`, `"{a0eebc99-9c0b4ef8bb6d6bb9bd380a11}"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, typ := range everyType() {
			v, _, err := expr.FromJSON(typ, raw, nil)
			if err != nil || v.Null {
				continue
			}
			out := expr.AppendJSON(nil, typ, v, true)
			back, _, err := expr.FromJSON(typ, out, nil)
			if back.Null {
				continue // jsonb null
			}
			if err != nil || expr.Compare(typ, v, back) != 0 {
				t.Fatalf("%s %q became %s and then %v, %v", typ, raw, out, back, err)
			}
		}
	})
}

func FuzzParseText(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		for _, typ := range everyType() {
			f.Add([]byte(sample(r, typ)))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, typ := range everyType() {
			v, _, err := expr.ParseText(typ, text, nil)
			if err != nil {
				continue
			}
			out := expr.AppendText(nil, typ, v)
			back, _, err := expr.ParseText(typ, out, nil)
			if err != nil || expr.Compare(typ, v, back) != 0 {
				t.Fatalf("%s %q printed as %s and read back as %v, %v", typ, text, out, back, err)
			}
		}
	})
}
