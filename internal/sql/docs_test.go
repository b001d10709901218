package sql

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDocs: the SQL of a reference page is one app that compiles, without a warning.
func TestDocs(t *testing.T) {
	docsApp(t, "sql.md", 5)
	docsApp(t, "access.md", 0)
}

func docsApp(t *testing.T, name string, views int) {
	page, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var app strings.Builder
	for _, m := range regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllSubmatch(page, -1) {
		app.Write(m[1])
	}
	if p, diags := Compile("docs/"+name, []byte(app.String()), nil); p == nil || len(diags) > 0 || len(p.Views) < views {
		t.Errorf("%s", Render(diags))
	}
}
