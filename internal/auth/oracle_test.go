package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"laaster/app"
	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/kit/testkit"
	"laaster/internal/sql"
)

const oracleTables = `CREATE TABLE messages (id int PRIMARY KEY, room text, owner text, level int, flag boolean);
CREATE TABLE members (room text, member text, level int, n int PRIMARY KEY);
`

// oracleFunctions are ours, as PostgreSQL functions over settings of the session.
const oracleFunctions = `CREATE FUNCTION auth_subject() RETURNS text LANGUAGE sql STABLE AS $$SELECT current_setting('x.subject')$$;
CREATE FUNCTION auth_role() RETURNS text LANGUAGE sql STABLE AS $$SELECT current_setting('x.role')$$;
CREATE FUNCTION auth_claim(path text) RETURNS text LANGUAGE sql STABLE AS $$SELECT current_setting('x.claims')::jsonb #>> string_to_array(path, '.')$$;
`

// oracle is one app in both: ours compiled, PostgreSQL's in a schema of its own.
type oracle struct {
	t     *testing.T
	r     *rand.Rand
	pg    *pgx.Conn
	roles string // prefix of role names in PostgreSQL, where they belong to the whole cluster
}

func newOracle(t *testing.T, seed uint64) *oracle {
	o := &oracle{t: t, r: rand.New(rand.NewPCG(seed, 7)), pg: testkit.Postgres(t).Schema(t)}
	var schema string
	if err := o.pg.QueryRow(t.Context(), "SELECT current_schema()").Scan(&schema); err != nil {
		t.Fatal(err)
	}
	o.roles = "laaster_" + schema + "_"
	o.exec(oracleFunctions + oracleTables + "GRANT USAGE ON SCHEMA " + schema + " TO PUBLIC; GRANT SELECT ON members TO PUBLIC")
	for _, role := range []string{"r1", "r2", "r3"} {
		o.exec("CREATE ROLE " + o.roles + role)
	}
	t.Cleanup(func() {
		o.exec("RESET ROLE; DROP SCHEMA " + schema + " CASCADE")
		for _, role := range []string{"u0", "u1", "u2", "u3", "r1", "r2", "r3"} {
			o.exec("DROP ROLE IF EXISTS " + o.roles + role)
		}
		o.exec("CREATE SCHEMA " + schema) // for the cleanup of testkit
	})
	return o
}

func (o *oracle) exec(sql string) {
	o.t.Helper()
	if _, err := o.pg.Exec(context.Background(), sql); err != nil { // cleanups come here, too
		o.t.Fatalf("%v\n%s", err, sql)
	}
}

// try runs a statement that may be refused, and undoes it. refused is PostgreSQL's insufficient_privilege, which a policy's WITH CHECK raises too.
func (o *oracle) try(sql string) (rows int64, refused bool) {
	o.t.Helper()
	o.exec("BEGIN")
	tag, err := o.pg.Exec(o.t.Context(), sql)
	var e *pgconn.PgError
	if err != nil && (!errors.As(err, &e) || e.Code != "42501") {
		o.t.Fatalf("%v\n%s", err, sql)
	}
	o.exec("ROLLBACK")
	return tag.RowsAffected(), err != nil
}

// inPG renames the roles of a text in which they are @r1, @r2, …
func (o *oracle) inPG(text string) string { return strings.ReplaceAll(text, "@", o.roles) }

func ours(text string) string { return strings.ReplaceAll(text, "@", "") }

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// condition makes a random condition. Memberships stand under AND and OR only.
func (o *oracle) condition(depth int, plain bool) string {
	if depth > 0 {
		switch o.r.IntN(5) {
		case 0:
			return "(" + o.condition(depth-1, plain) + " AND " + o.condition(depth-1, plain) + ")"
		case 1:
			return "(" + o.condition(depth-1, plain) + " OR " + o.condition(depth-1, plain) + ")"
		case 2:
			return "(NOT " + o.condition(depth-1, true) + ")"
		case 3:
			return "(CASE WHEN auth_role() = 'r2' THEN " + o.condition(depth-1, true) + " ELSE " + o.condition(depth-1, true) + " END)"
		}
	}
	list := []string{"owner = auth_subject()", "auth_subject() = owner", "room = auth_claim('room')", "level > auth_claim('deep.level')::int", "level <= 2", "flag",
		"flag IS NOT TRUE", "room IS NULL", "auth_role() = 'r1'", "auth_claim('room') IS NULL", "true", "room = ANY (string_to_array(auth_claim('list'), ','))",
		"auth_claim('set')::jsonb ? room", "COALESCE(auth_claim('room'), 'a') = room", "auth_claim('admin')::boolean", "level IN (1, 3)", "level::bigint = auth_claim('deep.level')::bigint"}
	if !plain {
		list = append(list, "room IN (SELECT room FROM members WHERE member = auth_subject())",
			"room IN (SELECT room FROM members WHERE member = auth_subject() AND level >= 2)",
			"room IN (SELECT room FROM members)",
			"EXISTS (SELECT 1 FROM members m WHERE m.room = messages.room AND m.member = auth_subject())",
			"EXISTS (SELECT 1 FROM members m WHERE auth_subject() = m.member AND m.level > 1)",
			"auth_subject() IN (SELECT member FROM members WHERE level > 1)",
			"level IN (SELECT level FROM members WHERE room = auth_claim('room'))",
			"auth_claim('room') IN (SELECT room FROM members WHERE member = auth_subject())")
	}
	return pick(o.r, list...)
}

