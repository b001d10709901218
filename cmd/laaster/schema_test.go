package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"laaster/internal/kit/testkit"
)

const typedSQL = `CREATE TABLE votes (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "who's" text NOT NULL, points integer NOT NULL, big bigint, price numeric NOT NULL,
  tags text[], data jsonb, at timestamptz NOT NULL DEFAULT now(), day date, ok boolean NOT NULL, x double precision) WITH (append_only);
CREATE TABLE hidden (id bigint PRIMARY KEY);
CREATE MATERIALIZED VIEW tally AS SELECT "who's", sum(points) AS points, sum(price) AS price FROM votes GROUP BY "who's";
CREATE MATERIALIZED VIEW names AS SELECT "who's" FROM votes WHERE ok;
CREATE TABLE typing (room text, who text DEFAULT auth_subject(), line integer, PRIMARY KEY (room, who)) WITH (channel, ttl = '5 seconds');
CREATE TABLE here (page text, name text NOT NULL) WITH (presence);
GRANT INSERT, SELECT ON votes TO anon;
GRANT SELECT ON tally TO anon;
`

const typedTS = `
export interface Schema {
  /** What can be read and subscribed to: views, and tables that somebody may read. */
  views: {
    votes: {
      id: string
      "who's": string
      points: number
      big: number | null
      price: number
      tags: (string | null)[] | null
      data: unknown | null
      at: string
      day: string | null
      ok: boolean
      x: number | null
    }
    tally: {
      "who's": string
      points: number | null
      price: number | null
    }
    names: {
      "who's": string
      _n: number
    }
  }
  /** What can be written: columns with a default or NULL may be left out. */
  tables: {
    votes: {
      id?: string
      "who's": string
      points: number
      big?: number | null
      price: number
      tags?: (string | null)[] | null
      data?: unknown | null
      at?: string
      day?: string | null
      ok: boolean
      x?: number | null
    }
    hidden: {
      id: number
    }
  }
  /** Rows in memory alone: presence and signals. */
  channels: {
    typing: {
      room: string
      who: string
      line: number | null
    }
    here: {
      page: string | null
      name: string
      connection: string
      subject: string
      since: string
    }
  }
}
`

// TestSchemaExport: the types of every kind of column, the same text each time.
func TestSchemaExport(t *testing.T) {
	dir := appWith(t, map[string]string{"app.sql": typedSQL})
	bad := appWith(t, map[string]string{"app.sql": "CREATE TABLE t (id strange);\n"})
	text := exported(t, dir)
	for range 3 {
		if again := exported(t, dir); again != text {
			t.Fatalf("not the same text again:\n%s", again)
		}
	}
	if !strings.HasSuffix(text, typedTS) || !strings.HasPrefix(text, "// ") {
		t.Errorf("%s\nis not\n%s", text, typedTS)
	}
	exact := exported(t, dir, "--exact")
	for _, line := range []string{"big: number | string | null\n", "price: string\n", "price: string | null\n", "points: number\n", "_n: number | string\n"} {
		if !strings.Contains(exact, line) {
			t.Errorf("with --exact there is no %q:\n%s", line, exact)
		}
	}
	for _, c := range []call{
		{[]string{"schema", "export", "--help"}, 0, []string{"Examples", "--format"}, nil},
		{[]string{"schema"}, 2, nil, []string{"export"}},
		{[]string{"schema", "export", bad}, 1, nil, []string{"app.sql:1:20: error"}},
		{[]string{"schema", "export", filepath.Join(dir, "nope")}, 1, nil, []string{"there is no such folder", "hint"}},
		{[]string{"schema", "export", dir, "--format", "xml"}, 2, nil, []string{"typescript", "json-schema"}},
	} {
		c.check(t)
	}
	var s struct {
		Properties map[string]struct {
			Properties map[string]struct {
				Required   []string
				Properties map[string]struct {
					Type any
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(exported(t, dir, "--format", "json-schema")), &s); err != nil {
		t.Fatal(err)
	}
	votes := s.Properties["tables"].Properties["votes"]
	if got := strings.Join(votes.Required, " "); got != "ok points price who's" || votes.Properties["points"].Type != "integer" || len(s.Properties["channels"].Properties) != 2 {
		t.Errorf("required %s, %+v", got, s)
	}
}

func exported(t *testing.T, dir string, flags ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := Main(append([]string{"schema", "export", dir}, flags...), &out, &errs); code != exitDone || errs.Len() > 0 {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	return out.String()
}

// TestSchemaCompiles: TypeScript's own compiler takes it, with and without what the app does not have, and the SDK knows its rows by it.
func TestSchemaCompiles(t *testing.T) {
	sdk, err := filepath.Abs(filepath.Join("..", "..", "sdk", "js"))
	if err != nil {
		t.Fatal(err)
	}
	tsc := filepath.Join(sdk, "node_modules", "typescript", "bin", "tsc")
	node, err := exec.LookPath("node")
	if err != nil {
		testkit.Missing(t, "node is not installed")
	}
	testkit.NodeModules(t, sdk)
	dir := t.TempDir()
	app := appWith(t, map[string]string{"app.sql": typedSQL})
	small := appWith(t, map[string]string{"app.sql": goodSQL})
	for name, text := range map[string]string{
		"schema.ts": exported(t, app), "exact.ts": exported(t, app, "--exact"), "small.ts": exported(t, small), "contract.ts": exported(t, contractApp(t)),
		"use.ts": `import type { Schema } from './schema'
import type { Schema as Small } from './small'
import type { Schema as Contract } from './contract'
const row: Schema['views']['tally'] = { "who's": 'x', points: 1, price: null }
const write: Schema['tables']['votes'] = { "who's": 'x', points: 1, price: 2, ok: true }
// @ts-expect-error points is a number
const bad: Schema['tables']['votes'] = { "who's": 'x', points: '1', price: 2, ok: true }
// @ts-expect-error who's is needed
const less: Schema['tables']['votes'] = { points: 1, price: 2, ok: true }
const none: Small['channels'] = {}
type Reading = Contract['tables']['readings']
const heat: Reading = { id: 1, data: { kind: 'heat', values: [1, 2.5], 'a-b': null } }
const meta: Reading = { id: 1, data: { kind: 'rain', values: [] }, meta: { a: 1 } }
// @ts-expect-error there is no snow
const snow: Reading = { id: 1, data: { kind: 'snow', values: [] } }
// @ts-expect-error values are numbers
const words: Reading = { id: 1, data: { kind: 'heat', values: ['a'] } }
// @ts-expect-error no other members
const more: Reading = { id: 1, data: { kind: 'heat', values: [], b: 1 } }
// @ts-expect-error meta is none or whole numbers
const other: Reading = { id: 1, data: { kind: 'heat', values: [] }, meta: 'some' }
export { row, write, bad, less, none, heat, meta, snow, words, more, other }
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(node, tsc, "--noEmit", "--strict", "--target", "es2022", "--moduleResolution", "bundler", "--module", "esnext",
		"use.ts", "schema.ts", "exact.ts", "small.ts", "contract.ts")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
