package oracle

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/kit/testkit"
	"laaster/internal/sql"
)

// sample returns a value of a type in text form.
func sample(r *rand.Rand, t app.Type) string {
	if t.IsArray() {
		items := make([]string, r.IntN(4))
		for i := range items {
			if items[i] = "NULL"; r.IntN(6) > 0 {
				items[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(sample(r, t.Elem())) + `"`
			}
		}
		return "{" + strings.Join(items, ",") + "}"
	}
	pool := map[app.Type][]string{
		app.Bool:    {"t", "f"},
		app.Int4:    {"0", "1", "2", "3", "-1", "7", "12", "2147483647", "-2147483648"},
		app.Int8:    {"0", "1", "-5", "3", "40", "9223372036854775807", "-9223372036854775808"},
		app.Float8:  {"0", "0.5", "1", "-1.25", "2", "1e300", "1e-300", "NaN", "Infinity", "-Infinity", "10"},
		app.Numeric: {"0", "0.00", "1", "1.50", "-2.5", "3", "10", "123456789012345678901234567890", "0.000000001", "NaN", "Infinity", "-Infinity"},
		app.Text: {"", "a", "abc", "A b C", "ab,cd", "ß é x", "1", "12", "a%b", `x\y`, "2024-02-29 10:20:30", "YYYY-MM-DD", "999.9", "day", "hour", "UTC", "Europe/Berlin",
			"i", "{a,b}", "b+", "hex", "base64", "%s|%I|%L", "NFC", "=", "deadbeef"},
		app.UUID:        {"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000"},
		app.Timestamptz: {"2024-02-29 23:59:59.999999+00", "2000-01-01 00:00:00+00", "1969-12-31 12:00:00+00", "2024-03-31 01:30:00+00", "infinity", "-infinity", "2024-12-30 10:00:00+00"},
		app.Timestamp:   {"2024-02-29 23:59:59.999999", "2000-01-01 00:00:00", "1969-12-31 12:00:00", "2024-03-31 02:30:00", "infinity", "-infinity", "2024-12-30 10:00:00"},
		app.Date:        {"2024-02-29", "2000-01-01", "1969-12-31", "infinity", "-infinity", "2024-12-30"},
		app.Interval:    {"1 day", "-01:30:00", "1 mon 2 days 03:04:05.678", "00:00:00", "1 year", "15 minutes", "-1 mon"},
		app.JSONB:       {"1", "1.50", `"s"`, "null", "true", `{"a": 1, "b": [1, {"c": null}], "abc": "x"}`, "[1, 2.0, \"a\", null]", "{}", "[]", `{"a": {"b": 1.0}}`},
	}[t]
	return pool[r.IntN(len(pool))]
}

// argument returns a value for parameter i of f: one that makes sense there, more often than not.
func argument(r *rand.Rand, f *expr.Function, i int, t app.Type) string {
	choose := func(list ...string) string { return list[r.IntN(len(list))] }
	pattern := strings.HasPrefix(f.Name, "regexp_") || f.Name == "substring" || f.Name == "_set_regexp_split_to_table" ||
		strings.HasSuffix(strings.TrimSuffix(f.Name, "*"), "~") && !strings.Contains(f.Name, "~~")
	switch {
	case t == app.Int4 && (f.Name == "right" || f.Name == "repeat" || strings.HasSuffix(f.Name, "pad") || f.Name == "array_fill" || strings.HasPrefix(f.Name, "make_interval")):
		return choose("0", "1", "3", "-2", "12")
	case strings.HasPrefix(f.Name, "make_") && t == app.Int4:
		return choose("1", "2", "12", "2024", "0", "23", "24", "59", "29")
	case strings.HasPrefix(f.Name, "make_") && t == app.Float8:
		return choose("0", "12.5", "60", "-1")
	case t == app.Int4 && strings.HasPrefix(f.Name, "regexp_"):
		return choose("1", "1", "1", "1", "1", "2", "0")
	case t == app.Int4 && (f.Name == "array_upper" || f.Name == "array_lower" || f.Name == "array_length" || f.Name == "trim_array" || f.Name == "array_position"):
		return choose("1", "1", "0", "2")
	case strings.HasPrefix(f.Name, "jsonb_extract_path"):
		return choose([][]string{{`{"a": 1, "b": [1, {"c": null}]}`, `{"b": "x"}`}, {"b", "b", "a"}, {"0", "1", "c"}}[i]...)
	case f.Name == "->>" || f.Name == "->":
		if t == app.Text {
			return choose("a", "b", "abc")
		}
		return sample(r, t)
	case (f.Name == "<<" || f.Name == ">>") && i == 1:
		return choose("0", "1", "5")
	case f.Name == "age": // PostgreSQL 15 counts from infinity as from a number
		for {
			if s := sample(r, t); !strings.Contains(s, "inf") {
				return s
			}
		}
	case t != app.Text:
		return sample(r, t)
	case pattern && i == 0:
		return choose("abc", "ab,cd", "aab b+", "caba", "", "xyz")
	case pattern && i == 1:
		return choose("a", "b+", "(a)(b)?", "[a-c]+", "^a", "c$", ".", "a|b", ",")
	case pattern && i > 2 || f.Name == "regexp_split_to_array" && i == 2 || f.Name == "regexp_match" && i == 2:
		return choose("", "i", "g", "n")
	case f.Name == "extract" || f.Name == "date_part" || f.Name == "date_trunc" && i == 0:
		return choose("day", "month", "hour", "epoch", "year", "week", "quarter", "minute", "second", "nonsense")
	case f.Name == "timezone" || f.Name == "make_timestamptz" || f.Name == "date_trunc" && i == 2:
		return choose("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Mars/Base")
	case f.Name == "to_char" && i == 1:
		if f.Args[0] == app.Timestamptz || f.Args[0] == app.Timestamp || f.Args[0] == app.Interval {
			return choose("YYYY-MM-DD", "HH24:MI:SS.US", "Day DD Month")
		}
		return choose("999", "9.99", "FM000", "S999", "9,999.9")
	case f.Name == "to_date" || f.Name == "to_timestamp":
		return []string{choose("2024-02-29", "2023-02-29", "x", "2024-01-02"), "YYYY-MM-DD"}[i]
	case f.Name == "to_number":
		return []string{choose("12", "-3.5", "1,234", "x"), "9,999.9"}[i]
	case f.Name == "encode" || f.Name == "decode":
		return choose("hex", "base64", "escape")
	case f.Name == "format" && i == 0:
		return choose("%s", "%I", "%L", "a%%b", "%1$s %1$L", "%z", "x")
	}
	return sample(r, t)
}

// probe is a function in a view of its own, over a table of its own whose columns are the arguments.
type probe struct {
	f     *expr.Function
	n     int
	types []app.Type // of the arguments
	sql   string     // the call
}

// TestFunctions computes every function and operator of the catalog in a view, over random rows that come, change and go, and compares each
// row with PostgreSQL: a row on which it fails there is missing here, and in laaster.errors.
func TestFunctions(t *testing.T) {
	conn := testkit.Postgres(t).Schema(t)
	if _, err := conn.Exec(t.Context(), tryRows); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 5))
	var probes []*probe
	for i, f := range expr.Functions() {
		if f.Volatility == expr.Volatile {
			continue
		}
		probes = append(probes, newProbe(r, f, i))
	}
	refused, rows, failing := map[string]string{}, 0, 0
	again := map[*expr.Function]int{} // rare ones, of whose rows none was good: they get other rows
	for tables := len(expr.Functions()); len(probes) > 0; {
		n := min(40, len(probes))
		run := &functionRun{t: t, conn: conn, r: r, refused: refused, compared: map[*probe]int{}}
		run.play(probes[:n])
		for _, p := range probes[:n] {
			if _, no := refused[p.f.Signature()]; no || run.compared[p] > 0 {
				continue
			}
			if again[p.f]++; again[p.f] > 5 {
				t.Errorf("%s was not computed on any row", p.f.Signature())
				continue
			}
			tables++
			probes = append(probes, newProbe(r, p.f, tables))
		}
		rows, failing = rows+run.rows, failing+run.failing
		probes = probes[n:]
	}
	t.Logf("%d rows, %d of them failing", rows, failing)
	for what, why := range refused {
		if !strings.Contains(why, "now()") && !strings.Contains(why, "auth_") && !strings.Contains(why, "it counts from today") {
			t.Errorf("%s cannot stand in a view: %s", what, why)
		}
	}
	if failing < 500 || failing > rows/2 {
		t.Errorf("%d of %d rows fail", failing, rows)
	}
}