func (o *oracle) policy(i int) string {
	command := pick(o.r, "ALL", "ALL", "SELECT", "INSERT", "UPDATE", "DELETE")
	s := fmt.Sprintf("CREATE POLICY p%d ON messages AS %s FOR %s TO %s", i, pick(o.r, "PERMISSIVE", "PERMISSIVE", "PERMISSIVE", "RESTRICTIVE"), command,
		pick(o.r, "PUBLIC", "PUBLIC", "@r1", "@r2", "@r1, @r3"))
	both := command == "ALL" || command == "UPDATE"
	bare := both && o.r.IntN(6) == 0
	if command != "INSERT" && !bare {
		s += " USING (" + o.condition(2, false) + ")"
	}
	if command == "INSERT" || bare || both && o.r.IntN(2) == 0 {
		s += " WITH CHECK (" + o.condition(2, false) + ")"
	}
	return s
}

// caller is a principal, and the user of PostgreSQL that stands for it.
type caller struct {
	auth.Principal
	user string
}

func (o *oracle) callers() []caller {
	var list []caller
	claims := []string{`{}`, `{"room":"a","deep":{"level":2},"list":"a,b","set":["b"],"admin":true}`, `{"room":"b","list":"c","set":{"a":1},"admin":false}`, `{"deep":{"level":1}}`}
	for i, roles := range [][]string{{}, {"r1"}, {"r2", "r3"}, {"r3", "r1"}} {
		user := fmt.Sprintf("%su%d", o.roles, i)
		o.exec("CREATE ROLE " + user)
		p := auth.Principal{Subject: fmt.Sprintf("s%d", i), Role: "none", Token: &auth.Token{Roles: roles, Claims: []byte(claims[i])}}
		if len(roles) > 0 {
			p.Role = roles[0]
		}
		for _, role := range roles {
			o.exec("GRANT " + o.roles + role + " TO " + user)
		}
		list = append(list, caller{p, user})
	}
	return list
}

func (o *oracle) become(c caller) {
	if !json.Valid(c.Token.Claims) {
		o.t.Fatal("claims")
	}
	o.exec(fmt.Sprintf("SET x.subject = '%s'; SET x.role = '%s'; SET x.claims = '%s'; SET ROLE %s", c.Subject, c.Role, c.Token.Claims, c.user))
}

// row is random values of a table, as SQL and as we keep them.
type row struct {
	text string
	row  change.Row
}

func (o *oracle) row(rel *expr.Relation, texts []string) row {
	vals := make([]change.Value, len(texts))
	var list []string
	for i, s := range texts {
		if s == "NULL" {
			vals[i] = change.Null()
			list = append(list, s)
			continue
		}
		v, _, err := expr.ParseText(rel.Columns[i].Type, []byte(s), nil)
		if err != nil {
			o.t.Fatal(err)
		}
		vals[i] = v
		list = append(list, "'"+s+"'")
	}
	return row{"(" + strings.Join(list, ", ") + ")", rel.Layout.Append(nil, vals)}
}

func (o *oracle) message(rel *expr.Relation, id int) row {
	return o.row(rel, []string{fmt.Sprint(id), pick(o.r, "a", "b", "c", "NULL"), pick(o.r, "s0", "s1", "s2", "s3", "NULL"), pick(o.r, "1", "2", "3", "NULL"), pick(o.r, "t", "f", "NULL")})
}

