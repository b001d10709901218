package sql

import (
	"bytes"
	"encoding/json"
	"testing"
)

func mustCatalog(t testing.TB, b []byte) *Catalog {
	t.Helper()
	c, err := ParseCatalog(b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func jsonLines(t testing.TB, list []Diagnostic) string {
	var b bytes.Buffer
	for _, d := range list {
		line, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(line, '\n'))
	}
	return b.String()
}

func indented(t testing.TB, doc []byte) string {
	var b bytes.Buffer
	if err := json.Indent(&b, doc, "", "  "); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
