package flow_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// owned is a row of the model.
type owned struct {
	owner string
	n     int64
}

// rule is a condition of the model and of the engine.
type rule struct {
	filter string // "": none
	holds  func(id int64, r owned) bool
}

func (r *rule) stored(t *testing.T, rel *expr.Relation) []byte {
	if r.filter == "" {
		return nil
	}
	f, err := expr.ParseFilter(rel, r.filter)
	if err != nil {
		t.Fatal(err)
	}
	return expr.AppendNode(nil, f.Cond())
}

func anyRule(r *rand.Rand) rule {
	id, n, owner := r.Int64N(6), r.Int64N(5), string("abc"[r.IntN(3)])
	return []rule{
		{"", func(int64, owned) bool { return true }},
		{"owner=eq." + owner, func(_ int64, r owned) bool { return r.owner == owner }},
		{fmt.Sprintf("id=eq.%d", id), func(i int64, _ owned) bool { return i == id }},
		{fmt.Sprintf("n=gt.%d", n), func(_ int64, r owned) bool { return r.n > n }},
		{fmt.Sprintf("owner=in.(%s,z)&n=lte.%d", owner, n), func(_ int64, r owned) bool { return r.owner == owner && r.n <= n }},
	}[r.IntN(5)]
}

// TestRulesOfEntries runs random writes under random rules and compares the outcomes and the rows with those of a map.
func TestRulesOfEntries(t *testing.T) {
	for seed := range uint64(30) {
		p := newProgram()
		p.table("t", []int{0}, false, true, "id bigint not null", "owner text not null", "n bigint not null")
		rel := p.p.Relations[0]
		d, r := newDriver(t, &p.p, flow.Options{}), rand.New(rand.NewPCG(seed, 7))
		model := map[int64]owned{}
		for step := range 120 {
			using, check, insert := anyRule(r), anyRule(r), anyRule(r)
			rules := change.Rules{Using: using.stored(t, rel), Check: check.stored(t, rel), Insert: insert.stored(t, rel)}
			entry, want := oneWrite(t, rel, r, model, using, check, insert)
			entry.Rules = rules.Append(nil)
			out := d.apply(entry).Outcomes[0]
			codes := []string{}
			for _, x := range out.Rejected {
				codes = append(codes, x.Code)
			}
			if got := fmt.Sprint(out.Accepted, out.Duplicates, codes); got != want {
				t.Fatalf("seed %d, step %d: %s, want %s\nusing %q, check %q, insert %q", seed, step, got, want, using.filter, check.filter, insert.filter)
			}
			var rows strings.Builder
			for _, id := range slices.Sorted(maps.Keys(model)) {
				fmt.Fprintf(&rows, "%d|%s|%d\n", id, model[id].owner, model[id].n)
			}
			if got := d.table(0); got != rows.String() {
				t.Fatalf("seed %d, step %d: the rows are\n%swant\n%s", seed, step, got, rows.String())
			}
		}
	}
}

// oneWrite makes a random write, carries it out in the model and returns what the engine should say.
func oneWrite(t *testing.T, rel *expr.Relation, r *rand.Rand, model map[int64]owned, using, check, insert rule) (change.Entry, string) {
	l := rel.Table.Layout
	id, owner, n := r.Int64N(6), string("abc"[r.IntN(3)]), r.Int64N(6)
	full := row(t, l, fmt.Sprintf("%d|%s|%d", id, owner, n))
	old, there := model[id]
	filter, selects := "n=gte.0", func(int64) bool { return true }
	if r.IntN(2) == 0 {
		filter, selects = fmt.Sprintf("id=eq.%d", id), func(i int64) bool { return i == id }
	}
	var seen []int64
	for i, x := range model {
		if selects(i) && using.holds(i, x) {
			seen = append(seen, i)
		}
	}
	switch op := change.Op(r.IntN(4)) + change.OpInsert; op {
	case change.OpInsert: // its rows are checked at the door
		if there {
			return records(1, op, change.Record{Row: full}), "0 0 [conflict]"
		}
		model[id] = owned{owner, n}
		return records(1, op, change.Record{Row: full}), "1 0 []"
	case change.OpMerge: // gives id and n
		en := records(1, op, change.Record{Row: full, Given: []byte{0b101}})
		now := owned{old.owner, n}
		if !there {
			now.owner = owner
		}
		if !there && !insert.holds(id, now) || there && (!using.holds(id, old) || !check.holds(id, now)) {
			return en, "0 0 [forbidden]"
		}
		model[id] = now
		return en, "1 0 []"
	case change.OpUpdate:
	default:
		for _, i := range seen {
			delete(model, i)
		}
		return records(1, change.OpDelete, change.Record{Filter: []byte(filter)}), fmt.Sprint(len(seen), " 0 []")
	}
	en := records(1, change.OpUpdate, change.Record{Row: full, Given: []byte{0b110}, Filter: []byte(filter)})
	for _, i := range seen {
		if !check.holds(i, owned{owner, n}) {
			return en, "0 0 [forbidden]"
		}
	}
	for _, i := range seen {
		model[i] = owned{owner, n}
	}
	return en, fmt.Sprint(len(seen), " 0 []")
}