// tryRows makes a function that computes an expression for each row of a table by itself: its text, or "!" and the state of the error.
const tryRows = `CREATE FUNCTION try_rows(tab text, x text) RETURNS TABLE (id integer, v text) LANGUAGE plpgsql AS $$
BEGIN
	FOR id IN EXECUTE 'SELECT id FROM ' || tab LOOP
		BEGIN
			EXECUTE 'SELECT (' || x || ')::text FROM ' || tab || ' WHERE id = $1' INTO v USING id;
		EXCEPTION WHEN OTHERS THEN
			v := '!' || SQLSTATE;
		END;
		RETURN NEXT;
	END LOOP;
END $$`

func newProbe(r *rand.Rand, f *expr.Function, n int) *probe {
	p := &probe{f: f, n: n}
	elem := []app.Type{app.Int4, app.Text, app.Numeric, app.Timestamp}[r.IntN(4)]
	var args []string
	params := f.Args
	if strings.HasSuffix(f.Signature(), "…)") { // two of them
		params = append(params[:len(params):len(params)], params[len(params)-1])
	}
	for i, t := range params {
		word := typeWord(f, min(i, len(f.Args)-1))
		switch {
		case word == "any", word == "anynonarray":
			t = elem
		case strings.HasPrefix(word, "any") && t.IsArray():
			t = app.Array(elem)
		case strings.HasPrefix(word, "any"):
			t = elem
		}
		p.types = append(p.types, t)
		args = append(args, fmt.Sprintf("a%d", i))
		if t == app.Interval { // no column has that type
			args[i] += "::interval"
		}
	}
	switch {
	case f.IsOperator() && len(args) == 2:
		p.sql = args[0] + " " + f.Name + " " + args[1]
	case f.IsOperator():
		p.sql = f.Name + " " + args[0]
	default:
		p.sql = `pg_catalog."` + f.Name + `"(` + strings.Join(args, ", ") + ")"
	}
	if f.Result.Elem() == app.Interval {
		p.sql = "(" + p.sql + ")::text"
	}
	return p
}

