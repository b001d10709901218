package nexmark_test

import (
	"fmt"
	"strings"
	"testing"

	"laaster/internal/flow"
	"laaster/internal/sql"
	"laaster/test/nexmark"
)

// TestPlans holds what makes the queries cheap to the text that EXPLAIN prints: which columns a join or a rank keeps, which keys are inferred,
// what only grows, and what a watermark frees.
func TestPlans(t *testing.T) {
	for q, want := range map[int][]string{
		0:  {"view q0 numbered"}, // no state at all: rows of an append-only table go through
		10: {"view q10 numbered"},
		3:  {"project $1:bigint, $8:bigint\n        filter", "project $1:bigint, $2:text, $5:text, $6:text\n        filter"},
		4:  {"view q4 key (category)", "project $1:bigint, $6:timestamp, $7:timestamp, $9:bigint\n            scan auction", "project $1:bigint, $3:bigint, $6:timestamp\n            scan bid"},
		5:  {"keeps the left rows, each until the watermark of bid", "keep ($1) (closes)"},
		7:  {"project $1:bigint, $2:bigint, $3:bigint, $6:timestamp, $7:text\n        scan bid"},
		8:  {"until the watermark of person has passed it", "until the watermark of auction has passed it"},
		9:  {"project $1:bigint, $2:bigint, $3:bigint, $6:timestamp, $7:text\n        scan bid", "until the watermark of auction has passed"},
		16: {"view q16 key (channel, day)"},
		18: {"view q18 key (bidder, auction)", "keeps the rows that it shows of each partition"},
		19: {"view q19 key (auction, rank_number)", "keeps the rows that it shows of each partition"},
		20: {"filter ($9:bigint = '10'::bigint)\n        scan auction"},
		23: {"project $2:bigint, $3:bigint, $4:text, $5:text, $7:text\n        scan bid", "project $2:text, $3:text, $4:bigint, $5:bigint, $6:timestamp, $7:timestamp, $8:bigint, $9:bigint, $10:text\n      scan auction"},
	} {
		p, found := sql.Compile("app.sql", []byte(nexmark.App(q)), nil)
		if p == nil {
			t.Fatal(found[0].Render())
		}
		var b strings.Builder // without what is kept, whose lines stand between an operator and its input
		text := sql.ExplainView(p, fmt.Sprintf("q%d", q))
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(strings.TrimSpace(line), "keeps ") {
				b.WriteString(line)
			}
		}
		for _, w := range want {
			if !strings.Contains(text, w) && !strings.Contains(b.String(), w) {
				t.Errorf("q%d: no %q in\n%s", q, w, text)
			}
		}
	}
}

// TestSharedSteps counts the steps that queries take: what two parts of a query, or two views, both compute is one step.
func TestSharedSteps(t *testing.T) {
	p, found := sql.Compile("app.sql", []byte(nexmark.App(5)), nil)
	if p == nil {
		t.Fatal(found[0].Render())
	}
	e, err := flow.New(p, flow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	// scan, hop, count, project, max, project, join, project: the two groupings of the same windows are one.
	if n := len(e.Stats().Views[0].Operators); n != 8 {
		t.Errorf("q5 takes %d steps", n)
	}
	p, found = sql.Compile("app.sql", []byte(`CREATE TABLE a (id bigint PRIMARY KEY, v bigint NOT NULL, x text);
CREATE TABLE b (id bigint PRIMARY KEY, a bigint NOT NULL, w bigint NOT NULL);
CREATE MATERIALIZED VIEW totals AS SELECT a.v, sum(b.w) AS total FROM a JOIN b ON b.a = a.id WHERE a.v > 0 GROUP BY a.v;
CREATE MATERIALIZED VIEW pairs AS SELECT a.v, b.w, count(*) AS n FROM a JOIN b ON b.a = a.id WHERE a.v > 0 GROUP BY a.v, b.w;
GRANT SELECT ON totals, pairs TO anon;
`), nil)
	if p == nil {
		t.Fatal(found[0].Render())
	}
	if e, err = flow.New(p, flow.Options{}); err != nil {
		t.Fatal(err)
	}
	for _, v := range e.Stats().Views {
		joins := 0
		for _, o := range v.Operators {
			if _, ok := o.Plan.(*flow.Join); ok && len(o.Views) == 2 {
				joins++
			}
		}
		if joins != 1 {
			t.Errorf("view %s has no join that the other one uses", v.Name)
		}
	}
}
