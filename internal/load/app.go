package load

// AppSQL returns the app that a profile needs. The table of rows is keyed and every change of it passes a CHECK, the log and the engine before it is in the
// view; nothing is granted beyond what the load does.
func AppSQL(profile string) string {
	if profile == "ingest" {
		return ingestSQL
	}
	return rowsSQL
}

const rowsSQL = `CREATE TABLE bench_rows (
  id  integer PRIMARY KEY,
  n   bigint NOT NULL CHECK (n >= 0),
  pad text NOT NULL CHECK (length(pad) < 200000)
);

CREATE MATERIALIZED VIEW bench_feed AS SELECT id, n, pad FROM bench_rows WHERE n >= 0;

GRANT SELECT, INSERT, UPDATE ON bench_rows TO anon;
GRANT SELECT ON bench_feed TO anon;
`

const ingestSQL = `CREATE TABLE bench_events (
  id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  contestant text NOT NULL CHECK (contestant <> ''),
  voter      text NOT NULL,
  points     integer NOT NULL,
  note       text,
  at         timestamptz NOT NULL DEFAULT now()
) WITH (append_only);

CREATE MATERIALIZED VIEW bench_tally AS
  SELECT contestant, count(*) AS votes, sum(points) AS points FROM bench_events GROUP BY contestant;

CREATE MATERIALIZED VIEW bench_leaders AS SELECT contestant, points FROM bench_tally ORDER BY points DESC, contestant LIMIT 10;

GRANT INSERT ON bench_events TO anon;
GRANT SELECT ON bench_tally, bench_leaders TO anon;
`

// SettingsYAML is what the server of a run has in laaster.yaml: room for the clients.
func SettingsYAML(clients int) string {
	if clients < 9000 {
		return ""
	}
	return "limits:\n  connections: " + itoa(clients+1000) + "\n"
}
