package flow_test

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/kit/testkit"
	"laaster/internal/sql"
)

// TestHistories compares every view with PostgreSQL's answer after every request of random histories over random apps. A
// failure names its seed; LAASTER_SEED=<n> runs that one alone and prints what it does;
// LAASTER_SEEDS=<n> searches through so many.
func TestHistories(t *testing.T) {
	pg := testkit.Postgres(t).Conn(t)
	cover := map[string]int{}
	if s := os.Getenv("LAASTER_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		(&history{t: t, pg: pg, seed: seed, cover: cover, loud: true}).run()
		return
	}
	seeds := uint64(200)
	if testing.Short() || testkit.Race() {
		seeds = 30
	}
	if s := os.Getenv("LAASTER_SEEDS"); s != "" { // a longer search
		seeds, _ = strconv.ParseUint(s, 10, 64)
	}
	for seed := range seeds {
		(&history{t: t, pg: pg, seed: seed, cover: cover}).run()
		if t.Failed() {
			return
		}
	}
	if testing.Short() || testkit.Race() {
		return
	}
	for _, what := range []string{"select", "distinct", "group", "having", "whole", "top", "offset", "insert", "merge", "ignore", "update", "delete",
		"atomic", "duplicate", "conflict", "constraint", "invalid_row"} {
		if cover[what] < 20 {
			t.Errorf("%s was met %d times: the generator does not reach it", what, cover[what])
		}
	}
}

type history struct {
	t       *testing.T
	pg      *pgx.Conn
	seed    uint64
	cover   map[string]int
	loud    bool
	app     *genApp
	prog    *flow.Program
	driver  *driver
	batches []stamped
}

// stamped is one batch as it was given to the engine.
type stamped struct {
	stamp   int64
	entries []change.Entry
}

func (h *history) fatalf(format string, args ...any) {
	h.t.Helper()
	h.t.Fatalf("seed %d (LAASTER_SEED=%d runs it alone): %s\n%s", h.seed, h.seed, fmt.Sprintf(format, args...), h.app.source())
}

func (h *history) run() {
	h.t.Helper()
	h.app = newApp(h.seed)
	prog, diags := sql.Compile("app.sql", []byte(h.app.source()), nil)
	if prog == nil {
		for _, d := range diags {
			h.t.Log(d.Render())
		}
		h.fatalf("the app does not compile")
	}
	h.prog = prog
	h.start()
	for _, v := range h.app.views {
		h.cover[v.form]++
	}
	for step := range 25 {
		o := h.app.op(h.t, h.prog)
		h.step(step, &o)
	}
	h.recut()
	h.rebuild()
}

func (h *history) start() {
	h.t.Helper()
	if h.loud {
		h.t.Log("\n" + h.app.source())
	}
	_, err := h.pg.Exec(h.t.Context(), fmt.Sprintf("DROP SCHEMA IF EXISTS history CASCADE; CREATE SCHEMA history; SET search_path = history, pg_catalog; %s", h.app.oracle()),
		pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		h.fatalf("PostgreSQL: %v", err)
	}
	h.driver = newDriver(h.t, h.prog, flow.Options{})
	h.driver.apply(change.Entry{Kind: change.EntryDefinition, Body: h.prog.Catalog})
	h.compare(-1)
}

// step gives one request to both sides, then compares the outcomes and every relation.
func (h *history) step(n int, o *genOp) {
	h.t.Helper()
	if h.loud {
		h.t.Logf("%d: %s", n, strings.Join(o.sql, ";\n   "))
	}
	stamp := int64(2_000_000 + n/3) // runs of three share a stamp, so that they can be one batch
	epoch := h.driver.applyAt(stamp, o.entry)
	h.batches = append(h.batches, stamped{stamp, []change.Entry{o.entry}})
	h.count(o, &epoch.Outcomes[0])
	h.outcome(n, o, &epoch.Outcomes[0])
	h.compare(n)
}

