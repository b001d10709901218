package expr_test

import (
	"fmt"
	"strings"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// TestWorkOfPatterns: matching is counted, and what a caller's conditions may do on one row is bounded for all of them together.
func TestWorkOfPatterns(t *testing.T) {
	cols := []app.Column{{Name: "s", Type: app.Text}}
	rel := &expr.Relation{Name: "v", Columns: cols, Layout: change.ColumnLayout(cols)}
	row := rel.Layout.Append(nil, []change.Value{change.Value{B: []byte(strings.Repeat("a", 10_000))}})
	for _, c := range []struct {
		term   string
		weight int
	}{{"not.match.b(c)", 4}, {"not.like.b_d*e", 5}, {"not.imatch.(xy){10}", 20}, {"neq.a", 0}} {
		var terms []string
		for i := range 50 {
			terms = append(terms, "or=(s."+c.term+",s.eq."+fmt.Sprint(i)+")")
		}
		f, err := expr.ParseFilter(rel, strings.Join(terms, "&"))
		if err != nil {
			t.Fatal(err)
		}
		if w := f.Weight(); w < 50*c.weight || c.weight == 0 && w != 0 {
			t.Errorf("%s: weight %d, want at least %d", c.term, w, 50*c.weight)
		}
		var ctx expr.Ctx
		ctx.Row = row
		if ok, err := f.Match(&ctx); !ok || err != nil || ctx.Spent() < 10_000*50*c.weight {
			t.Errorf("%s: %v, %v, %d spent", c.term, ok, err, ctx.Spent())
		}
		if c.weight == 0 {
			continue
		}
		ctx.Bound(10_000 * c.weight * 10)
		if ok, err := f.Match(&ctx); ok || err == nil {
			t.Errorf("%s: beyond the bound: %v", c.term, ok)
		}
		ctx.Bound(0)
		if ok, err := f.Match(&ctx); !ok || err != nil {
			t.Errorf("%s: without a bound: %v, %v", c.term, ok, err)
		}
	}
}

// TestPatternsAreLinear: what makes a backtracking matcher take for ever takes no longer than its length here, and what RE2 cannot bound is refused.
func TestPatternsAreLinear(t *testing.T) {
	cols := []app.Column{{Name: "s", Type: app.Text}}
	rel := &expr.Relation{Name: "v", Columns: cols, Layout: change.ColumnLayout(cols)}
	row := rel.Layout.Append(nil, []change.Value{change.Value{B: []byte(strings.Repeat("a", 30_000) + "!")}})
	for _, pattern := range []string{"^(a+)+$", "^(a|aa)+$", "^(a*)*$", "(.*a){20}$", "^(a|a)*$", "(a?){30}a{30}!!"} {
		f, err := expr.ParseFilter(rel, "s=match."+strings.NewReplacer("+", "%2B", "|", "%7C").Replace(pattern))
		if err != nil {
			t.Errorf("%s: %v", pattern, err)
			continue
		}
		ctx := expr.Ctx{Row: row}
		if ok, err := f.Match(&ctx); ok || err != nil {
			t.Errorf("%s: %v, %v", pattern, ok, err)
		}
		if most := 30_001 * 250; ctx.Spent() > most {
			t.Errorf("%s: %d characters times elements, at most %d expected", pattern, ctx.Spent(), most)
		}
	}
	for _, pattern := range []string{`(a)\1`, `(?=a)`, `(?<!a)b`, strings.Repeat("(", 2000), "(((a{100}){100}){100})", "a{20000}"} {
		f, err := expr.ParseFilter(rel, "s=match."+pattern)
		if err == nil {
			ctx := expr.Ctx{Row: row}
			if ok, err2 := f.Match(&ctx); ok || err2 == nil {
				t.Errorf("%.30s: neither refused nor failing", pattern)
			}
		}
	}
}
