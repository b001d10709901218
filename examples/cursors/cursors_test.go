// Package cursors holds an example: everybody's pointer on everybody's page, with channels and presence alone.
package cursors

import (
	"os"
	"slices"
	"strings"
	"testing"

	"laaster/app"
	"laaster/internal/sql"
)

// TestApp checks app.sql as `laaster check` does, and that the page speaks of what it declares.
func TestApp(t *testing.T) {
	src, err := os.ReadFile("app.sql")
	if err != nil {
		t.Fatal(err)
	}
	p, diags := sql.Compile("app.sql", src, nil)
	for _, d := range diags {
		t.Error(d.Render())
	}
	if p == nil {
		t.FailNow()
	}
	page, err := os.ReadFile("public/cursors.js")
	if err != nil {
		t.Fatal(err)
	}
	if len(page) > 2<<10 {
		t.Errorf("the script takes %d bytes: it is to be read in a minute", len(page))
	}
	for _, ch := range p.Definition.Channels {
		call := map[bool]string{true: "client.presence('", false: "client.channel('"}[ch.Ephemeral.Presence] + ch.Name + "'"
		if !strings.Contains(string(page), call) {
			t.Errorf("the page does not use %s", call)
		}
		if !slices.ContainsFunc(p.Definition.Grants, func(g app.Grant) bool {
			return g.Relation == ch.Name && g.Role == "anon" && g.Allow == app.Select|app.Insert
		}) {
			t.Errorf("anon cannot use %s", ch.Name)
		}
		for _, c := range ch.Columns[:ch.Ephemeral.Own] {
			if !strings.Contains(string(page), c.Name) {
				t.Errorf("the page does not give %s.%s", ch.Name, c.Name)
			}
		}
	}
}
