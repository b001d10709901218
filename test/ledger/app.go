package ledger

// SQL is the app that the harness runs: an append-only table that is kept, a keyed one, and a view of each kind.
const SQL = `CREATE TABLE events (
  id       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  producer integer NOT NULL,
  seq      bigint NOT NULL,
  life     integer NOT NULL,
  account  integer NOT NULL,
  amount   bigint NOT NULL CHECK (amount <> 666),
  at       timestamptz NOT NULL,
  seen     timestamptz NOT NULL DEFAULT now()
) WITH (append_only, event_time = 'at', lateness = '1 hour');
CREATE TABLE accounts (
  id      integer PRIMARY KEY,
  owner   integer NOT NULL,
  balance bigint NOT NULL,
  note    text
);
CREATE MATERIALIZED VIEW by_life AS
  SELECT producer, life, count(*) AS n, sum(amount) AS total, max(seq) AS high FROM events GROUP BY producer, life;
CREATE MATERIALIZED VIEW whole AS
  SELECT count(*) AS n, sum(amount) AS total, count(DISTINCT producer) AS producers, min(amount) AS low, max(amount) AS high FROM events;
CREATE MATERIALIZED VIEW rich WITH (allow_unbounded = true) AS
  SELECT a.id, a.owner, a.balance, count(e.id) AS n, coalesce(sum(e.amount), 0) AS total
    FROM accounts AS a LEFT JOIN events AS e ON e.account = a.id GROUP BY a.id, a.owner, a.balance;
CREATE MATERIALIZED VIEW top AS
  SELECT producer, total FROM (SELECT producer, sum(amount) AS total FROM events GROUP BY producer) AS p ORDER BY total DESC, producer LIMIT 5;
CREATE MATERIALIZED VIEW pairs AS SELECT DISTINCT producer, account FROM events;
CREATE MATERIALIZED VIEW best AS
  SELECT account, producer, n, place
    FROM (SELECT account, producer, n, row_number() OVER (PARTITION BY account ORDER BY n DESC, producer) AS place
            FROM (SELECT account, producer, count(*) AS n FROM events GROUP BY account, producer) AS c) AS r
   WHERE place <= 2;
CREATE MATERIALIZED VIEW hours WITH (emit = 'final') AS
  SELECT window_end AS hour, count(*) AS n, sum(amount) AS total FROM tumble(events, at, interval '20 minutes') GROUP BY window_end;
CREATE MATERIALIZED VIEW recent AS SELECT id, producer, seq FROM events WHERE seen > now() - interval '1 second';
GRANT SELECT, INSERT ON events TO anon;
GRANT SELECT, INSERT, UPDATE, DELETE ON accounts TO anon;
GRANT SELECT ON by_life, whole, rich, top, pairs, best, hours, recent, laaster.late TO anon;
`

// View is a view of the app and what gives the same rows in PostgreSQL.
type View struct {
	Name string
	// Query has JSON rows as its only column, computed from tables events and accounts; empty for what only the server's own clock decides.
	Query string
}

// Views returns the views that the app keeps, in the order of the file.
func Views() []View {
	plain := func(name, query string) View {
		return View{name, "SELECT to_jsonb(q)::text FROM (" + query + ") AS q"}
	}
	return []View{
		plain("by_life", `SELECT producer, life, count(*) AS n, sum(amount) AS total, max(seq) AS high FROM events GROUP BY producer, life`),
		plain("whole", `SELECT count(*) AS n, sum(amount) AS total, count(DISTINCT producer) AS producers, min(amount) AS low, max(amount) AS high FROM events`),
		plain("rich", `SELECT a.id, a.owner, a.balance, count(e.id) AS n, coalesce(sum(e.amount), 0) AS total
			FROM accounts AS a LEFT JOIN events AS e ON e.account = a.id GROUP BY a.id, a.owner, a.balance`),
		plain("top", `SELECT producer, sum(amount) AS total FROM events GROUP BY producer ORDER BY total DESC, producer LIMIT 5`),
		plain("pairs", `SELECT DISTINCT producer, account FROM events`),
		plain("best", `SELECT * FROM (SELECT account, producer, n, row_number() OVER (PARTITION BY account ORDER BY n DESC, producer) AS place
			FROM (SELECT account, producer, count(*) AS n FROM events GROUP BY account, producer) AS c) AS r WHERE place <= 2`),
		// A window is shown once it is behind the watermark: the newest event time less the lateness. Late rows are in laaster.late.
		plain("hours", `SELECT to_char(hour, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS hour, count(*) AS n, sum(amount) AS total
			FROM (SELECT date_bin('20 minutes', at, '2000-01-01 00:00+00') + interval '20 minutes' AS hour, amount FROM events
				WHERE NOT late) AS w
			WHERE hour <= (SELECT max(at) - interval '1 hour' FROM events) GROUP BY w.hour`),
		{Name: "recent"},
	}
}

// names returns what a subscriber follows: the tables and the views.
func names() []string {
	out := []string{"events", "accounts"}
	for _, v := range Views() {
		out = append(out, v.Name)
	}
	return out
}
