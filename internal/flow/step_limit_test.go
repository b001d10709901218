package flow_test

import (
	"strings"
	"testing"

	"laaster/internal/change"
	"laaster/internal/flow"
)

// What one row becomes in one step is bounded: the view stops, the engine and other views go on.
func TestStepBytes(t *testing.T) {
	p := system(compile(t, `CREATE TABLE t (id bigint PRIMARY KEY, v integer);
		CREATE MATERIALIZED VIEW bomb AS SELECT count(*) AS n FROM t, generate_series(1, 100000) a, generate_series(1, 100000) b;
		CREATE MATERIALIZED VIEW fine AS SELECT id, v FROM t;`, nil))
	d := newDriver(t, p, flow.Options{MaxViewBytes: 8 << 20})
	d.apply(inserts(t, p, "t", change.OpInsert, 0xff, "1|1"))
	d.apply(inserts(t, p, "t", change.OpInsert, 0xff, "2|1"))
	stopped := d.e.Stopped()
	if len(stopped) != 1 || p.Relations[stopped[0].Relation].Name != "bomb" || !strings.Contains(stopped[0].Reason, "bytes made of one batch by one operator") {
		t.Errorf("stopped: %+v", stopped)
	}
	for _, rel := range p.Relations {
		if rel.Name == "fine" && len(d.rows[rel.ID]) != 2 {
			t.Errorf("fine has %d rows", len(d.rows[rel.ID]))
		}
	}
}