// functionRun compares some functions.
type functionRun struct {
	t             *testing.T
	conn          *pgx.Conn
	r             *rand.Rand
	c             caseRun
	refused       map[string]string
	compared      map[*probe]int
	rows, failing int
}

func (p *probe) ddl() string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE f%d (id integer PRIMARY KEY", p.n)
	for i, t := range p.types {
		if t == app.Interval {
			t = app.Text
		}
		fmt.Fprintf(&b, ", a%d %s", i, t)
	}
	return b.String() + ");\n"
}

func (p *probe) view() string {
	call := strings.Replace(p.sql, "pg_catalog.", "", 1)
	return fmt.Sprintf("CREATE MATERIALIZED VIEW v%d AS SELECT id, %s AS v FROM f%d;\nGRANT SELECT ON v%d TO anon;\n", p.n, call, p.n, p.n)
}

func (u *functionRun) play(probes []*probe) {
	u.t.Helper()
	var src strings.Builder
	var kept []*probe
	for _, p := range probes {
		if prog, diags := sql.Compile("app.sql", []byte(p.ddl()+p.view()), nil); prog == nil {
			u.refused[p.f.Signature()] = diags[0].Msg
			continue
		}
		kept = append(kept, p)
		src.WriteString(p.ddl() + p.view())
		ddl := strings.ReplaceAll(p.ddl(), " text", ` text COLLATE "C.utf8"`)
		if _, err := u.conn.Exec(context.Background(), strings.ReplaceAll(ddl, ` text COLLATE "C.utf8"[]`, ` text[] COLLATE "C.utf8"`)); err != nil {
			u.t.Fatalf("%s: %v", ddl, err)
		}
	}
	prog, diags := sql.Compile("app.sql", []byte(src.String()), nil)
	if prog == nil {
		u.t.Fatal(diags[0].Render())
	}
	u.c = caseRun{t: u.t, conn: u.conn}
	if err := u.c.begin(prog); err != nil {
		u.t.Fatal(err)
	}
	for round := range 3 {
		for _, p := range kept {
			u.step(p, round)
		}
		for _, p := range kept {
			u.compare(p)
		}
	}
}

