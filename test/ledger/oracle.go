package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Compare has PostgreSQL compute each view of the app from the rows of its tables and compares that with what the server shows. The producers must
// be at rest. c's search path is an empty schema.
func (r *Rig) Compare(ctx context.Context, c *pgx.Conn) error {
	late, err := r.copyTables(ctx, c)
	if err != nil {
		return err
	}
	for _, v := range Views() {
		if v.Query == "" || v.Name == "hours" && late >= maxLate {
			continue
		}
		got, at, err := r.read(v.Name, "")
		if err != nil {
			return err
		}
		want, err := computed(ctx, c, v.Query)
		if err != nil {
			return fmt.Errorf("view %s in PostgreSQL: %w", v.Name, err)
		}
		if d := differ(got, want, "here", "in PostgreSQL"); d != "" {
			r.Book.Failf("view %s at %d: %s", v.Name, at.Seq, d)
		}
	}
	return nil
}

// maxLate is how many late rows the server shows, the newest: with more, nobody knows what a closed window left out.
const maxLate = 1000

// copyTables makes the tables in PostgreSQL, with a mark at events that came too late for a window, and returns how many of those are known.
func (r *Rig) copyTables(ctx context.Context, c *pgx.Conn) (int, error) {
	late := map[string]bool{}
	if _, err := r.lines("laaster.late", "", func(line []byte) error {
		var l struct{ Row struct{ ID string } }
		err := json.Unmarshal(line, &l)
		late[l.Row.ID] = true
		return err
	}); err != nil {
		return 0, err
	}
	if _, err := c.Exec(ctx, `CREATE TABLE events (id text, producer integer, seq bigint, life integer, account integer, amount bigint, at timestamptz, late boolean);
		CREATE TABLE accounts (id integer, owner integer, balance bigint, note text)`); err != nil {
		return 0, err
	}
	events, _, err := decoded[Event](r, "events", "?"+eventColumns)
	if err != nil {
		return 0, err
	}
	accounts, _, err := decoded[Account](r, "accounts", "")
	if err != nil {
		return 0, err
	}
	batch := &pgx.Batch{}
	ids := []string{}
	for id := range late {
		ids = append(ids, id)
	}
	for part := range slices.Chunk(events, 50_000) { // one jsonb has a limit of its own
		b, err := json.Marshal(part)
		if err != nil {
			return 0, err
		}
		batch.Queue(`INSERT INTO events SELECT id, producer, seq, life, account, amount, at, id = ANY ($2)
			FROM jsonb_to_recordset($1::jsonb) AS e (id text, producer integer, seq bigint, life integer, account integer, amount bigint, at timestamptz)`, string(b), ids)
	}
	b, err := json.Marshal(accounts)
	if err != nil {
		return 0, err
	}
	batch.Queue(`INSERT INTO accounts SELECT * FROM jsonb_to_recordset($1::jsonb) AS a (id integer, owner integer, balance bigint, note text)`, string(b))
	return len(late), c.SendBatch(ctx, batch).Close()
}

// computed returns the rows of a query of JSON, canonical.
func computed(ctx context.Context, c *pgx.Conn, query string) ([]string, error) {
	rows, err := c.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		var s string
		if err := row.Scan(&s); err != nil {
			return "", err
		}
		out, _, err := canonical([]byte(s))
		return out, err
	})
}
