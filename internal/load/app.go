package load

import "strings"

// AppSQL returns the app that a profile needs. The table of rows is keyed and every change of it passes a CHECK, the log and the engine before it is in the
// view; nothing is granted beyond what the load does.
func AppSQL(profile string) string {
	if profile == "ingest" {
		return ingestSQL
	}
	return rowsSQL
}

// RulesSQL is AppSQL for callers with tokens: the role bench in place of anon, row level security on everything, and policies that every row which is written or
// read is judged by. A token with the claim row sees that row of bench_feed alone; one without sees all of them.
func RulesSQL(profile string) string {
	sql, rules := AppSQL(profile), rowsRules
	if profile == "ingest" {
		rules = ingestRules
	}
	return "CREATE ROLE bench;\n\n" + strings.ReplaceAll(sql, "TO anon;", "TO bench;") + rules
}

const rowsRules = `
ALTER TABLE bench_rows ENABLE ROW LEVEL SECURITY;
ALTER TABLE bench_feed ENABLE ROW LEVEL SECURITY;
CREATE POLICY written ON bench_rows USING (auth_claim('writes') = 'yes') WITH CHECK (auth_claim('writes') = 'yes' AND n >= 0);
CREATE POLICY own ON bench_feed USING (auth_claim('row') IS NULL OR id = auth_claim('row')::integer);
`

const ingestRules = `
ALTER TABLE bench_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE bench_tally ENABLE ROW LEVEL SECURITY;
ALTER TABLE bench_leaders ENABLE ROW LEVEL SECURITY;
CREATE POLICY written ON bench_events FOR INSERT WITH CHECK (auth_claim('writes') = 'yes' AND voter <> '');
CREATE POLICY seen ON bench_tally USING (auth_role() = 'bench');
CREATE POLICY seen ON bench_leaders USING (auth_role() = 'bench');
`

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
