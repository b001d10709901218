package sql

import (
	"strings"
	"testing"
)

// TestDefinitionFitsTheLog: an app whose definition would not fit one entry of the log is refused by check, not at its start.
func TestDefinitionFitsTheLog(t *testing.T) {
	table := "CREATE TABLE t (a bigint);\n"
	if p, found := Compile("app.sql", []byte(table+"-- "+strings.Repeat("x", 900<<10)), nil); p == nil {
		t.Errorf("900 KiB fit: %v", Render(found))
	}
	// Each of these bytes takes two in the document.
	p, found := Compile("app.sql", []byte(table+"-- "+strings.Repeat("\"", 600<<10)), nil)
	if p != nil || !Errors(found) || !strings.Contains(Render(found), "one entry holds") {
		t.Errorf("got %.300s", Render(found))
	}
}
