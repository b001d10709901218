package expr_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// votes is a relation with a column of most types.
func votes() *expr.Relation {
	cols := []app.Column{{Name: "id", Type: app.Int8}, {Name: "contestant", Type: app.Text}, {Name: "votes", Type: app.Int4}, {Name: "score", Type: app.Numeric},
		{Name: "open", Type: app.Bool}, {Name: "at", Type: app.Timestamptz}, {Name: "data", Type: app.JSONB}, {Name: "voter", Type: app.UUID}}
	return &expr.Relation{Name: "votes", Columns: cols, Layout: change.ColumnLayout(cols), Key: []int{0}}
}

// row encodes a row of votes from text; "" is NULL.
func row(t testing.TB, rel *expr.Relation, texts ...string) change.Row {
	t.Helper()
	vals := make([]change.Value, len(rel.Columns))
	for i, text := range texts {
		if text == "" {
			vals[i] = change.Null()
			continue
		}
		v, _, err := expr.ParseText(rel.Columns[i].Type, []byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		vals[i] = v
	}
	return rel.Layout.Append(nil, vals)
}

func filterRows(t testing.TB) (*expr.Relation, []change.Row) {
	rel := votes()
	return rel, []change.Row{
		row(t, rel, "1", "A", "10", "1.50", "true", "2024-01-02", `{"tags":["x","y"],"n":1,"deep":{"k":"v"}}`, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
		row(t, rel, "2", "B,b", "20", "2.5", "false", "2024-01-03", `{"n":2}`, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12"),
		row(t, rel, "3", "a(b)", "", "", "", "", "", ""),
		row(t, rel, "4", `say "hi"`, "-5", "NaN", "true", "infinity", "[1,2]", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a13"),
	}
}

// matches lists the ids of the rows that a filter keeps.
func matches(t testing.TB, rel *expr.Relation, rows []change.Row, query string) string {
	t.Helper()
	f, err := expr.ParseFilter(rel, query)
	if err != nil {
		return "error: " + err.Error()
	}
	var ids []string
	for _, r := range rows {
		ok, err := f.Match(&expr.Ctx{Row: r})
		if err != nil {
			return "error: " + err.Error()
		}
		if ok {
			ids = append(ids, fmt.Sprint(rel.Layout.Get(r, 0).N))
		}
	}
	return strings.Join(ids, " ")
}

func TestFilterMatches(t *testing.T) {
	rel, rows := filterRows(t)
	check := func(query, want string) {
		t.Helper()
		if got := matches(t, rel, rows, query); got != want {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
	check("", "1 2 3 4")
	check("contestant=eq.A", "1")
	check("contestant=eq.B,b", "2")
	check(`contestant=eq.say "hi"`, "4") // at the top a value is taken as it stands
	check("contestant=neq.A", "2 3 4")
	check("votes=gt.10", "2")
	check("votes=gte.10", "1 2")
	check("votes=lt.0", "4")
	check("votes=lte.10&votes=gt.0", "1")
	check("votes=not.eq.10", "2 4") // NULL is neither
	check("votes=not.not.eq.10", "1")
	check("votes=isdistinct.10", "2 3 4")
	check("score=eq.1.5", "1")
	check("score=gt.2", "2 4")
	check("id=in.(1,3)", "1 3")
	check("id=not.in.(1,3)", "2 4")
	check("id=in.()", "")
	check(`contestant=in.("B,b","a(b)")`, "2 3")
	check(`contestant=in.("say \"hi\"")`, "4")
	check("votes=is.null", "3")
	check("votes=is.not_null", "1 2 4")
	check("votes=not.is.null", "1 2 4")
	check("open=is.true", "1 4")
	check("open=is.false", "2")
	check("open=is.unknown", "3")
	check("contestant=like.a*", "3")
	check("contestant=ilike.A*", "1 3")
	check("contestant=like.*,*", "2")
	check("contestant=match.^[AB]", "1 2")
	check("contestant=imatch.^b", "2")
	check("contestant=not.like.*a*", "1 2")
	check("at=gte.2024-01-03", "2 4")
	check("at=eq.infinity", "4")
	check("voter=eq.A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "1")
	check("or=(id.eq.1,votes.is.null)", "1 3")
	check("and=(id.gt.1,id.lt.4)", "2 3")
	check("or=(id.eq.1,and(id.gt.1,id.lt.3))", "1 2")
	check("not.or=(id.eq.1,id.eq.2)", "3 4")
	check("not.and=(id.gt.1,id.lt.4)", "1 4")
	check("or=(id.eq.1,not.and(id.gt.1,id.lt.4))", "1 4")
	check("or=(id.not.in.(1,2),contestant.eq.A)", "1 3 4")
	check(`or=(contestant.eq."B,b",contestant.in.("a(b)",A))`, "1 2 3")
	check("or=( id.eq.1 , id.eq.2 )", "1 2")
	check("data->n=eq.1", "1")
	check("data->>n=eq.2", "2")
	check("data->deep->>k=eq.v", "1")
	check("data->tags->>0=eq.x", "1")
	check("data->0=eq.1", "4")
	check(`data=cs.{"tags":["y"]}`, "1")
	check("data=cs.[2]", "4")
	check("id=eq.1&contestant=eq.A&limit=5&offset=0", "1")
	check("contestant=eq.%41", "1")
	check("select=id,name:contestant&order=votes.desc.nullslast,id&limit=1", "1 2 3 4")
}

func TestFilterIsRefused(t *testing.T) {
	rel, rows := filterRows(t)
	check := func(query, code, field, msg, hint string) {
		t.Helper()
		_, err := expr.ParseFilter(rel, query)
		var f *expr.FilterError
		if !errors.As(err, &f) {
			t.Errorf("%s: got %v (%s), want an error", query, err, matches(t, rel, rows, query))
			return
		}
		if f.Code != code || f.Field != field || !strings.Contains(f.Msg, msg) || !strings.Contains(f.Hint, hint) {
			t.Errorf("%s: got %+v", query, f)
		}
	}
	check("contestent=eq.A", "unknown_column", "contestent", "has no column", "did you mean contestant?")
	check("zzz=eq.A", "unknown_column", "zzz", "has no column", "its columns are id, contestant")
	check("_after=x", "bad_filter", "_after", "no parameter", "the server's own")
	check("votes=5", "bad_filter", "votes", "cannot be read", "votes=eq.value")
	check("votes=equals.5", "bad_filter", "votes", "cannot be read", "operators: eq")
	check("votes=eq.five", "bad_filter", "votes", "invalid input syntax for type integer", "votes is integer")
	check("votes=eq.99999999999", "bad_filter", "votes", "out of range", "")
	check("votes=like.1*", "bad_filter", "votes", "operator does not exist: integer ~~ text", "cast")
	check("votes=is.true", "bad_filter", "votes", "boolean", "")
	check("votes=is.maybe", "bad_filter", "votes", "is takes null", "")
	check("votes=in.1,2", "bad_filter", "votes", "parentheses", "in.(a,b)")
	check(`contestant=in.("a)`, "bad_filter", "contestant", "quote without its end", "")
	check("or=(id.eq.1", "bad_filter", "or", "parentheses", "")
	check("or=(id.eq.1))", "bad_filter", "or", "parenthesis too many", "")
	check("or=()", "bad_filter", "", "cannot be read", "")
	check("limit=x", "bad_filter", "limit", "number", "")
	check("limit=-1", "bad_filter", "limit", "number", "")
	check("order=votes.up", "bad_filter", "order", "cannot read", "column.desc.nullslast")
	check("order=nope", "unknown_column", "nope", "", "")
	check("select=id,nope", "unknown_column", "nope", "", "")
	check("select=id,id", "bad_filter", "select", "twice", "")
	check("contestant=eq.%zz", "bad_filter", "contestant", "percent-encoded", "")
	check("contestant=eq.%ff", "bad_filter", "contestant", "percent-encoded", "")
	check("contestant=eq.%00", "bad_filter", "contestant", "percent-encoded", "")
	check("contestant->x=eq.1", "bad_filter", "contestant->x", "operator does not exist: text ->", "")
	check("or="+strings.Repeat("(or", 20)+strings.Repeat(")", 20), "bad_filter", "or", "", "")
	check("contestant=eq."+strings.Repeat("x", 9000), "bad_filter", "", "the limit is 8192", "")
	check(strings.Repeat("id=eq.1&", 101), "bad_filter", "id", "at most 100 conditions", "")
	check("id=in.("+strings.Repeat("1,", 1000)+"1)", "bad_filter", "id", "at most 1000 values", "")
}

func TestFilterDepth(t *testing.T) {
	rel, rows := filterRows(t)
	nested := func(depth int) string {
		return "and=(" + strings.Repeat("or(", depth-1) + "id.eq.1" + strings.Repeat(")", depth-1) + ")"
	}
	if got := matches(t, rel, rows, nested(16)); got != "1" {
		t.Errorf("16 deep: %s", got)
	}
	if got := matches(t, rel, rows, nested(17)); !strings.Contains(got, "deeper than 16") {
		t.Errorf("17 deep: %s", got)
	}
}

func TestFilterParts(t *testing.T) {
	rel := votes()
	f, err := expr.ParseFilter(rel, "select=id,name:contestant&order=votes.desc,score.asc.nullsfirst,id&limit=10&offset=20")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(f.Select, f.Order, f.Limit, f.Offset, f.Cond()); got != "[{0 id} {1 name}] [{2 true true} {3 false true} {0 false false}] 10 20 <nil>" {
		t.Errorf("got %s", got)
	}
	f, err = expr.ParseFilter(rel, "id=eq.7&votes=gt.1&or=(id.eq.1,id.eq.2)&contestant=eq.A")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range f.Equals() {
		got = append(got, fmt.Sprintf("%d=%s", e.Column, expr.AppendText(nil, rel.Columns[e.Column].Type, e.Value)))
	}
	if strings.Join(got, " ") != "0=7 1=A" {
		t.Errorf("equalities: %v", got)
	}
}

func TestFilterCanonical(t *testing.T) {
	rel := votes()
	text := func(query string) string {
		f, err := expr.ParseFilter(rel, query)
		if err != nil {
			t.Fatal(query, err)
		}
		return f.Canonical()
	}
	same := func(a, b string) {
		t.Helper()
		if text(a) != text(b) {
			t.Errorf("%s and %s differ:\n%s\n%s", a, b, text(a), text(b))
		}
	}
	differ := func(a, b string) {
		t.Helper()
		if text(a) == text(b) {
			t.Errorf("%s and %s are the same: %s", a, b, text(a))
		}
	}
	same("id=eq.1&votes=gt.2", "votes=gt.2&id=eq.01")
	same("id=eq.1&id=eq.1", "id=eq.1")
	same("and=(id.eq.1,votes.gt.2)", "and=(votes.gt.2,id.eq.1)")
	same("or=(id.eq.1,and(votes.gt.2,id.lt.9))", "or=(and(id.lt.9,votes.gt.2),id.eq.1)")
	same("order=votes.desc", "order=votes.desc.nullsfirst")
	same("order=votes.desc,id", "order=votes.desc,votes,id,votes.desc,id.desc")
	same("offset=0", "")
	same("at=gt.2024-01-02", "at=gt.2024-01-02T00:00:00Z")
	differ("id=eq.1", "id=eq.2")
	differ("id=eq.1", "votes=eq.1")
	differ("id=eq.1", "id=not.eq.1")
	differ("select=id", "select=x:id")
	differ("order=id", "order=id.desc")
	differ("limit=1", "limit=2")
	differ("limit=1", "offset=1")
	differ("contestant=eq.A' AND $1:bigint", "contestant=eq.A")
}

func FuzzParseFilter(f *testing.F) {
	for _, q := range []string{"id=eq.1", "or=(id.eq.1,and(votes.gt.2,contestant.in.(\"a,b\",c)))", "data->a->>b=like.x*", "select=id,n:votes&order=id.desc.nullslast&limit=1&offset=2",
		"not.and=(a.b.c)", "contestant=match.(a|b)*c", "id=not.not.is.null", "contestant=in.(\"\\\"\")", "%", "=&&=", "or=(,)"} {
		f.Add(q)
	}
	rel, rows := filterRows(f)
	f.Fuzz(func(t *testing.T, query string) {
		parsed, err := expr.ParseFilter(rel, query)
		if err != nil {
			var fe *expr.FilterError
			if !errors.As(err, &fe) || fe.Code == "" || fe.Msg == "" {
				t.Fatalf("%q: error %#v", query, err)
			}
			return
		}
		for _, r := range rows {
			_, err := parsed.Match(&expr.Ctx{Row: r})
			var ee *expr.EvalError
			if err != nil && !errors.As(err, &ee) {
				t.Fatalf("%q: %v", query, err)
			}
		}
		again, err := expr.ParseFilter(rel, query)
		if err != nil || again.Canonical() != parsed.Canonical() {
			t.Fatalf("%q reads differently the second time", query)
		}
	})
}

// Filters over arrays, dates and timestamps.
func TestFilterNewTypes(t *testing.T) {
	cols := []app.Column{{Name: "tags", Type: app.Array(app.Text)}, {Name: "day", Type: app.Date}, {Name: "at", Type: app.Timestamp}}
	rel := &expr.Relation{Name: "notes", Columns: cols, Layout: change.ColumnLayout(cols), Key: []int{1}}
	vals := make([]change.Value, len(cols))
	for i, text := range []string{"{a,b c}", "2024-01-02", "2024-01-02 03:04:05"} {
		vals[i] = constOf(t, cols[i].Type, text).Value
	}
	row := rel.Layout.Append(nil, vals)
	for query, want := range map[string]bool{
		"tags=cs.{a}": true, "tags=cs.{a,x}": false, "tags=cd.{a,b c,d}": true, "tags=ov.{x,\"b c\"}": true, "tags=ov.{x}": false, "tags=eq.{a,b c}": true,
		"day=gte.2024-01-02": true, "day=lt.2024-01-02": false, "day=in.(2024-01-01,2024-01-02)": true, "at=gt.2024-01-02T03:04:04": true, "at=eq.2024-01-02": false,
	} {
		f, err := expr.ParseFilter(rel, strings.ReplaceAll(strings.ReplaceAll(query, "{", "%7B"), "}", "%7D"))
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		if ok, err := f.Match(&expr.Ctx{Row: row}); err != nil || ok != want {
			t.Errorf("%s: %v, %v", query, ok, err)
		}
	}
}
