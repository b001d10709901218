package sql

import (
	"errors"
	"os"
	"strings"
	"testing"

	"laaster/internal/flow"
)

// texts are files that an app.sql may name.
type texts map[string]string

func (f texts) read(name string) ([]byte, error) {
	if text, ok := f[name]; ok {
		return []byte(text), nil
	}
	return nil, errors.New("there is no such file")
}

const (
	looseSchema = `{"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": false}`
	widerSchema = `{"type": "object", "properties": {"n": {"type": "number"}, "m": {"type": "string"}}, "additionalProperties": false}`
	tightSchema = `{"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}, "required": ["n"], "additionalProperties": false}`
)

func readings(option string) string {
	return `CREATE TABLE readings (id bigint PRIMARY KEY, data jsonb NOT NULL, meta jsonb DEFAULT '{"n": 1}') WITH (append_only` + option + `);
GRANT INSERT ON readings TO anon;`
}

func TestSchemaOption(t *testing.T) {
	files := texts{"a.json": looseSchema, "s/b.json": tightSchema, "bad.json": `{"type": "strin"}`, "big.json": `{"minimum": 3}`}
	for _, c := range []struct{ src, want string }{
		{readings(`, schema = 'data: a.json'`), ""},
		{readings(`, schema = 'meta: s/b.json, data: a.json', compatibility = 'full', owner = 'team', version = '2'`), ""},
		{readings(`, schema = 'a.json'`), "table \"readings\" has several columns of type jsonb: name the one that the schema is for"},
		{readings(`, schema = 'data: a.json, data: a.json'`), "two schemas"},
		{readings(`, schema = 'dat: a.json'`), `column "dat" does not exist`},
		{readings(`, schema = 'id: a.json'`), `a schema is for jsonb, and column "id" is bigint`},
		{readings(`, schema = 'data: none.json'`), `the schema "none.json" cannot be read: there is no such file`},
		{readings(`, schema = 'data: bad.json'`), "bad.json: at /type: value must be one of"},
		{readings(`, schema = 'meta: a.json, data: big.json'`), ""},
		{readings(`, schema = 'data: ../a.json'`), "inside of the app folder"},
		{readings(`, schema = 'data: /etc/x.json'`), "inside of the app folder"},
		{readings(`, schema = 'data: a.txt'`), "ends in .json"},
		{readings(`, schema = ''`), "name the one that the schema is for"},
		{readings(`, schema = 'data:'`), "ends in .json"},
		{readings(`, schema`), "the option schema needs a value"},
		{readings(`, compatibility = 'sideways'`), "compatibility must be"},
		{`CREATE TABLE t (id bigint PRIMARY KEY, data jsonb DEFAULT '{}') WITH (schema = 's/b.json');`, `the schema does not allow the default of column "data": missing property 'n'`},
		{`CREATE TABLE t (id bigint PRIMARY KEY, data jsonb) WITH (channel, schema = 'a.json');`, "schema is for tables whose rows are in the log"},
		{`CREATE TABLE t (id bigint PRIMARY KEY) WITH (schema = 'a.json');`, "has no such column"},
		{`CREATE TABLE t (id bigint PRIMARY KEY); CREATE MATERIALIZED VIEW v WITH (compatibility = 'full') AS SELECT id FROM t;`, "must be 'backward' or 'none'"},
	} {
		p, found := CompileFiles("app.sql", []byte(c.src), nil, files.read)
		switch {
		case c.want == "" && p == nil:
			t.Errorf("%s\n%s", c.src, jsonLines(t, found))
		case c.want != "" && (len(found) == 0 || !strings.Contains(found[0].Msg, c.want)):
			t.Errorf("%s\n%s\nhas no %s", c.src, jsonLines(t, found), c.want)
		}
	}
	if got := strings.Join(Schemas([]byte(readings(`, schema = 'meta: s/b.json, data: a.json'`)+`CREATE TABLE x (j jsonb) WITH (schema = 'a.json');`)), " "); got != "s/b.json a.json" {
		t.Error(got)
	}
}

// history deploys one definition after the other, as far as they are compatible.
type history struct {
	t    *testing.T
	prev *Catalog
	last *flow.Program
}

