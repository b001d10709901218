package ingest

import (
	"fmt"
	"strings"
	"testing"

	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/sql"
	"laaster/internal/wire"
)

const permitSQL = `CREATE TABLE plain (id bigint PRIMARY KEY, owner text);
CREATE TABLE mine (id bigint PRIMARY KEY, owner text);
CREATE TABLE rooms (room text, member text, PRIMARY KEY (room, member));
CREATE TABLE ours (id bigint PRIMARY KEY, room text);
GRANT ALL ON plain, mine, rooms, ours TO anon;
ALTER TABLE mine ENABLE ROW LEVEL SECURITY;
ALTER TABLE ours ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON mine USING (owner = auth_subject());
CREATE POLICY p ON ours USING (room IN (SELECT room FROM rooms WHERE member = auth_subject()));
`

func permitDoor(t testing.TB, text string) *Door {
	t.Helper()
	p, found := sql.Compile("app.sql", []byte(text), nil)
	for _, f := range found {
		t.Fatal(f.Render())
	}
	rules := &auth.Rules{}
	rules.Use(p.Definition, p.Relations...)
	d := &Door{opt: Options{Rules: rules}}
	if err := d.Use(p.Relations); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *Door) table(name string) *table { return (*d.tables.Load())[name] }

// TestPermitBounds: sets of too many members are refused in words, what is kept of conditions is bounded, and an app that changes forgets them.
func TestPermitBounds(t *testing.T) {
	d := permitDoor(t, permitSQL)
	who := auth.Anonymous()
	if _, p := d.permit(who, d.table("ours"), change.OpUpdate); p == nil || p.Code != wire.NotSupported {
		t.Errorf("without anybody who knows the sets: %+v", p)
	}
	members := 3
	d.opt.Members = func(*auth.Member) ([]change.Value, *wire.Problem) {
		set := make([]change.Value, members)
		for i := range set {
			set[i] = change.Bytes(fmt.Appendf(nil, "room %d", i))
		}
		return set, nil
	}
	if p, problem := d.permit(who, d.table("ours"), change.OpUpdate); problem != nil || len(p.rules) == 0 {
		t.Errorf("%+v %+v", p, problem)
	}
	members = 10_000
	if _, p := d.permit(who, d.table("ours"), change.OpUpdate); p == nil || p.Code != wire.TooMany {
		t.Errorf("with ten thousand: %+v", p)
	}
	d.opt.Members = func(*auth.Member) ([]change.Value, *wire.Problem) { return nil, busy("test", 0) }
	if _, p := d.permit(who, d.table("ours"), change.OpDelete); p == nil || p.Code != wire.Busy {
		t.Errorf("while the sets are not known: %+v", p)
	}
	for i := range 3 * mostConditions {
		if _, p := d.permit(auth.Principal{Subject: fmt.Sprint(i), Role: "anon"}, d.table("mine"), change.OpInsert); p != nil {
			t.Fatal(p)
		}
		if n := len(d.conditions.of); n > mostConditions || n == 0 {
			t.Fatalf("%d conditions are kept", n)
		}
	}
	if err := d.Use(nil); err != nil || len(d.conditions.of) != 0 {
		t.Errorf("%d conditions of another app, %v", len(d.conditions.of), err)
	}
}

// TestPermitOfTwoDefinitions: while the app is changed the door may have tables that the rules do not know yet.
func TestPermitOfTwoDefinitions(t *testing.T) {
	const old = `CREATE TABLE t (id bigint PRIMARY KEY, a text);
GRANT SELECT (id), INSERT (id, a), UPDATE (id) ON t TO anon;
`
	d := permitDoor(t, old)
	wider := permitDoor(t, strings.Replace(old, "a text", "a text, b text", 1))
	for _, name := range []string{"t", "unknown"} {
		for _, op := range []change.Op{change.OpInsert, change.OpIgnore, change.OpMerge, change.OpUpdate, change.OpDelete} {
			tab := *wider.table("t")
			rel := *tab.rel
			rel.Name, tab.rel = name, &rel
			p, problem := d.permit(auth.Anonymous(), &tab, op)
			if problem == nil && (p.give != nil && may(p.give, 2) || name == "unknown") {
				t.Errorf("%s, operation %d: %+v", name, op, p)
			}
		}
	}
	p := permit{}
	if problem := p.columns(&auth.Rules{}, auth.Anonymous(), wider.table("t"), change.OpMerge); problem != nil || may(p.give, 0) || may(p.give, 1) {
		t.Errorf("without rules: %+v %+v", p, problem)
	}
}

// TestPermitOfOneDefinition: a write is judged by one definition, also when another comes while the members of a set are read.
func TestPermitOfOneDefinition(t *testing.T) {
	const text = permitSQL + "CREATE ROLE late;\n"
	for _, op := range []change.Op{change.OpInsert, change.OpMerge, change.OpUpdate, change.OpDelete} {
		d := permitDoor(t, text)
		later, found := sql.Compile("app.sql", []byte(strings.Replace(text, "ours TO anon", "ours TO late", 1)+"GRANT SELECT (id), INSERT (id), UPDATE (id) ON ours TO anon;\n"), nil)
		for _, f := range found {
			t.Fatal(f.Render())
		}
		asked := 0
		d.opt.Members = func(*auth.Member) ([]change.Value, *wire.Problem) {
			asked++
			d.opt.Rules.Use(later.Definition, later.Relations...)
			return []change.Value{change.Bytes([]byte("room"))}, nil
		}
		p, problem := d.permit(auth.Anonymous(), d.table("ours"), op)
		if asked == 0 || problem != nil || p.give != nil || p.see != nil {
			t.Errorf("operation %d, %d sets: %+v %+v", op, asked, p, problem)
		}
	}
}

// BenchmarkPermit is what a write costs to be allowed: without rules, with rules for the same caller, and with rules for ever other ones.
func BenchmarkPermit(b *testing.B) {
	d := permitDoor(b, permitSQL)
	many := make([]auth.Principal, 1000)
	for i := range many {
		many[i] = auth.Principal{Subject: fmt.Sprintf("subject %d", i), Role: "anon"}
	}
	for _, c := range []struct {
		name, table string
		op          change.Op
		who         []auth.Principal
	}{{"without rules", "plain", change.OpInsert, many[:1]}, {"insert", "mine", change.OpInsert, many[:1]}, {"insert, 1000 callers", "mine", change.OpInsert, many},
		{"update", "mine", change.OpUpdate, many[:1]}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				if _, p := d.permit(c.who[i%len(c.who)], d.table(c.table), c.op); p != nil {
					b.Fatal(p)
				}
			}
		})
	}
}
