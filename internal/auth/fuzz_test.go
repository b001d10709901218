package auth_test

import (
	"strings"
	"testing"

	"laaster/app"
	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/sql"
)

// FuzzPolicy: whatever condition compiles, and whatever is in the claims, the rule of a caller can be evaluated for every row without an error, says the
// same after a way through the log, and has nothing of the caller left to ask.
func FuzzPolicy(f *testing.F) {
	f.Add("owner = auth_subject()", "ann", `{"room":"a"}`, "a", int32(1))
	f.Add("room = auth_claim('room') OR 1 / level > 0", "ann", `{"room":"a"}`, "a", int32(0))
	f.Add("room IN (SELECT room FROM members WHERE member = auth_subject())", "", `{}`, "b", int32(2))
	f.Add("EXISTS (SELECT 1 FROM members m WHERE m.level = notes.level AND m.room = auth_claim('room'))", "x", `{"room":[1]}`, "b", int32(2))
	f.Add("auth_claim('a.b')::jsonb ? room AND NOT (level::text LIKE auth_claim('p'))", "x", `{"a":{"b":["a"]},"p":"\\"}`, "a", int32(2))
	f.Add("CASE auth_role() WHEN 'editor' THEN level = ANY (string_to_array(auth_claim('l'), ',')::int[]) ELSE data @> auth_claim('d')::jsonb END", "x", `{"l":"1,x","d":"{}"}`, "a", int32(2))
	f.Add("owner = auth_subject() OR auth_claim('n') = room", "a\x00", `{"n":"\u0000"}`, "a", int32(2))
	f.Fuzz(func(t *testing.T, using, subject, claims, room string, level int32) {
		value := func(s string) change.Value { // as texts of columns are
			return change.Bytes([]byte(strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "?")))
		}
		p, _ := sql.Compile("app.sql", []byte(notes+"CREATE POLICY p ON notes USING ("+using+");"), nil)
		if p == nil || len(p.Relations[0].Rules) == 0 {
			return
		}
		rules := &auth.Rules{}
		rules.Use(p.Definition, p.Relations...)
		rel := p.Relations[0]
		r, problem := rules.Rows(who(subject, claims, "editor"), rel.Name, app.Update)
		if problem != nil || r == nil {
			return
		}
		sets := make([][]change.Value, len(r.Members))
		for i, m := range r.Members {
			if members := p.Relations[1]; members.Columns[m.Column].Type == app.Text {
				sets[i] = []change.Value{value(room), change.Null()}
			}
			if m.Cond != nil && m.Cond.Volatility() != expr.Immutable {
				t.Fatalf("a set asks the caller: %s", m.Key)
			}
		}
		cond := r.Cond(sets)
		if cond.Volatility() != expr.Immutable {
			t.Fatalf("a rule asks the caller: %s", cond)
		}
		row := rel.Layout.Append(nil, []change.Value{change.Int(1), value(room), value(subject), change.Int(int64(level)), change.Null(), change.Null()})
		says := func(n *expr.Node) bool {
			fn, err := expr.Compile(n, rel.Layout)
			if err != nil {
				t.Fatalf("%s: %v", n, err)
			}
			v, err := fn(&expr.Ctx{Row: row})
			if err != nil {
				t.Fatalf("%s fails: %v", n, err)
			}
			return v.True()
		}
		back, err := expr.ReadNode(expr.AppendNode(nil, cond))
		if err != nil || says(back) != says(cond) {
			t.Fatalf("%s is read back as %v, %v", cond, back, err)
		}
		if r.None && says(cond) {
			t.Fatalf("a rule for no row lets one through: %s", cond)
		}
	})
}