// step brings rows, changes them or takes some away.
func (u *functionRun) step(p *probe, round int) {
	t := &table{name: fmt.Sprintf("f%d", p.n), keyed: true, cols: []column{{name: "id"}}}
	s := &step{table: t, op: change.OpMerge}
	if round == 2 {
		s.op, s.where = change.OpDelete, [2]string{"id=lt.5", "id < 5"}
	}
	for range p.types {
		t.cols = append(t.cols, column{})
	}
	var b strings.Builder
	ids := map[bool]int{true: 16, false: 8}[round == 0]
	for id := range ids {
		row, vals := make([]cell, 1+len(p.types)), []string{fmt.Sprint(id)}
		row[0].text = fmt.Sprint(id)
		for i, typ := range p.types {
			v := &row[i+1]
			if v.null = u.r.IntN(12) == 0; v.null {
				vals = append(vals, "NULL")
				continue
			}
			v.text = argument(u.r, p.f, i, typ)
			if typ == app.Interval {
				typ = app.Text
			}
			vals = append(vals, "'"+strings.ReplaceAll(v.text, "'", "''")+"'::"+typ.String())
		}
		s.rows = append(s.rows, row)
		fmt.Fprintf(&b, "DELETE FROM f%d WHERE id = %d; INSERT INTO f%d VALUES (%s);\n", p.n, id, p.n, strings.Join(vals, ", "))
	}
	if round == 2 {
		b.Reset()
		fmt.Fprintf(&b, "DELETE FROM f%d WHERE id < 5", p.n)
	}
	e, err := u.c.entry(s)
	if err == nil {
		err = u.c.apply(base().UnixMicro()+int64(round), e)
	}
	if err != nil {
		u.t.Fatalf("%s: %v", p.f.Signature(), err)
	}
	if _, err := u.conn.Exec(context.Background(), b.String(), pgx.QueryExecModeSimpleProtocol); err != nil {
		u.t.Fatalf("%s: %v", b.String(), err)
	}
}

func (u *functionRun) compare(p *probe) {
	prog := u.c.prog
	var rel *expr.Relation
	for _, x := range prog.Relations {
		if x.Name == fmt.Sprintf("v%d", p.n) {
			rel = x
		}
	}
	got := map[int64]string{}
	for _, row := range u.c.rows[rel.ID] {
		v := rel.Layout.Get(row, 1)
		got[rel.Layout.Get(row, 0).N] = `\N`
		if !v.Null {
			got[rel.Layout.Get(row, 0).N] = plain(rel.Columns[1].Type, string(expr.AppendText(nil, rel.Columns[1].Type, v)))
		}
	}
	rows, err := u.conn.Query(context.Background(), "SELECT id, v FROM try_rows($1, $2)", fmt.Sprintf("f%d", p.n), p.sql)
	if err != nil {
		u.t.Fatal(err)
	}
	defer rows.Close()
	failing := 0
	for rows.Next() {
		var id int64
		var v *string
		if err := rows.Scan(&id, &v); err != nil {
			u.t.Fatal(err)
		}
		u.rows++
		have, there := got[id]
		switch {
		case v == nil && there && have == `\N`:
		case v != nil && strings.HasPrefix(*v, "!") && len(*v) == 6 && !there:
			failing++
			continue
		case v != nil && there && plain(rel.Columns[1].Type, *v) == have:
			u.compared[p]++
		default:
			want := "NULL"
			if v != nil {
				want = *v
			}
			u.t.Errorf("%s on row %d: %q (there: %v), PostgreSQL: %q", p.f.Signature(), id, have, there, want)
		}
		delete(got, id)
	}
	if err := rows.Err(); err != nil {
		u.t.Fatalf("%s: %v", p.f.Signature(), err)
	}
	if len(got) > 0 {
		u.t.Errorf("%s: rows that PostgreSQL has not: %v", p.f.Signature(), got)
	}
	u.failing += failing
	u.logged(p, int64(failing))
}

// logged checks that laaster.errors has the failing rows.
func (u *functionRun) logged(p *probe, failing int64) {
	errors := u.c.prog.Relations[u.c.prog.Errors]
	have := int64(0)
	for _, row := range u.c.rows[errors.ID] {
		if string(errors.Layout.Get(row, 0).B) == fmt.Sprintf("v%d", p.n) {
			have += errors.Layout.Get(row, 4).N
		}
	}
	if have != failing {
		u.t.Errorf("%s: laaster.errors has %d rows, %d fail", p.f.Signature(), have, failing)
	}
}

// plain is the text of a value as both sides write it, doubles to nine digits.
func plain(t app.Type, text string) string {
	switch t {
	case app.Float8:
		return normal(double, text)
	case app.Bool:
		return map[string]string{"true": "t", "false": "f", "t": "t", "f": "f"}[text]
	}
	return text
}

// typeWord is the type of parameter i of f as its signature has it, such as anyarray.
func typeWord(f *expr.Function, i int) string {
	sig := f.Signature()
	if f.IsOperator() {
		words := strings.Split(sig, " "+f.Name+" ")
		return strings.TrimPrefix(words[min(i, len(words)-1)], f.Name+" ")
	}
	list := sig[strings.IndexByte(sig, '(')+1 : strings.LastIndexByte(sig, ')')]
	return strings.Split(list, ", ")[i]
}
