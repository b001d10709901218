package sql

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDocs: the SQL of the reference page is one app that compiles, without a warning.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/sql.md")
	if err != nil {
		t.Fatal(err)
	}
	var app strings.Builder
	for _, m := range regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllSubmatch(page, -1) {
		app.Write(m[1])
	}
	if p, diags := Compile("docs/sql.md", []byte(app.String()), nil); p == nil || len(diags) > 0 || len(p.Views) < 5 {
		t.Errorf("%s", Render(diags))
	}
}
