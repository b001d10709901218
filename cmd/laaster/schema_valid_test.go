package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"laaster/internal/kit/testkit"
)

const contractSQL = typedSQL + `CREATE TABLE readings (id bigint PRIMARY KEY, data jsonb NOT NULL, meta jsonb) WITH (schema = 'data: data.json, meta: meta.json', owner = 'sensors', version = '3');
CREATE TABLE "odd name ü" (id bigint PRIMARY KEY, j jsonb) WITH (append_only, schema = 'anchors.json');
GRANT ALL ON readings TO device, anon;
GRANT INSERT ON "odd name ü" TO device;
GRANT SELECT ON names TO anon, device;
GRANT ALL ON typing TO anon;
`

const (
	dataSchema = `{"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://example.com/data", "type": "object", "required": ["kind", "values"], "additionalProperties": false,
  "properties": {"kind": {"enum": ["heat", "rain"]}, "values": {"type": "array", "items": {"$ref": "#/$defs/value"}}, "next": {"$ref": "#"}, "a-b": {"type": ["string", "null"]}},
  "$defs": {"value": {"type": "number", "minimum": -50, "maximum": 60}}}`
	metaSchema    = `{"anyOf": [{"type": "object", "additionalProperties": {"type": "integer"}}, {"const": "none"}]}`
	anchorsSchema = `{"$ref": "#a", "$defs": {"a": {"$anchor": "a", "type": "object"}}}`
)

func contractApp(t *testing.T) string {
	return appWith(t, map[string]string{"app.sql": contractSQL, "data.json": dataSchema, "meta.json": metaSchema, "anchors.json": anchorsSchema})
}

// TestSchemaValid: the validators of each format take what is exported, and what JSON Schema's says of rows is what the server does.
func TestSchemaValid(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		testkit.Missing(t, "node is not installed")
	}
	validators := filepath.Join("testdata", "validators")
	testkit.NodeModules(t, validators)
	small := appWith(t, map[string]string{"app.sql": goodSQL})
	var rows strings.Builder
	for _, c := range []struct {
		at, value string
		allowed   bool
	}{
		{"tables/properties/readings", `{"id": 1, "data": {"kind": "heat", "values": [1, 2.5]}}`, true},
		{"tables/properties/readings", `{"id": 1, "data": {"kind": "heat", "values": [61]}}`, false},
		{"tables/properties/readings", `{"id": 1, "data": {"kind": "heat", "values": [], "next": {"kind": "rain", "values": []}}}`, true},
		{"tables/properties/readings", `{"id": 1, "data": {"kind": "heat", "values": [], "next": {"kind": "snow", "values": []}}}`, false},
		{"tables/properties/readings", `{"id": 1, "data": {"kind": "heat", "values": []}, "meta": null}`, true},
		{"tables/properties/readings", `{"id": 1, "data": {"kind": "heat", "values": []}, "meta": {"a": 1}}`, true},
		{"tables/properties/readings", `{"id": 1, "data": {"kind": "heat", "values": []}, "meta": {"a": "x"}}`, false},
		{"tables/properties/readings", `{"id": 1, "data": null}`, false},
		{"views/properties/tally", `{"who's": "x", "points": 1, "price": null}`, true},
		{"views/properties/tally", `{"who's": "x", "points": "1", "price": null}`, false},
	} {
		line, err := json.Marshal([]any{"/properties/" + c.at, json.RawMessage(c.value), c.allowed})
		if err != nil {
			t.Fatal(err)
		}
		rows.Write(append(line, '\n'))
	}
	for _, c := range []struct{ dir, format, in string }{
		{contractApp(t), "json-schema", rows.String()}, {contractApp(t), "openapi", ""}, {contractApp(t), "asyncapi", ""},
		{small, "json-schema", ""}, {small, "openapi", ""}, {small, "asyncapi", ""},
	} {
		text := exported(t, c.dir, "--format", c.format)
		file := filepath.Join(t.TempDir(), "doc.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(node, filepath.Join(validators, "check.mjs"), c.format, file)
		cmd.Stdin = strings.NewReader(c.in)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s\n%s", c.format, err, out, text)
		}
	}
	// A validator that takes anything proves nothing.
	for format, bad := range map[string]string{"json-schema": `{"type": "strin"}`, "openapi": `{"openapi": "3.1.0", "info": {"title": "x"}}`, "asyncapi": `{"asyncapi": "3.0.0", "info": {"title": "x"}}`} {
		file := filepath.Join(t.TempDir(), "bad.json")
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(node, filepath.Join(validators, "check.mjs"), format, file)
		if out, err := cmd.CombinedOutput(); err == nil || len(out) == 0 || strings.Contains(string(out), "node:internal") {
			t.Errorf("%s takes %s: %v %s", format, bad, err, out)
		}
	}
}
