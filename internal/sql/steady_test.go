package sql

import (
	"strings"
	"testing"
)

// age(t) counts from today: a row's removal could compute something else than its arrival.
func TestAgeOfOneTimeIsNoViewExpression(t *testing.T) {
	const table = "CREATE TABLE t (id bigint PRIMARY KEY, at timestamptz, local timestamp);\nCREATE MATERIALIZED VIEW v AS SELECT id, "
	for _, x := range []string{"age(at)::text", "age(local)::text", "date_part('day', age(at))"} {
		_, diags := Compile("app.sql", []byte(table+x+" AS x FROM t;"), nil)
		if !Errors(diags) || !strings.Contains(diags[0].Msg, "is not allowed in a view") {
			t.Errorf("%s: %v", x, diags)
		}
	}
	if _, diags := Compile("app.sql", []byte(table+"age(at, at)::text AS x FROM t;"), nil); Errors(diags) {
		t.Errorf("age of two times: %v", diags)
	}
}
