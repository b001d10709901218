package nexmark

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed queries/*.sql
var queries embed.FS

// Count is the number of queries, q0 to q23.
const Count = 24

// Query returns the text of query n.
func Query(n int) string {
	b, err := queries.ReadFile(fmt.Sprintf("queries/q%02d.sql", n))
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(b))
}

// App returns the app.sql that runs query n as the view q<n>, readable by anon.
func App(n int) string {
	ingest, with := "", ""
	if n == 12 {
		ingest = ",\n  ingest_time timestamptz NOT NULL DEFAULT now()"
	}
	switch n {
	case 3, 20, 23: // joins whose state only the data bounds
		with = " WITH (allow_unbounded = true)"
	}
	return fmt.Sprintf(`CREATE TABLE person (
  id bigint NOT NULL, name varchar NOT NULL, email_address varchar NOT NULL, credit_card varchar NOT NULL,
  city varchar NOT NULL, state varchar NOT NULL, date_time timestamp NOT NULL, extra varchar NOT NULL
) WITH (append_only, event_time = 'date_time', lateness = '4 seconds');
CREATE TABLE auction (
  id bigint NOT NULL, item_name varchar NOT NULL, description varchar NOT NULL, initial_bid bigint NOT NULL, reserve bigint NOT NULL,
  date_time timestamp NOT NULL, expires timestamp NOT NULL, seller bigint NOT NULL, category bigint NOT NULL, extra varchar NOT NULL
) WITH (append_only, event_time = 'date_time', lateness = '4 seconds');
CREATE TABLE bid (
  auction bigint NOT NULL, bidder bigint NOT NULL, price bigint NOT NULL, channel varchar NOT NULL, url varchar NOT NULL,
  date_time timestamp NOT NULL, extra varchar NOT NULL%s
) WITH (append_only, event_time = 'date_time', lateness = '4 seconds');
CREATE TABLE side_input (key bigint PRIMARY KEY, value varchar NOT NULL);
CREATE MATERIALIZED VIEW q%d%s AS
%s;
GRANT INSERT ON person, auction, bid, side_input TO anon;
GRANT SELECT ON q%d TO anon;
`, ingest, n, with, Query(n), n)
}