// TestPoliciesAreAsPostgres compares every decision about rows: which are seen, changed, deleted, and which may be written.
func TestPoliciesAreAsPostgres(t *testing.T) {
	o := newOracle(t, 1)
	callers := o.callers()
	passed := map[string]int{}
	for range 110 {
		o.exec("DROP TABLE messages, members; " + oracleTables + "GRANT ALL ON messages TO PUBLIC; GRANT SELECT ON members TO PUBLIC")
		src := oracleTables + "GRANT ALL ON messages TO PUBLIC;\nALTER TABLE messages ENABLE ROW LEVEL SECURITY;\n"
		for i := range o.r.IntN(5) {
			src += o.policy(i) + ";\n"
		}
		o.exec(o.inPG(src[len(oracleTables):]))
		p, diags := sql.Compile("app.sql", []byte(ours(src)), nil)
		if p == nil {
			t.Fatal(sql.Render(diags))
		}
		rules := &auth.Rules{}
		rules.Use(p.Definition, p.Relations...)
		o.comparePolicies(p, rules, callers, src, passed)
	}
	for _, what := range []string{"select", "update", "delete", "insert", "check"} {
		if passed[what+" yes"] < 100 || passed[what+" no"] < 100 {
			t.Errorf("%s: allowed %d times and refused %d times: the test compares too little", what, passed[what+" yes"], passed[what+" no"])
		}
	}
}

func (o *oracle) comparePolicies(p *flow.Program, rules *auth.Rules, callers []caller, src string, passed map[string]int) {
	messages, members := p.Relations[0], p.Relations[1]
	var rows, of []row
	for id := range 8 {
		rows = append(rows, o.message(messages, id))
		o.exec("INSERT INTO messages VALUES " + rows[id].text)
	}
	for n := range 5 {
		of = append(of, o.row(members, []string{pick(o.r, "a", "b", "c", "NULL"), pick(o.r, "s0", "s1", "s2", "s3"), pick(o.r, "1", "2", "3", "NULL"), fmt.Sprint(n)}))
		o.exec("INSERT INTO members VALUES " + of[n].text)
	}
	for _, who := range callers {
		o.become(who)
		holds := func(r *auth.Rule, err any, x row) bool { return o.holds(r, err, messages, x, p.Relations, of) }
		say := func(what string, x row, got, want bool) {
			passed[what+" "+map[bool]string{true: "yes", false: "no"}[want]]++
			if got != want {
				o.t.Fatalf("%s of %s by %s (%v, %s): got %v, PostgreSQL says %v\nmembers %v\n%s", what, x.text, who.Subject, who.Token.Roles, who.Token.Claims, got, want, of, src)
			}
		}
		sees, problem := rules.Rows(who.Principal, "messages", app.Select)
		changes, _ := rules.Rows(who.Principal, "messages", app.Update)
		deletes, _ := rules.Rows(who.Principal, "messages", app.Delete)
		inserts, _ := rules.Checks(who.Principal, "messages", app.Insert)
		updates, _ := rules.Checks(who.Principal, "messages", app.Update)
		list, _ := o.pg.Query(o.t.Context(), "SELECT id FROM messages")
		seen, err := pgx.CollectRows(list, pgx.RowTo[int])
		if err != nil {
			o.t.Fatal(err)
		}
		for id, x := range rows {
			say("select", x, holds(sees, problem, x), slices.Contains(seen, id))
			n, _ := o.try(fmt.Sprintf("DELETE FROM messages WHERE id = %d", id))
			say("delete", x, holds(deletes, problem, x), n == 1)
			to := o.message(messages, id)
			n, refused := o.try(fmt.Sprintf("UPDATE messages SET (id, room, owner, level, flag) = %s WHERE id = %d", to.text, id))
			say("update", x, holds(changes, problem, x), n == 1 || refused)
			if n == 1 || refused {
				say("check", to, holds(updates, problem, to), !refused)
			}
		}
		for id := range 4 {
			x := o.message(messages, 100+id)
			_, refused := o.try("INSERT INTO messages VALUES " + x.text)
			say("insert", x, holds(inserts, problem, x), !refused)
		}
		o.exec("RESET ROLE")
	}
}

// holds evaluates a rule for a row, with its sets out of the rows of members, and again after a way through the log.
func (o *oracle) holds(r *auth.Rule, _ any, rel *expr.Relation, x row, relations []*expr.Relation, of []row) bool {
	if r == nil {
		return true
	}
	var sets [][]change.Value
	for i := range r.Members {
		sets = append(sets, o.members(&r.Members[i], relations, of))
	}
	cond := r.Cond(sets)
	is := o.eval(cond, rel, x.row).True()
	back, err := expr.ReadNode(expr.AppendNode(nil, cond))
	if err != nil || o.eval(back, rel, x.row).True() != is || back.String() != cond.String() {
		o.t.Fatalf("%s is %v after a way through the log: %v", cond, back, err)
	}
	if is && r.None {
		o.t.Fatalf("a rule for no row lets one through: %s", r.Key)
	}
	f, err := expr.ParseFilter(rel, "")
	if err != nil {
		o.t.Fatal(err)
	}
	f = f.And(cond)
	if ok, err := f.Match(&expr.Ctx{Row: x.row}); ok != is || err != nil {
		o.t.Fatalf("the filter of %s says %v, %v", cond, ok, err)
	}
	for _, e := range f.Equals() {
		if v := o.eval(expr.Column(e.Column, rel.Columns[e.Column].Type, -1), rel, x.row); is && (v.Null || v.N != e.Value.N || string(v.B) != string(e.Value.B)) {
			o.t.Fatalf("%s lets a row through whose column %d is not what Equals says", cond, e.Column)
		}
	}
	return is
}