// TestRulesThatCannotBeRead: an entry whose rules are no rules, or are about other columns, is no write without rules.
func TestRulesThatCannotBeRead(t *testing.T) {
	p := newProgram()
	p.table("t", []int{0}, false, true, "id bigint not null")
	for name, rules := range map[string]change.Rules{
		"no condition":   {Using: []byte{9, 9, 9}},
		"another column": {Using: expr.AppendNode(nil, expr.IsNull(expr.Column(1, expr.TypeNamed("bigint"), -1), true, -1))},
		"another type":   {Check: expr.AppendNode(nil, expr.IsNull(expr.Column(0, expr.TypeNamed("text"), -1), true, -1))},
	} {
		d := newDriver(t, &p.p, flow.Options{})
		en := records(1, change.OpDelete, change.Record{Filter: []byte("id=eq.1")})
		en.Rules = rules.Append(nil)
		b := d.seal(2_000_000, en)
		if _, err := d.e.Apply(&b); err == nil {
			t.Errorf("%s: applied", name)
		}
	}
	d := newDriver(t, &p.p, flow.Options{})
	en := records(1, change.OpDelete, change.Record{Filter: []byte("id=eq.1")})
	en.Rules = []byte{1}
	if b := d.seal(2_000_000, en); len(b.Raw()) > 0 {
		if _, err := d.e.Apply(&b); err == nil {
			t.Error("cut: applied")
		}
	}
}

// TestKeptRules reads rules as logs have them: what was written once is read for ever, and written as the same bytes.
func TestKeptRules(t *testing.T) {
	for _, c := range []struct{ kept, text string }{
		{"\x01\x03\x01\x01=\x02\x01\x06\x01\x02\x06\x01\x03ann", "($2:text = 'ann'::text)"},
		{"\x01\x05\x01\x02\x06\x01\x02\x0f\x01\x04\x01\x03\x00\x02\x03\x01\x011\x02\x03\x01\x012\x02\x03\x01\x013\b\x01\x01\x01\x06\x01\a\x01\x01\x05\x01\x02\x03\x01\x01>\x02\x01\x03\x00\x02\x03\x01\x015\x03\x01\x02~~\x02\x01\x06\x01\x02\x06\x01\x02a%",
			"((($1:bigint IN ('1'::bigint, '2'::bigint, '3'::bigint)) OR ($2:text IS NULL)) AND (NOT (($1:bigint > '5'::bigint) AND ($2:text ~~ 'a%'::text))))"},
		{"\x01\x05\x01\x03\x03\x01\x02>=\x02\x01\b\x02\x02\b\x01\x162026-01-31 12:00:00+00\x03\x01\x02@>\x02\x01F\x03\x02F\x01\x05{a,b}\t\x01\x02\x01\x03\x00\x02\x03\x01\x014",
			"(($3:timestamptz >= '2026-01-31 12:00:00+00'::timestamptz) AND ($4:text[] @> '{a,b}'::text[]) AND ($1:bigint IS DISTINCT FROM '4'::bigint))"},
	} {
		n, err := expr.ReadNode([]byte(c.kept))
		if err != nil || n.String() != c.text || string(expr.AppendNode(nil, n)) != c.kept {
			t.Errorf("%q is read as %v, %v", c.kept, n, err)
		}
	}
}

// TestFilterSeesNoHiddenRow: a filter that fails on a row that the rules hide does not tell of it.
func TestFilterSeesNoHiddenRow(t *testing.T) {
	p := newProgram()
	p.table("t", []int{0}, false, true, "id bigint not null", "owner text not null", "j jsonb")
	rel := p.p.Relations[0]
	d := newDriver(t, &p.p, flow.Options{MaxMatches: 2})
	for i := range 6 {
		d.apply(records(1, change.OpInsert, change.Record{Row: row(t, rel.Table.Layout, fmt.Sprintf("%d|%s|NULL", i, string("ab"[i/4])))}))
	}
	mine := rule{filter: "owner=eq.b"}
	rules := change.Rules{Using: mine.stored(t, rel)}
	for _, c := range []struct{ filter, want string }{{"id=eq.1", "0"}, {"id=gte.0", "2"}, {"owner=eq.a", "0"}, {"id=eq.4", "0"}} {
		en := records(1, change.OpDelete, change.Record{Filter: []byte(c.filter)})
		en.Rules = rules.Append(nil)
		if out := d.apply(en).Outcomes[0]; fmt.Sprint(out.Accepted) != c.want || len(out.Rejected) > 0 {
			t.Errorf("%s: %+v, want %s", c.filter, out, c.want)
		}
	}
}