func (h *history) count(o *genOp, out *change.Outcome) {
	h.cover[map[change.Op]string{change.OpInsert: "insert", change.OpMerge: "merge", change.OpIgnore: "ignore",
		change.OpUpdate: "update", change.OpDelete: "delete"}[o.entry.Op]]++
	if o.entry.Atomic {
		h.cover["atomic"]++
	}
	if out.Duplicates > 0 {
		h.cover["duplicate"]++
	}
	for _, r := range out.Rejected {
		h.cover[r.Code]++
	}
}

// outcome runs the statements and compares how many rows took effect and how many were refused.
func (h *history) outcome(n int, o *genOp, out *change.Outcome) {
	h.t.Helper()
	var accepted, without, refused int
	for _, s := range o.sql {
		results, err := h.pg.PgConn().Exec(h.t.Context(), s).ReadAll()
		var pgErr *pgconn.PgError
		switch {
		case errors.As(err, &pgErr) && pgErr.Code[:2] == "23":
			refused++
		case err != nil:
			h.fatalf("step %d: PostgreSQL: %v\n%s", n, err, s)
		default:
			for _, r := range results {
				affected := int(r.CommandTag.RowsAffected())
				switch {
				case o.entry.Op == change.OpMerge: // the tag tells inserted rows only
					accepted++
				case o.entry.Op >= change.OpUpdate || affected > 0:
					accepted += affected
				default:
					without++
				}
			}
		}
	}
	if o.entry.Atomic {
		if (refused > 0) != (len(out.Rejected) > 0) {
			h.fatalf("step %d: atomic: PostgreSQL refused %v, the engine %+v\n%s", n, refused > 0, *out, strings.Join(o.sql, "\n"))
		}
		refused = len(out.Rejected)
	}
	if accepted != int(out.Accepted) || without != int(out.Duplicates) || refused != len(out.Rejected) {
		h.fatalf("step %d: PostgreSQL accepted %d, had %d without effect, refused %d; the engine's outcome is %+v\n%s",
			n, accepted, without, refused, *out, strings.Join(o.sql, "\n"))
	}
}