func (o *oracle) members(m *auth.Member, relations []*expr.Relation, of []row) (values []change.Value) {
	rel := relations[slices.IndexFunc(relations, func(r *expr.Relation) bool { return r.Name == m.Relation })]
	for _, x := range of {
		if m.Cond == nil || o.eval(m.Cond, rel, x.row).True() {
			values = append(values, o.eval(expr.Column(m.Column, rel.Columns[m.Column].Type, -1), rel, x.row))
		}
	}
	return values
}

func (o *oracle) eval(n *expr.Node, rel *expr.Relation, r change.Row) change.Value {
	f, err := expr.Compile(n, rel.Layout)
	if err != nil {
		o.t.Fatal(n, err)
	}
	v, err := f(&expr.Ctx{Row: r})
	if err != nil {
		o.t.Fatal(n, err)
	}
	return v
}

// TestGrantsAreAsPostgres compares what GRANT and REVOKE leave, column by column.
func TestGrantsAreAsPostgres(t *testing.T) {
	o := newOracle(t, 2)
	callers := o.callers()
	yes := 0
	for range 80 {
		o.exec("DROP TABLE messages, members; " + oracleTables)
		src := ""
		for range 1 + o.r.IntN(8) {
			src += o.grant()
		}
		o.exec(o.inPG(src))
		p, diags := sql.Compile("app.sql", []byte(ours(oracleTables+src)), nil)
		if p == nil {
			t.Fatal(sql.Render(diags))
		}
		rules := &auth.Rules{}
		rules.Use(p.Definition, p.Relations...)
		for _, who := range callers {
			for i, one := range []app.Privilege{app.Select, app.Insert, app.Update, app.Delete} {
				name := []string{"SELECT", "INSERT", "UPDATE", "DELETE"}[i]
				any := "has_any_column_privilege"
				if one == app.Delete {
					any = "has_table_privilege"
				}
				want := o.has(any, who.user, "", name)
				if got := rules.Allow(who.Principal, "messages", one) == nil; got != want {
					t.Fatalf("%s by %v: got %v, PostgreSQL says %v\n%s", name, who.Token.Roles, got, want, src)
				}
				if one == app.Delete {
					continue
				}
				cols := rules.Columns(who.Principal, "messages", one)
				for c, col := range p.Relations[0].Columns {
					want := o.has("has_column_privilege", who.user, col.Name, name)
					if got := cols == nil || c < len(cols) && cols[c]; got != want {
						t.Fatalf("%s (%s) by %v: got %v, PostgreSQL says %v\n%s", name, col.Name, who.Token.Roles, got, want, src)
					} else if got {
						yes++
					}
				}
			}
		}
	}
	if yes < 500 {
		t.Errorf("only %d rights: the test compares too little", yes)
	}
}

func (o *oracle) has(function, user, column, privilege string) (ok bool) {
	o.t.Helper()
	args := fmt.Sprintf("'%s', 'messages', ", user)
	if column != "" {
		args += "'" + column + "', "
	}
	if err := o.pg.QueryRow(o.t.Context(), "SELECT "+function+"("+args+"'"+privilege+"')").Scan(&ok); err != nil {
		o.t.Fatal(err)
	}
	return ok
}

// grant makes a random GRANT or REVOKE. SELECT on columns always has the key, and is taken whole.
func (o *oracle) grant() string {
	role := pick(o.r, "@r1", "@r2", "@r3", "PUBLIC")
	all := []string{"room", "owner", "level", "flag"}
	o.r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	some := strings.Join(all[:1+o.r.IntN(3)], ", ")
	whole := pick(o.r, "SELECT", "INSERT", "UPDATE", "DELETE", "ALL", "SELECT, DELETE")
	if o.r.IntN(3) == 0 {
		return "REVOKE " + pick(o.r, whole, "INSERT ("+some+")", "UPDATE ("+some+"), DELETE", "SELECT ("+some+")") + " ON messages FROM " + role + ";\n"
	}
	return "GRANT " + pick(o.r, whole, "SELECT (id, "+some+")", "INSERT ("+some+"), UPDATE (level)", "UPDATE (id, "+some+")", "ALL (id, "+some+")") + " ON messages TO " + role + ";\n"
}
