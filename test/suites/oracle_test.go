package suites

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"laaster/internal/change"
	"laaster/internal/kit/testkit"
)

// oracle is PostgreSQL. now() is the time of the batch there too.
type oracle struct {
	conn *pgx.Conn
}

// answer is what PostgreSQL says to a query.
type answer struct {
	lines  []string
	types  []uint32
	failed string // its message, when it fails
}

func newOracle(t *testing.T) *oracle {
	o := &oracle{conn: testkit.Postgres(t).Conn(t)}
	if err := o.exec("SET jit = off; SET intervalstyle = postgres;"); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *oracle) exec(sql string) error {
	_, err := o.conn.Exec(context.Background(), sql, pgx.QueryExecModeSimpleProtocol)
	return err
}

var tableOptions = regexp.MustCompile(`(?i)\)\s*WITH\s*\([^;]*\);`)

// begin makes the tables of a feature, in a schema of its own.
func (o *oracle) begin(tables string) error {
	return o.exec(`DROP SCHEMA IF EXISTS suites CASCADE; CREATE SCHEMA suites; SET search_path = suites, pg_catalog;
CREATE TABLE clock (at timestamptz); INSERT INTO clock VALUES ('epoch');
CREATE FUNCTION now() RETURNS timestamptz STABLE LANGUAGE sql AS 'SELECT at FROM suites.clock';
` + tableOptions.ReplaceAllString(tables+single, ");") + "INSERT INTO single VALUES (1);")
}

// view makes a view, so that others can read it, and returns PostgreSQL's message when it refuses that.
func (o *oracle) view(name, query string) string {
	return message(o.exec(fmt.Sprintf("CREATE VIEW %s AS %s", name, query)))
}

func message(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Message
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func (o *oracle) write(b *batch) error {
	sql := fmt.Sprintf("UPDATE clock SET at = '%s+00'", time.UnixMicro(b.stamp).UTC().Format("2006-01-02 15:04:05.000000"))
	for _, s := range b.list {
		sql += ";\n" + s.sql
	}
	return o.exec(sql)
}

func (o *oracle) ask(query string) answer {
	rows, err := o.conn.Query(context.Background(), query, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return answer{failed: message(err)}
	}
	defer rows.Close()
	var a answer
	for _, f := range rows.FieldDescriptions() {
		a.types = append(a.types, f.DataTypeOID)
	}
	for rows.Next() {
		var cells []string
		for _, v := range rows.RawValues() {
			if v == nil {
				cells = append(cells, "NULL")
			} else {
				cells = append(cells, shown(string(v)))
			}
		}
		a.lines = append(a.lines, strings.Join(cells, " | "))
	}
	if rows.Err() != nil {
		return answer{failed: message(rows.Err())}
	}
	sortLines(a.lines)
	return a
}

// typeNames are PostgreSQL's types by their object ids, in our words.
func typeNames() map[uint32]string {
	return map[uint32]string{16: "boolean", 20: "bigint", 23: "integer", 25: "text", 701: "double precision", 1082: "date", 1114: "timestamp",
		1184: "timestamptz", 1186: "interval", 1700: "numeric", 2950: "uuid", 3802: "jsonb", 1000: "boolean[]", 1007: "integer[]", 1009: "text[]",
		1016: "bigint[]", 1022: "double precision[]", 1115: "timestamp[]", 1182: "date[]", 1185: "timestamptz[]", 1231: "numeric[]", 3807: "jsonb[]",
		114: "json", 1043: "text", 19: "text", 705: "text"}
}

// sameTypes returns what differs in the types of a result.
func sameTypes(v *view, types []uint32) string {
	for i, oid := range types {
		here, there := v.rel.Columns[i].Type.String(), typeNames()[oid]
		if there != "" && here != there {
			return fmt.Sprintf("column %s is %s here, %s in PostgreSQL", v.rel.Columns[i].Name, here, there)
		}
	}
	return ""
}

// player writes to both sides.
type player struct {
	main, cut *engine // cut has a batch for every record
	pg        *oracle // nil: not on this machine
	stamp     int64
}

func (p *player) play(a *app, input string) error {
	batches, err := parseRows(a, input, p.stamp)
	if err != nil {
		return err
	}
	for i := range batches {
		b := &batches[i]
		var all []change.Entry
		for _, s := range b.list {
			all = append(all, s.entries()...)
			for _, e := range s.each() {
				if err := p.cut.apply(b.stamp, e); err != nil {
					return fmt.Errorf("record by record: %w", err)
				}
			}
		}
		if len(b.list) == 0 {
			if err := p.cut.apply(b.stamp); err != nil {
				return err
			}
		}
		if err := p.main.apply(b.stamp, all...); err != nil {
			return err
		}
		if p.pg != nil {
			if err := p.pg.write(b); err != nil {
				return fmt.Errorf("PostgreSQL: %w", err)
			}
		}
		p.stamp = b.stamp
	}
	return nil
}