func (h *history) deploy(src string, files texts, held func(string, uint32) bool) (Change, string) {
	h.t.Helper()
	p, found := CompileFiles("app.sql", []byte(src), h.prev, files.read)
	if p == nil {
		h.t.Fatal(jsonLines(h.t, found))
	}
	change, list := Same, []Difference(nil)
	if h.prev != nil {
		if held == nil {
			held = func(string, uint32) bool { return true }
		}
		change, list = CompareHeld(h.prev, p, held)
	}
	var lines []string
	for _, d := range list {
		if d.Refused && d.Relation == "" {
			h.t.Errorf("%s is about no relation", d)
		}
		d.Remedy = ""
		lines = append(lines, d.String())
	}
	if change != Refused {
		h.prev, h.last = mustCatalog(h.t, p.Catalog), p
	}
	return change, strings.Join(lines, "; ")
}

// TestContracts: a schema may allow more, not less, and less than any version whose rows the log still has; the definition alone can be compiled again.
func TestContracts(t *testing.T) {
	h := &history{t: t}
	src := readings(`, schema = 'data: a.json'`)
	expect := func(src string, files texts, held func(string, uint32) bool, want Change, text string) {
		t.Helper()
		if got, lines := h.deploy(src, files, held); got != want || lines != text {
			t.Errorf("%d, %s\nnot %d, %s", got, lines, want, text)
		}
		if p, found := Compile("app.sql", []byte(h.prev.Source), h.prev); p == nil || string(p.Catalog) != string(h.prev.JSON()) {
			t.Errorf("the definition does not compile to itself: %s\n%s\n%s", jsonLines(t, found), p.Catalog, h.prev.JSON())
		}
	}
	expect(src, texts{"a.json": looseSchema}, nil, Same, "")
	expect(src, texts{"a.json": "\n" + looseSchema + "\n"}, nil, Same, "")
	expect(src, texts{"a.json": tightSchema}, nil, Refused, "table readings, schema of data: a.json → a.json with other contents; "+
		"table readings, schema of data against version 1, /n: minimum 0; table readings, schema of data against version 1, /n: optional → required")
	expect(src, texts{"a.json": widerSchema}, nil, Compatible, "table readings, schema of data: a.json → a.json with other contents")
	expect(src, texts{"a.json": looseSchema}, nil, Refused, `table readings, schema of data: a.json → a.json with other contents; `+
		`table readings, schema of data against version 2, /m: allowed → not allowed; table readings, schema of data against version 2, /n: type number → type "integer"`)
	expect(strings.Replace(src, "a.json", "b.json", 1), texts{"b.json": widerSchema}, nil, Compatible, "table readings, option schema: data: a.json → data: b.json")
	src = strings.Replace(src, "a.json", "b.json", 1)
	expect(strings.Replace(src, "append_only", "append_only, compatibility = 'none'", 1), texts{"b.json": tightSchema}, nil, Compatible,
		"table readings, schema of data: b.json → b.json with other contents; table readings, option compatibility: none → none")
	// It is compared with every version again, and with those alone that the log has.
	expect(src, texts{"b.json": tightSchema + " "}, func(_ string, v uint32) bool { return v != 1 }, Refused,
		`table readings, schema of data against version 2, /m: allowed → not allowed; `+
			`table readings, schema of data against version 2, /n: minimum 0; table readings, schema of data against version 2, /n: optional → required; `+
			`table readings, schema of data against version 2, /n: type number → type "integer"; table readings, option compatibility: none → none`)
	expect(src, texts{"b.json": tightSchema}, func(_ string, v uint32) bool { return v > 2 }, Compatible, "table readings, option compatibility: none → none")
	if c := h.prev.Tables[0].Contracts; len(c) != 3 || c[0].Since != 1 || c[1].Since != 2 || c[2].Since != 3 || len(h.prev.Tables[0].Versions) != 3 {
		t.Errorf("%+v", c)
	}
}

// TestContractsPage: the app of the page compiles.
func TestContractsPage(t *testing.T) {
	text, err := os.ReadFile("../../docs/contracts.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "```sql\n")
	if len(blocks) < 2 {
		t.Fatal("the page has no SQL")
	}
	for _, b := range blocks[1:] {
		src, _, _ := strings.Cut(b, "```")
		if p, found := CompileFiles("app.sql", []byte(src), nil, func(string) ([]byte, error) { return []byte(looseSchema), nil }); p == nil || len(found) > 0 {
			t.Errorf("%s\n%s", src, Render(found))
		}
	}
}
