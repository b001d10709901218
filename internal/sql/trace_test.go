package sql

import (
	"fmt"
	"testing"
)

// Which relations a client may resume from the log: their rows come with rows of one kept append-only table, and stay as they are.
func TestTraces(t *testing.T) {
	p, diags := Compile("app.sql", []byte(`
CREATE TABLE line (room text, n bigint, who text, body text, PRIMARY KEY (room, n)) WITH (append_only);
CREATE TABLE quiet (id uuid PRIMARY KEY, x bigint) WITH (append_only);
CREATE TABLE brief (id uuid PRIMARY KEY, x bigint) WITH (append_only, ttl = '1 hour');
CREATE TABLE bare (x bigint);
CREATE TABLE seat (id bigint PRIMARY KEY, who text);
CREATE TABLE timed (id bigint PRIMARY KEY, at timestamptz NOT NULL, seat bigint) WITH (append_only, event_time = 'at', lateness = '1 minute');

CREATE MATERIALIZED VIEW loud AS SELECT upper(body) AS body, n, room FROM line WHERE who <> 'x';
CREATE MATERIALIZED VIEW louder AS SELECT room, n AS number, length(body) AS long FROM loud WHERE n > 3;
CREATE MATERIALIZED VIEW nameless AS SELECT body FROM line;
CREATE MATERIALIZED VIEW half AS SELECT room, body FROM line;
CREATE MATERIALIZED VIEW moved AS SELECT n + 1 AS n, room FROM line;
CREATE MATERIALIZED VIEW newest AS SELECT * FROM line ORDER BY n DESC LIMIT 3;
CREATE MATERIALIZED VIEW twice AS SELECT * FROM line UNION ALL SELECT * FROM line;
CREATE MATERIALIZED VIEW rooms AS SELECT room, count(*) AS n FROM line GROUP BY room;
CREATE MATERIALIZED VIEW seated AS SELECT id, who FROM seat WHERE who IS NOT NULL;
CREATE MATERIALIZED VIEW passing AS SELECT id, x FROM brief;
CREATE MATERIALIZED VIEW recent AS SELECT id, at FROM timed WHERE at > now() - interval '1 hour';
CREATE MATERIALIZED VIEW joined WITH (allow_unbounded = true) AS SELECT t.id, t.at, s.who FROM timed t JOIN seat s ON s.id = t.seat;
CREATE MATERIALIZED VIEW looked AS SELECT t.id, t.at, s.who FROM timed t LEFT JOIN as_of(seat) s ON s.id = t.seat;
CREATE MATERIALIZED VIEW barely AS SELECT x FROM bare WHERE x > 1;
GRANT SELECT ON line, bare, seat, brief TO anon;
`), nil)
	if Errors(diags) {
		t.Fatal(diags)
	}
	want := map[string]string{"line": "1 [0 1]", "loud": "1 [0 1]", "louder": "1 [0 1]", "timed": "6 [0]", "looked": "6 [0]"}
	for _, r := range p.Relations {
		got := ""
		if r.Trace != nil {
			got = fmt.Sprint(r.Trace.Table, " ", r.Trace.Key)
		}
		if got != want[r.Name] {
			t.Errorf("%s: trace %q, want %q (key %v)", r.Name, got, want[r.Name], keyText(r))
		}
	}
}
