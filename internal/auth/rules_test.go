package auth_test

import (
	"fmt"
	"strings"
	"testing"

	"laaster/app"
	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql"
	"laaster/internal/wire"
)

func compile(t testing.TB, src string) (*flow.Program, *auth.Rules) {
	t.Helper()
	p, diags := sql.Compile("app.sql", []byte(src), nil)
	if p == nil {
		t.Fatal(sql.Render(diags))
	}
	rules := &auth.Rules{}
	rules.Use(p.Definition, p.Relations...)
	return p, rules
}

func who(subject, claims string, roles ...string) auth.Principal {
	p := auth.Principal{Subject: subject, Token: &auth.Token{Roles: roles, Claims: []byte(claims)}}
	if len(roles) > 0 {
		p.Role = roles[0]
	}
	return p
}

const notes = `CREATE TABLE notes (id int PRIMARY KEY, room text, owner text, level int, org uuid, data jsonb);
CREATE TABLE members (room text, member text, level bigint, PRIMARY KEY (room, member));
GRANT ALL ON notes TO PUBLIC;
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
`

// TestRuleOfCaller: the caller's values become constants, what they decide is computed, and columns that are compared with them are found by an index.
func TestRuleOfCaller(t *testing.T) {
	const admin = `{"org":{"id":"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},"level":"7","admin":true,"rooms":"b,a","bad":"x"}`
	for _, c := range []struct{ using, claims, want, equals string }{
		{"owner = auth_subject()", "{}", "($3:text = 'ann'::text)", "owner=ann"},
		{"auth_subject() = owner", "{}", "($3:text = 'ann'::text)", "owner=ann"},
		{"org = auth_claim('org.id')::uuid", admin, "($5:uuid = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid)", "org=a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
		{"org = auth_claim('org.id')::uuid", "{}", "false", ""},
		{"org = auth_claim('bad')::uuid", admin, "false", ""}, // what fails is false
		{"org = auth_claim('bad')::uuid OR level = 1", admin, "($4:integer = 1)", "level=1"},
		{"NOT (org = auth_claim('bad')::uuid)", admin, "false", ""},
		{"level = auth_claim('level')::int AND owner = auth_subject()", admin, "(($4:integer = 7) AND ($3:text = 'ann'::text))", "level=7 owner=ann"},
		{"auth_claim('admin')::boolean OR owner = auth_subject()", admin, "true", ""},
		{"auth_claim('admin')::boolean OR owner = auth_subject()", "{}", "($3:text = 'ann'::text)", "owner=ann"},
		{"CASE WHEN auth_role() = 'editor' THEN level > 1 ELSE owner = auth_subject() END", "{}", "($4:integer > 1)", ""},
		{"CASE auth_role() WHEN 'x' THEN true ELSE owner = auth_subject() END", "{}", "($3:text = 'ann'::text)", "owner=ann"},
		{"room = ANY (string_to_array(auth_claim('rooms'), ','))", admin, "($2:text IN ('b'::text, 'a'::text))", ""},
		{"coalesce(auth_claim('nothing'), 'lobby') = room", admin, "($2:text = 'lobby'::text)", "room=lobby"},
		{"level / 0 = 1", "{}", "SURE((($4:integer / 0) = 1), false)", ""}, // a row that fails is not seen
		{"auth_claim('org') LIKE '{%' AND level IS NOT NULL", admin, "(NOT ($4:integer IS NULL))", ""},
		{"true", "{}", "true", ""},
		{"NULL", "{}", "false", ""},
	} {
		p, rules := compile(t, notes+"CREATE POLICY p ON notes USING ("+c.using+");")
		r, problem := rules.Rows(who("ann", c.claims, "editor"), "notes", app.Select)
		if problem != nil {
			t.Fatal(problem)
		}
		got, equals := "true", ""
		if r != nil {
			got = r.Cond(nil).String()
			f, err := expr.ParseFilter(p.Relations[0], "")
			if err != nil {
				t.Fatal(err)
			}
			equals = equalsText(p.Relations[0], f.And(r.Cond(nil)))
		}
		if got != c.want || equals != c.equals {
			t.Errorf("%s with %s:\n got %s, index %q\nwant %s, index %q", c.using, c.claims, got, equals, c.want, c.equals)
		}
		if none := c.want == "false"; r != nil && r.None != none {
			t.Errorf("%s: None is %v", c.using, r.None)
		}
	}
}

func equalsText(rel *expr.Relation, f *expr.Filter) string {
	var list []string
	for _, e := range f.Equals() {
		col := rel.Columns[e.Column]
		list = append(list, col.Name+"="+string(expr.AppendText(nil, col.Type, e.Value)))
	}
	return strings.Join(list, " ")
}

// TestRuleOfMembers: sets are named with the caller's values in them, and their values become an IN.
func TestRuleOfMembers(t *testing.T) {
	text := func(list ...string) (out []change.Value) {
		for _, s := range list {
			if s == "NULL" {
				out = append(out, change.Null())
			} else {
				out = append(out, change.Bytes([]byte(s)))
			}
		}
		return out
	}
	for _, c := range []struct {
		using, members string
		sets           [][]change.Value
		want           string
	}{
		{"room IN (SELECT room FROM members WHERE member = auth_subject())", `members.room where ($2:text = 'ann'::text)`, [][]change.Value{text("b", "a", "b", "NULL")}, "($2:text IN ('a'::text, 'b'::text))"},
		{"room IN (SELECT room FROM members WHERE member = auth_subject())", `members.room where ($2:text = 'ann'::text)`, [][]change.Value{text("b")}, "($2:text = 'b'::text)"},
		{"room IN (SELECT room FROM members WHERE member = auth_subject())", `members.room where ($2:text = 'ann'::text)`, [][]change.Value{nil}, "false"},
		{"room IN (SELECT room FROM members WHERE member = auth_subject()) OR owner = auth_subject()", `members.room where ($2:text = 'ann'::text)`, nil, "($3:text = 'ann'::text)"},
		{"EXISTS (SELECT 1 FROM members m WHERE m.room = notes.room AND m.member = auth_subject())", `members.room where ($2:text = 'ann'::text)`, [][]change.Value{text("a")}, "($2:text = 'a'::text)"},
		{"level IN (SELECT level FROM members) AND owner = auth_subject()", `members.level where true`, [][]change.Value{{change.Int(4), change.Int(2)}},
			"(($4:integer::bigint IN ('2'::bigint, '4'::bigint)) AND ($3:text = 'ann'::text))"},
		{"auth_subject() IN (SELECT member FROM members WHERE level > 3)", `members.member where (($3:bigint > '3'::bigint) AND ($2:text = 'ann'::text))`, [][]change.Value{text("ann")}, "true"},
		{"auth_subject() IN (SELECT member FROM members WHERE level > 3)", `members.member where (($3:bigint > '3'::bigint) AND ($2:text = 'ann'::text))`, [][]change.Value{{}}, "false"},
		{"auth_claim('nobody') IN (SELECT member FROM members)", "", nil, "false"},
		{"room IN (SELECT room FROM members WHERE member = auth_subject()) AND auth_claim('nobody') = 'x'", "", nil, "false"},
	} {
		p, rules := compile(t, notes+"CREATE POLICY p ON notes USING ("+c.using+");")
		r, problem := rules.Rows(who("ann", "{}"), "notes", app.Select)
		if problem != nil {
			t.Fatal(problem)
		}
		var members []string
		for _, m := range r.Members {
			cond := "true"
			if m.Cond != nil {
				cond = m.Cond.String()
			}
			members = append(members, m.Relation+"."+p.Relations[1].Columns[m.Column].Name+" where "+cond)
		}
		if got := strings.Join(members, "; "); got != c.members {
			t.Errorf("%s: members\n got %s\nwant %s", c.using, got, c.members)
		}
		if got := r.Cond(c.sets).String(); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.using, got, c.want)
		}
	}
}

