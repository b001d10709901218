package flow_test

import (
	"fmt"
	"strings"
	"testing"

	"laaster/internal/change"
	"laaster/internal/flow"
	"laaster/internal/sql"
)

// What the log's audit records become in laaster.audit.
func TestAudit(t *testing.T) {
	p := system(compile(t, `CREATE TABLE t (id bigint PRIMARY KEY, v integer);`, nil))
	if q := compile(t, `CREATE TABLE t (id bigint PRIMARY KEY); GRANT SELECT ON laaster.audit TO auditor;`, nil); len(q.Definition.Grants) != 1 || q.Relations[q.Audit].Name != "laaster.audit" {
		t.Errorf("granted: %+v", q.Definition.Grants)
	}
	if q, _ := sql.Compile("app.sql", []byte(`CREATE MATERIALIZED VIEW v AS SELECT act FROM laaster.audit;`), nil); q != nil {
		t.Error("a view reads laaster.audit")
	}
	d := newDriver(t, p, flow.Options{})
	add := func(bodies ...string) {
		t.Helper()
		var list []change.Entry
		for _, b := range bodies {
			list = append(list, change.Entry{Kind: change.EntryAudit, Body: []byte(b)})
		}
		d.apply(list...)
	}
	add(`{"number":1,"at":1500000,"subject":"ann","role":"admin","act":"deploy","object":"app","outcome":"done","details":{"views":2}}`)
	add(`{"number":2,"act":"login","from":"127.0.0.1","subject":7}`, `no json`, `[1]`, `{"act":"x"} trailing`)
	add(`{"number":2,"act":"again"}`, `{"number":9,"act":"a\u0000b","details":[1]}`, `{"number":9223372036854775807}`, "{\"act\":\"\xff\"}")
	want := strings.Join([]string{
		`1|1970-01-01 00:00:01.5+00|1|ann|admin|deploy|app|done|{"views": 2}`,
		`2|1970-01-01 00:00:01.000002+00|2|||login|||{"from": "127.0.0.1", "subject": 7}`,
		`3|1970-01-01 00:00:01.000002+00|2|||unreadable|||{"body": "no json"}`,
		`4|1970-01-01 00:00:01.000002+00|2|||unreadable|||{"body": "[1]"}`,
		`5|1970-01-01 00:00:01.000002+00|2|||unreadable|||{"body": "{\"act\":\"x\"} trailing"}`,
		`6|1970-01-01 00:00:01.000003+00|3|||again|||{"number": 2}`,
		`9|1970-01-01 00:00:01.000003+00|3|||a` + "\uFFFD" + `b|||{"details": [1]}`,
		`10|1970-01-01 00:00:01.000003+00|3||||||{"number": 9223372036854775807}`,
		`11|1970-01-01 00:00:01.000003+00|3|||` + "\uFFFD" + `|||{}`, ""}, "\n")
	if got := d.table(p.Audit); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	var many []string
	for i := range 12_000 {
		many = append(many, fmt.Sprintf(`{"number":%d,"act":"a"}`, 100+i))
	}
	before := d.e.Fingerprint()
	add(many[:6000]...)
	add(many[6000:]...)
	lines := strings.Split(strings.TrimSuffix(d.table(p.Audit), "\n"), "\n")
	if len(lines) != 10_000 || !strings.HasPrefix(lines[0], "2100|") || !strings.HasPrefix(lines[9999], "12099|") {
		t.Errorf("%d rows from %s to %s", len(lines), lines[0], lines[len(lines)-1])
	}
	if before == d.e.Fingerprint() {
		t.Error("the fingerprint does not say that there was an audit record")
	}
	for range 20 { // through checkpoints
		add(`{"act":"later"}`)
	}
	add(`{"act":"huge","blob":"` + strings.Repeat("x", 9000) + `"}`)
	if got := d.table(p.Audit); !strings.Contains(got, `12120|`) || !strings.Contains(got, `|huge|||{"left_out"`) {
		t.Errorf("the last rows are not there: %s", got[len(got)-300:])
	}
}
