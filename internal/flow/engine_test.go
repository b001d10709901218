package flow_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql"
	"laaster/internal/wire"
)

func compile(t testing.TB, src string, prev []byte) *flow.Program {
	t.Helper()
	var c *sql.Catalog
	if prev != nil {
		var err error
		if c, err = sql.ParseCatalog(prev); err != nil {
			t.Fatal(err)
		}
	}
	p, diags := sql.Compile("app.sql", []byte(src), c)
	if p == nil {
		t.Fatalf("%+v", diags)
	}
	return p
}

// definition lists what a document defines, as node does.
func definition(doc []byte) ([]flow.RelationVersion, error) {
	c, err := sql.ParseCatalog(doc)
	if err != nil {
		return nil, err
	}
	var out []flow.RelationVersion
	for _, t := range c.Tables {
		out = append(out, flow.RelationVersion{Name: t.Name, Hash: fmt.Sprint(len(t.Columns))})
	}
	for _, v := range c.Views {
		out = append(out, flow.RelationVersion{Name: v.Name, Hash: v.Hash})
	}
	return out, nil
}

// A log with two definitions: rows of the older one get the columns that were added since, whoever reads them, and each
// relation is as old as the definition since which it is what it is.
func TestDefinitions(t *testing.T) {
	one := compile(t, `
		CREATE TABLE votes (id bigint PRIMARY KEY, who text) WITH (append_only);
		CREATE TABLE people (name text PRIMARY KEY, age integer);
		CREATE MATERIALIZED VIEW tally AS SELECT who, count(*) AS n FROM votes GROUP BY who;
		CREATE MATERIALIZED VIEW ages AS SELECT sum(age) AS s FROM people;
		GRANT SELECT ON people TO anon;`, nil)
	two := compile(t, `
		CREATE TABLE votes (id bigint PRIMARY KEY, who text, points integer NOT NULL DEFAULT 3) WITH (append_only);
		CREATE TABLE people (name text PRIMARY KEY, age integer, city text);
		CREATE MATERIALIZED VIEW tally AS SELECT who, count(*) AS n FROM votes GROUP BY who;
		CREATE MATERIALIZED VIEW ages AS SELECT sum(age) AS s, count(city) AS c FROM people;
		CREATE MATERIALIZED VIEW points AS SELECT sum(points) AS p FROM votes;
		GRANT SELECT ON people TO anon;`, one.Catalog)
	votes := func(p *flow.Program, rows ...string) change.Entry {
		return inserts(t, p, "votes", change.OpInsert, 0xff, rows...)
	}
	people := func(p *flow.Program, given byte, rows ...string) change.Entry {
		return inserts(t, p, "people", change.OpMerge, given, rows...)
	}
	d := newDriver(t, two, flow.Options{Definition: definition})
	for i := range two.Relations {
		if d.e.Birth(i) != 0 {
			t.Errorf("relation %d is born before the log", i)
		}
	}
	d.apply(change.Entry{Kind: change.EntryDefinition, Body: one.Catalog})
	d.apply(votes(one, "1|a", "2|b"), people(one, 3, "ann|30", "bob|40"))
	d.apply(change.Entry{Kind: change.EntryDefinition, Body: two.Catalog})
	d.apply(votes(two, "3|a|5"), people(two, 7, "ann|31|Wien"))
	d.apply(votes(one, "4|a"), people(one, 3, "bob|41")) // written before its writer knew the new definition

	got := ""
	for i, r := range two.Relations[:two.Errors] {
		got += fmt.Sprintf("%s, born at %d\n%s", r.Name, d.e.Birth(i), d.table(i))
	}
	want := `votes, born at 3
people, born at 3
ann|31|Wien
bob|41|NULL
tally, born at 1
a|3
b|1
ages, born at 3
72|1
points, born at 3
14
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// inserts makes a write of rows as a program's own version of a table encodes them.
func inserts(t testing.TB, p *flow.Program, table string, op change.Op, given byte, rows ...string) change.Entry {
	rules := relationNamed(t, p, table).Table
	var recs []change.Record
	for _, r := range rows {
		recs = append(recs, change.Record{Row: row(t, rules.Layout, r), Given: []byte{given}})
	}
	en := records(rules.Catalog, op, recs...)
	en.Version = rules.Version
	return en
}

// What a program cannot read stops it with an error that says what it is.
func TestUnreadable(t *testing.T) {
	p := compile(t, "CREATE TABLE k (id bigint PRIMARY KEY, v text);", nil)
	good := func() change.Entry { return inserts(t, p, "k", change.OpInsert, 0xff, "1|a") }
	for _, c := range []struct {
		name, want string
		en         func(e *change.Entry)
	}{
		{"table", "no table has the id 99", func(e *change.Entry) { e.Table = 99 }},
		{"version", "version 7", func(e *change.Entry) { e.Version = 7 }},
		{"row", "row shorter", func(e *change.Entry) {
			*e = records(e.Table, change.OpInsert, change.Record{Row: []byte{0}})
		}},
		{"count", "", func(e *change.Entry) { e.Count = 5 }},
		{"definition", "definition", func(e *change.Entry) { *e = change.Entry{Kind: change.EntryDefinition, Body: []byte("{")} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDriver(t, p, flow.Options{Definition: definition})
			en := good()
			c.en(&en)
			b := d.seal(5, en)
			if _, err := d.e.Apply(&b); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	d := newDriver(t, p, flow.Options{})
	d.applyAt(10, good())
	for _, h := range []change.Header{{Seq: 2, Stamp: 9}, {Seq: 1, Stamp: 11}} {
		b := d.b.Seal(h)
		if _, err := d.e.Apply(&b); err == nil {
			t.Errorf("batch %d with stamp %d was applied after batch 1 with stamp 10", h.Seq, h.Stamp)
		}
	}
}

// An update or delete of more rows than the limit changes nothing.
func TestTooMany(t *testing.T) {
	p := compile(t, "CREATE TABLE k (id bigint PRIMARY KEY, v bigint); GRANT SELECT ON k TO anon;", nil)
	d := newDriver(t, p, flow.Options{MaxMatches: 50})
	var rows []string
	for i := range 60 {
		rows = append(rows, fmt.Sprintf("%d|%d", i, i))
	}
	d.apply(inserts(t, p, "k", change.OpInsert, 0xff, rows...))
	before := d.e.Fingerprint()
	change50 := func(filter string) change.Outcome {
		return d.apply(records(1, change.OpDelete, change.Record{Filter: []byte(filter)})).Outcomes[0]
	}
	if o := change50("id=gte.0"); len(o.Rejected) != 1 || o.Rejected[0].Code != string(wire.TooMany) || o.Accepted != 0 {
		t.Errorf("outcome %+v", o)
	}
	if d.table(0) != "" && len(d.rows[0]) != 60 {
		t.Error("rows changed")
	}
	d.applyAt(d.stamp, records(1, change.OpDelete, change.Record{Filter: []byte("id=lt.0")}))
	if o := change50("id=gte.10"); o.Accepted != 50 || len(d.rows[0]) != 10 {
		t.Errorf("outcome %+v, %d rows are left", o, len(d.rows[0]))
	}
	if d.e.Fingerprint() == before {
		t.Error("the fingerprint does not follow the rows")
	}
}

// The engine's codes are wire's.
func TestCodes(t *testing.T) {
	known := map[wire.Code]bool{}
	for _, c := range wire.Codes() {
		known[c.Code] = true
	}
	for _, c := range []string{"conflict", "constraint", "invalid_row", "too_many", "bad_filter"} {
		if !known[wire.Code(c)] {
			t.Errorf("wire has no code %s", c)
		}
	}
}

// Programs that an engine cannot run are refused when it is made, not when a row comes.
func TestRefusedPrograms(t *testing.T) {
	for name, node := range map[string]*expr.Node{
		"now":     {Kind: expr.KNow, Type: app.Timestamptz},
		"subject": {Kind: expr.KSubject, Type: app.Text},
		"column":  expr.Column(9, app.Int8, -1),
	} {
		p := newProgram()
		in := p.table("t", []int{0}, false, true, "id bigint not null")
		p.view("v", nil, &flow.Project{In: in, Exprs: []*expr.Node{node}})
		if _, err := flow.New(&p.p, flow.Options{}); err == nil || !strings.Contains(err.Error(), "view v") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := flow.New(&newProgram().p, flow.Options{Window: -1}); err == nil {
		t.Error("a negative window was taken")
	}
}

// Fingerprints differ when anything differs that a reader or a writer could notice.
func TestFingerprint(t *testing.T) {
	p := compile(t, `CREATE TABLE k (id bigint PRIMARY KEY, v text); CREATE TABLE f (id bigint PRIMARY KEY) WITH (append_only);
		CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM f;`, nil)
	seen := map[[16]byte]string{}
	for name, entries := range map[string][]change.Entry{
		"nothing":       {inserts(t, p, "k", change.OpMerge, 0xff, "1|a"), records(1, change.OpDelete, change.Record{Filter: []byte("id=eq.1")})},
		"row":           {inserts(t, p, "k", change.OpInsert, 0xff, "1|a")},
		"other row":     {inserts(t, p, "k", change.OpInsert, 0xff, "1|b")},
		"two rows":      {inserts(t, p, "k", change.OpInsert, 0xff, "1|a", "2|a")},
		"fact":          {inserts(t, p, "f", change.OpInsert, 0xff, "1")},
		"other fact":    {inserts(t, p, "f", change.OpInsert, 0xff, "2")},
		"two facts":     {inserts(t, p, "f", change.OpInsert, 0xff, "1", "2")},
		"request":       {keyed(inserts(t, p, "k", change.OpInsert, 0xff, "1|a"), "x")},
		"other request": {keyed(inserts(t, p, "k", change.OpInsert, 0xff, "1|a"), "y")},
	} {
		d := newDriver(t, p, flow.Options{})
		d.applyAt(100, entries...)
		f := d.e.Fingerprint()
		if other, ok := seen[f]; ok {
			t.Errorf("%s and %s have one fingerprint", name, other)
		}
		seen[f] = name
	}
}

func keyed(en change.Entry, key string) change.Entry {
	en.Key = []byte(key)
	return en
}

// Stats and the memory of seen keys.
func TestStats(t *testing.T) {
	p := compile(t, `CREATE TABLE f (id bigint PRIMARY KEY, v integer) WITH (append_only);
		CREATE MATERIALIZED VIEW n AS SELECT v, count(*) AS n FROM f WHERE v > 0 GROUP BY v;`, nil)
	d := newDriver(t, p, flow.Options{})
	var rows []string
	for i := range 500 {
		rows = append(rows, fmt.Sprintf("%d|%d", i, i%11))
	}
	d.apply(inserts(t, p, "f", change.OpInsert, 0xff, rows...))
	st := d.e.Stats()
	v := st.Views[0]
	if st.Seen != 500 || int64(st.SeenBytes+st.RequestsBytes) != d.e.SeenBytes() || v.Rows != 10 || v.Bytes == 0 || st.Tables[0].Records != 500 {
		t.Errorf("%+v", st)
	}
	if o := v.Operators; len(o) != 3 || o[0].Out != 500 || o[1].In != 500 || o[1].Out >= 500 || o[2].Out != 10 {
		t.Errorf("operators: %+v", v.Operators)
	}
	d.stamp = math.MaxInt64 / 2
	d.apply(inserts(t, p, "f", change.OpInsert, 0xff, "1000|1"))
	if st := d.e.Stats(); st.Seen != 1 {
		t.Errorf("%d keys are remembered for ever", st.Seen)
	}
}
