package nexmark_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/kit/testkit"
	"laaster/internal/sql"
	"laaster/test/nexmark"
)

// stream is one way in which the events come.
type stream struct {
	name string
	opt  nexmark.Options
}

func streams(events uint64) []stream {
	return []stream{
		{"in order", nexmark.Options{Seed: 1}},
		{"out of order, repeated, one input idle", nexmark.Options{Seed: 2, Disorder: 1000, Repeat: 17, Silent: func(n uint64, k nexmark.Kind) bool {
			return k == nexmark.Auction && n > events/3 && n < events/2 || k == nexmark.Person && n > events*3/4
		}}},
	}
}

// events is how many events each stream has: LAASTER_EVENTS, else 200,000, which the race detector is too slow for.
func events(t *testing.T) uint64 {
	if s := os.Getenv("LAASTER_EVENTS"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if testing.Short() || testkit.Race() {
		return 20_000
	}
	return 200_000
}

// TestQueries holds all 24 queries against PostgreSQL over the same events, halfway and at the end.
func TestQueries(t *testing.T) {
	total := events(t)
	pg := testkit.Postgres(t)
	for _, s := range streams(total) {
		t.Run(s.name, func(t *testing.T) {
			conn := pg.Schema(t)
			load := newLoader(t, conn, s.opt)
			runs := make([]*run, nexmark.Count)
			for q := range runs {
				runs[q] = newRun(t, q, s.opt)
			}
			for _, until := range []uint64{total / 2, total} {
				load.until(until)
				for q, r := range runs {
					if r == nil {
						continue
					}
					t.Run(fmt.Sprintf("q%d at %d", q, until), func(t *testing.T) {
						r.until(t, until)
						compare(t, r.lines(), oracle(t, conn, q))
					})
				}
			}
		})
	}
}

// run is one query in an engine of its own.
type run struct {
	prog *flow.Program
	e    *flow.Engine
	gen  *nexmark.Generator
	enc  *nexmark.Encoder
	rnd  *rand.Rand
	next uint64
	rel  *expr.Relation
	rows map[string]change.Row
}

func newRun(t *testing.T, q int, opt nexmark.Options) *run {
	t.Helper()
	prog, diags := sql.Compile("app.sql", []byte(nexmark.App(q)), nil)
	if prog == nil {
		for i := range diags {
			t.Errorf("q%d: %s", q, diags[i].Render())
		}
		return nil
	}
	e, err := flow.New(prog, flow.Options{})
	if err != nil {
		t.Errorf("q%d: %v", q, err)
		return nil
	}
	r := &run{prog: prog, e: e, gen: nexmark.New(opt), enc: nexmark.NewEncoder(prog), rnd: rand.New(rand.NewPCG(7, uint64(q))), rows: map[string]change.Row{}}
	r.rel = prog.Relations[prog.Views[0].Relation]
	r.apply(t, r.enc.Definition(prog))
	r.apply(t, r.enc.Side())
	return r
}

func (r *run) apply(t *testing.T, b change.Batch) {
	t.Helper()
	epoch, err := r.e.Apply(&b)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range epoch.Deltas {
		if d.Relation != r.rel.ID {
			continue
		}
		for _, c := range d.Changes {
			if !bytes.Equal(r.rows[string(c.Key)], c.Old) {
				t.Fatalf("a change of a row that is not what it was")
			}
			if c.New == nil {
				delete(r.rows, string(c.Key))
			} else {
				r.rows[string(c.Key)] = c.New
			}
		}
	}
}

// until applies the events up to number n in batches of random sizes.
func (r *run) until(t *testing.T, n uint64) {
	t.Helper()
	var ev nexmark.Event
	stamp := int64(0)
	for r.next < n {
		for range min(n-r.next, 1+uint64(r.rnd.Int64N(1500))) {
			if r.gen.Event(r.next, &ev) {
				stamp = max(stamp, ev.Time+1000)
				r.enc.Add(&ev, taken(r.next))
			}
			r.next++
		}
		r.apply(t, r.enc.Batch(stamp))
	}
}

// taken is the time at which the log takes event n, for the column of q12.
func taken(n uint64) int64 { return 1_751_500_000_000_000 + int64(n)*137 }

// lines returns the view's rows as COPY writes them, without _n.
func (r *run) lines() []string {
	cols := r.rel.Columns
	if r.rel.Copies {
		cols = cols[:len(cols)-1]
	}
	out := make([]string, 0, len(r.rows))
	var line []byte
	for _, row := range r.rows {
		line = line[:0]
		for i, c := range cols {
			if i > 0 {
				line = append(line, '\t')
			}
			if v := r.rel.Layout.Get(row, i); v.Null {
				line = append(line, `\N`...)
			} else {
				line = expr.AppendText(line, c.Type, v)
			}
		}
		out = append(out, string(line))
	}
	return out
}

// loader gives PostgreSQL the same events.
type loader struct {
	t    *testing.T
	conn *pgx.Conn
	gen  *nexmark.Generator
	next uint64
}

const oracleSchema = `
CREATE TABLE person (id bigint, name text, email_address text, credit_card text, city text, state text, date_time timestamp, extra text);
CREATE TABLE auction (id bigint, item_name text, description text, initial_bid bigint, reserve bigint, date_time timestamp, expires timestamp,
  seller bigint, category bigint, extra text);
CREATE TABLE bid_at (auction bigint, bidder bigint, price bigint, channel text, url text, date_time timestamp, extra text, ingest_time timestamptz);
CREATE VIEW bid AS SELECT auction, bidder, price, channel, url, date_time, extra FROM bid_at;
CREATE TABLE side_input (key bigint PRIMARY KEY, value text);
INSERT INTO side_input SELECT i, i::text FROM generate_series(0, 9999) i;
CREATE VIEW person_tumble AS SELECT *, date_bin('10 s', date_time, timestamp 'epoch') AS window_start,
  date_bin('10 s', date_time, timestamp 'epoch') + interval '10 s' AS window_end FROM person;
CREATE VIEW auction_tumble AS SELECT *, date_bin('10 s', date_time, timestamp 'epoch') AS window_start,
  date_bin('10 s', date_time, timestamp 'epoch') + interval '10 s' AS window_end FROM auction;
CREATE VIEW bid_tumble AS SELECT *, date_bin('10 s', date_time, timestamp 'epoch') AS window_start,
  date_bin('10 s', date_time, timestamp 'epoch') + interval '10 s' AS window_end FROM bid;
CREATE VIEW bid_tumble_at AS SELECT *, date_bin('10 s', ingest_time, timestamptz 'epoch') AS window_start,
  date_bin('10 s', ingest_time, timestamptz 'epoch') + interval '10 s' AS window_end FROM bid_at;
CREATE VIEW bid_hop AS SELECT b.*, w AS window_start, w + interval '10 s' AS window_end
  FROM bid b, LATERAL generate_series(date_bin('2 s', b.date_time, timestamp 'epoch') - interval '8 s',
    date_bin('2 s', b.date_time, timestamp 'epoch'), interval '2 s') w;
CREATE VIEW bid_session AS
  SELECT s.*, min(date_time) OVER g AS window_start, max(date_time) OVER g + interval '10 s' AS window_end
  FROM (SELECT m.*, sum(brk) OVER (PARTITION BY bidder ORDER BY date_time RANGE UNBOUNDED PRECEDING) AS grp
    FROM (SELECT b.*, CASE WHEN date_time - lag(date_time) OVER (PARTITION BY bidder ORDER BY date_time)
      < interval '10 s' THEN 0 ELSE 1 END AS brk FROM bid b) m) s
  WINDOW g AS (PARTITION BY bidder, grp);
`

func newLoader(t *testing.T, conn *pgx.Conn, opt nexmark.Options) *loader {
	t.Helper()
	if _, err := conn.Exec(t.Context(), oracleSchema, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	return &loader{t: t, conn: conn, gen: nexmark.New(opt)}
}

func (l *loader) until(n uint64) {
	l.t.Helper()
	var lines [3]bytes.Buffer
	var ev nexmark.Event
	at := func(us int64) string {
		return string(expr.AppendText(nil, expr.TypeNamed("timestamptz"), change.Int(us)))
	}
	for ; l.next < n; l.next++ {
		if !l.gen.Event(l.next, &ev) {
			continue
		}
		w, d, s := &lines[ev.Kind], ev.Numbers, ev.Texts
		switch ev.Kind {
		case nexmark.Person:
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d[0], s[0], s[1], s[2], s[3], s[4], at(ev.Time), s[5])
		case nexmark.Auction:
			fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%d\t%s\t%s\t%d\t%d\t%s\n", d[0], s[0], s[1], d[1], d[2], at(ev.Time), at(ev.Expires), d[3], d[4], s[2])
		case nexmark.Bid:
			fmt.Fprintf(w, "%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", d[0], d[1], d[2], s[0], s[1], at(ev.Time), s[2], at(taken(l.next)))
		}
	}
	for i, table := range []string{"person", "auction", "bid_at"} {
		if _, err := l.conn.PgConn().CopyFrom(l.t.Context(), &lines[i], "COPY "+table+" FROM STDIN"); err != nil {
			l.t.Fatal(err)
		}
	}
	if _, err := l.conn.Exec(l.t.Context(), "ANALYZE"); err != nil {
		l.t.Fatal(err)
	}
}

// oracleQuery is query q as PostgreSQL can run it: the windows are views, and rows that tie are told apart by their other columns as
// the engine does.
func oracleQuery(q int) string {
	text := nexmark.Query(q)
	for _, r := range [][2]string{
		{"hop(bid, date_time, interval '2 seconds', interval '10 seconds')", "bid_hop"},
		{"tumble(bid, date_time, interval '10 seconds')", "bid_tumble"},
		{"tumble(person, date_time, interval '10 seconds')", "person_tumble"},
		{"tumble(auction, date_time, interval '10 seconds')", "auction_tumble"},
		{"tumble(bid, ingest_time, interval '10 seconds')", "bid_tumble_at"},
		{"session(bid, date_time, interval '10 seconds', partition_by => bidder)", "bid_session"},
		{"as_of(side_input)", "side_input"},
	} {
		text = strings.ReplaceAll(text, r[0], r[1])
	}
	ties := map[int][][2]string{
		6:  {{"ORDER BY w.date_time", "ORDER BY w.date_time, w.price"}, {"ORDER BY b.price DESC", "ORDER BY b.price DESC, b.date_time"}},
		9:  {{"b.date_time ASC", "b.date_time ASC, a.item_name, a.description, a.initial_bid, a.reserve, a.date_time, a.expires, a.seller, a.category, a.extra, b.bidder, b.extra"}},
		18: {{"ORDER BY date_time DESC", "ORDER BY date_time DESC, price, channel, url, extra"}},
		19: {{"ORDER BY price DESC", "ORDER BY price DESC, bidder, channel, url, date_time, extra"}},
	}
	for _, r := range ties[q] {
		text = strings.ReplaceAll(text, r[0], r[1])
	}
	return text
}

func oracle(t *testing.T, conn *pgx.Conn, q int) []string {
	t.Helper()
	var out bytes.Buffer
	ctx := context.WithoutCancel(t.Context())
	if _, err := conn.PgConn().CopyTo(ctx, &out, "COPY ("+oracleQuery(q)+") TO STDOUT"); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
}

func compare(t *testing.T, got, want []string) {
	t.Helper()
	if len(want) == 1 && want[0] == "" {
		want = nil
	}
	slices.Sort(got)
	slices.Sort(want)
	if slices.Equal(got, want) {
		return
	}
	shown := 0
	for i, j := 0, 0; (i < len(got) || j < len(want)) && shown < 6; {
		switch {
		case j == len(want) || i < len(got) && got[i] < want[j]:
			t.Logf("only here:       %s", got[i])
			i, shown = i+1, shown+1
		case i == len(got) || want[j] < got[i]:
			t.Logf("only PostgreSQL: %s", want[j])
			j, shown = j+1, shown+1
		default:
			i, j = i+1, j+1
		}
	}
	t.Errorf("%d rows here, %d in PostgreSQL", len(got), len(want))
}