// TestRulesAreShared: callers of whom the same is asked have one rule, others do not; and what nobody may see asks for no set.
func TestRulesAreShared(t *testing.T) {
	_, rules := compile(t, notes+`CREATE ROLE a; CREATE ROLE b;
CREATE POLICY p ON notes TO a USING (room = auth_claim('room'));
CREATE POLICY q ON notes FOR SELECT TO b USING (level < 3);`)
	key := func(p auth.Principal, cmd app.Privilege) string {
		t.Helper()
		r, problem := rules.Rows(p, "notes", cmd)
		if problem != nil {
			t.Fatal(problem)
		}
		return r.Key
	}
	ann, bob := key(who("ann", `{"room":"x"}`, "a"), app.Select), key(who("bob", `{"room":"x","other":1}`, "a", "c"), app.Select)
	if ann != bob {
		t.Errorf("two callers with the same rule have %s and %s", ann, bob)
	}
	for _, other := range []string{key(who("ann", `{"room":"y"}`, "a"), app.Select), key(who("ann", `{"room":"x"}`, "a", "b"), app.Select), key(who("ann", `{"room":"x"}`, "b"), app.Select),
		key(who("ann", `{"room":"x"}`), app.Select)} {
		if other == ann {
			t.Errorf("two rules have one key %s", ann)
		}
	}
	if got, want := key(who("ann", `{"room":"x"}`, "b", "a"), app.Update), "(($2:text = 'x'::text) AND (($2:text = 'x'::text) OR ($4:integer < 3)))"; got != want {
		t.Errorf("update: got %s, want %s", got, want)
	}
	if r, _ := rules.Rows(auth.Anonymous(), "notes", app.Select); !r.None || len(r.Members) != 0 || r.Cond(nil).String() != "false" {
		t.Errorf("anon has the rule %+v", r)
	}
}