// compare holds every view and every readable table against PostgreSQL's rows.
func (h *history) compare(n int) {
	h.t.Helper()
	var names []string
	for _, t := range h.app.tables {
		if t.readable {
			names = append(names, t.name)
		}
	}
	for _, v := range h.app.views {
		names = append(names, v.name)
	}
	query := strings.Builder{}
	for _, name := range names {
		query.WriteString("SELECT * FROM " + name + ";")
	}
	results, err := h.pg.PgConn().Exec(h.t.Context(), query.String()).ReadAll()
	if err != nil {
		h.fatalf("step %d: PostgreSQL: %v", n, err)
	}
	for i, name := range names {
		rel := relationNamed(h.t, h.prog, name)
		want, got := h.wanted(rel, results[i].Rows), h.got(rel)
		if !slices.Equal(want, got) {
			h.fatalf("step %d: %s is\n  %s\nwhere PostgreSQL has\n  %s", n, name, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
	}
}

func (h *history) wanted(rel *expr.Relation, rows [][][]byte) []string {
	out := make([]string, len(rows))
	for i, r := range rows {
		cells := make([]string, len(r))
		for j, c := range r {
			if cells[j] = "NULL"; c != nil {
				cells[j] = h.normal(rel.Columns[j].Type, string(c))
			}
		}
		out[i] = strings.Join(cells, "|")
	}
	slices.Sort(out)
	return out
}

func (h *history) got(rel *expr.Relation) []string {
	out := []string{}
	for _, row := range h.driver.rows[rel.ID] {
		var cells []string
		for j, t := range typesOf(rel) {
			s := showValue(t, rel.Layout.Get(row, j))
			if s != "NULL" {
				s = h.normal(t, s)
			}
			cells = append(cells, s)
		}
		out = append(out, strings.Join(cells, "|"))
	}
	slices.Sort(out)
	return out
}

// normal removes what may differ: the last digits of floats, and how equal numbers are written where PostgreSQL's choice
// depends on the order of its rows.
func (h *history) normal(t app.Type, s string) string {
	switch t {
	case app.Bool:
		return map[string]string{"t": "true", "f": "false"}[s] + strings.TrimLeft(s, "tf")
	case app.Float8:
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			h.fatalf("float %q", s)
		}
		return strconv.FormatFloat(f+0, 'g', 9, 64)
	case app.Numeric:
		if x, _, err := big.ParseFloat(s, 10, 200, big.ToNearestEven); err == nil && !h.app.scale {
			s = x.Text('g', 15) // an average has as many digits as the values' forms ask for
		}
	case app.JSONB:
		if !h.app.scale {
			s = strings.ReplaceAll(strings.ReplaceAll(s, "1.00", "1"), "1.0", "1")
		}
	}
	return s
}

// recut gives the same requests to engines in other batches with the same stamps: the state must be the same.
func (h *history) recut() {
	h.t.Helper()
	want := h.driver.e.Fingerprint()
	rnd := rand.New(rand.NewPCG(h.seed, 99))
	procs := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(procs)
	for i := range 2 {
		runtime.GOMAXPROCS(1 + 3*i)
		d := newDriver(h.t, h.prog, flow.Options{})
		d.apply(change.Entry{Kind: change.EntryDefinition, Body: h.prog.Catalog})
		var open stamped
		flush := func() {
			if len(open.entries) > 0 {
				d.applyAt(open.stamp, open.entries...)
			}
			open = stamped{}
		}
		for _, b := range h.batches {
			if open.stamp != b.stamp || rnd.IntN(3) == 0 {
				flush()
			}
			open.stamp = b.stamp
			open.entries = append(open.entries, b.entries...)
		}
		flush()
		if got := d.e.Fingerprint(); got != want {
			h.fatalf("other batches end in another state")
		}
		for i := range h.prog.Relations {
			if d.table(i) != h.driver.table(i) {
				h.fatalf("other batches end in other rows of %s", h.prog.Relations[i].Name)
			}
		}
	}
}

// rebuild inserts the rows that are there at the end, in another order, into a new engine: a view's rows, to the byte, are a
// function of what it reads, not of what was there before.
func (h *history) rebuild() {
	h.t.Helper()
	rnd := rand.New(rand.NewPCG(h.seed, 55))
	d := newDriver(h.t, h.prog, flow.Options{})
	d.apply(change.Entry{Kind: change.EntryDefinition, Body: h.prog.Catalog})
	for _, tab := range h.app.tables {
		rel := relationNamed(h.t, h.prog, tab.name)
		results, err := h.pg.PgConn().Exec(context.Background(), "SELECT * FROM "+tab.name).ReadAll()
		if err != nil {
			h.fatalf("PostgreSQL: %v", err)
		}
		rows := results[0].Rows
		rnd.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		for _, r := range rows {
			vals := make([]change.Value, len(r))
			for i, c := range r {
				if vals[i] = change.Null(); c != nil {
					if vals[i], _, err = expr.ParseText(tab.cols[i].typ, c, nil); err != nil {
						h.fatalf("%v", err)
					}
				}
			}
			en := records(rel.Table.Catalog, change.OpInsert, change.Record{Row: rel.Table.Layout.Append(nil, vals)})
			en.Version = rel.Table.Version
			d.apply(en)
		}
	}
	for i, rel := range h.prog.Relations {
		got, want := d.table(i), h.driver.table(i)
		switch {
		case rel.Numbered: // by arrival
			got, want = unnumbered(got), unnumbered(want)
		case i == h.prog.Errors: // with the batch that brought the row
			continue
		}
		if rel.Table == nil && got != want {
			h.fatalf("%s built anew is\n%swhere it was\n%s", rel.Name, got, want)
		}
	}
}

// unnumbered drops the last cell of every line and puts the lines in order.
func unnumbered(lines string) string {
	var b strings.Builder
	for line := range strings.Lines(lines) {
		b.WriteString(line[:strings.LastIndexByte(line, '|')] + "\n")
	}
	return sorted(b.String())
}