// TestSecuredFailsClosed: without policies, and without the bound conditions, nobody sees a row.
func TestSecuredFailsClosed(t *testing.T) {
	p, rules := compile(t, notes)
	blind := &auth.Rules{}
	blind.Use(p.Definition)
	for name, r := range map[string]*auth.Rules{"no policy": rules, "no relations": blind} {
		for _, cmd := range []app.Privilege{app.Select, app.Update, app.Delete} {
			if rule, problem := r.Rows(auth.Anonymous(), "notes", cmd); problem != nil || rule == nil || !rule.None || rule.Cond(nil).String() != "false" {
				t.Errorf("%s: %v, %v", name, rule, problem)
			}
		}
		if rule, problem := r.Checks(auth.Anonymous(), "notes", app.Insert); problem != nil || rule == nil || !rule.None {
			t.Errorf("%s: insert %v, %v", name, rule, problem)
		}
	}
	if rule, problem := rules.Rows(auth.Anonymous(), "members", app.Select); rule != nil || problem == nil || problem.Code != wire.Unauthenticated {
		t.Errorf("what is not granted: %v, %v", rule, problem)
	}
	if rule, problem := (&auth.Rules{}).Rows(auth.Anonymous(), "notes", app.Select); rule != nil || problem == nil {
		t.Errorf("rules without a definition: %v, %v", rule, problem)
	}
}

// TestColumns: what several roles may see together, and what none of them may.
func TestColumns(t *testing.T) {
	_, rules := compile(t, `CREATE TABLE beds (id int PRIMARY KEY, ward text, patient text);
GRANT SELECT (id, ward), INSERT (id) ON beds TO nurse; GRANT SELECT (id, patient) ON beds TO clerk; GRANT SELECT ON beds TO doctor; GRANT UPDATE (ward) ON beds TO PUBLIC;`)
	check := func(p auth.Principal, need app.Privilege, want string) {
		t.Helper()
		if got := fmt.Sprint(rules.Columns(p, "beds", need)); got != want {
			t.Errorf("%v: got %s, want %s", p.Token, got, want)
		}
	}
	check(who("x", "{}", "nurse"), app.Select, "[true true false]")
	check(who("x", "{}", "clerk", "nurse"), app.Select, "[true true true]")
	check(who("x", "{}", "nurse"), app.Select, "[true true false]") // the union left the parts alone
	check(who("x", "{}", "nurse", "doctor"), app.Select, "[]")
	if rules.Columns(who("x", "{}", "nurse", "doctor"), "beds", app.Select) != nil {
		t.Error("all columns are not nil")
	}
	check(who("x", "{}", "nurse"), app.Insert, "[true false false]")
	check(who("x", "{}"), app.Update, "[false true false]")
	if cols := rules.Columns(who("x", "{}"), "beds", app.Select); cols == nil || len(cols) != 0 {
		t.Errorf("no column at all is %v", cols)
	}
}

// TestCacheIsBounded: more callers than it holds do not make it grow, and get the right rule.
func TestCacheIsBounded(t *testing.T) {
	_, rules := compile(t, notes+"CREATE POLICY p ON notes USING (owner = auth_subject());")
	long := strings.Repeat("x", 4000)
	for i := range 2000 {
		p := who(fmt.Sprint(long, i), "{}")
		r, _ := rules.Rows(p, "notes", app.Select)
		if again, _ := rules.Rows(p, "notes", app.Select); again != r || !strings.Contains(r.Key, p.Subject) {
			t.Fatal("the rule of another caller")
		}
	}
	if n := auth.CachedRules(rules); n > 800 || n < 100 {
		t.Errorf("%d rules of some 44 KB are kept", n)
	}
}

// BenchmarkAllow: what a caller costs per request: without policies, and with a rule that is known.
func BenchmarkAllow(b *testing.B) {
	_, plain := compile(b, "CREATE TABLE notes (id int PRIMARY KEY, owner text); GRANT ALL ON notes TO anon;")
	_, ruled := compile(b, notes+"CREATE POLICY p ON notes USING (owner = auth_subject() AND room = auth_claim('room'));")
	for name, c := range map[string]struct {
		rules *auth.Rules
		who   auth.Principal
	}{"plain": {plain, auth.Anonymous()}, "rule": {ruled, who("ann", `{"room":"lobby","iat":1700000000}`, "editor")}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, problem := c.rules.Rows(c.who, "notes", app.Select); problem != nil {
					b.Fatal(problem)
				}
			}
		})
	}
}
