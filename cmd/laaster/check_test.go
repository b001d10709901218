package main

import (
	"strings"
	"testing"
)

// TestCheckAgainst: what runs, or another version of the app, says whether this one may follow; files that app.sql names come along.
func TestCheckAgainst(t *testing.T) {
	files := map[string]string{"app.sql": contractSQL, "data.json": dataSchema, "meta.json": metaSchema, "anchors.json": anchorsSchema}
	old := appWith(t, files)
	n := serving(t, old)
	same := appWith(t, files)
	files["data.json"] = strings.Replace(dataSchema, `"maximum": 60`, `"maximum": 70`, 1)
	wider := appWith(t, files)
	files["data.json"] = strings.Replace(dataSchema, `"maximum": 60`, `"maximum": 50`, 1)
	tighter := appWith(t, files)
	files["data.json"] = "{"
	broken := appWith(t, files)
	admin := strings.TrimPrefix(n.AdminURL(), "http://")
	refused := []string{"refused: ", "! table readings, schema of data against version 1, /values/*: maximum 60 → maximum 50", "writers of readings: anon, device, owner sensors"}
	for _, c := range []call{
		{[]string{"check", same, "--against", admin}, 0, []string{"nothing changes"}, nil},
		{[]string{"check", same, "--against", n.AdminURL()}, 0, []string{"nothing changes"}, nil},
		{[]string{"check", wider, "--against", admin}, 0, []string{"the change fits", "schema of data: data.json → data.json with other contents"}, nil},
		{[]string{"check", tighter, "--against", admin}, 1, append(refused, "readers of readings: anon, device, 0 live now"), nil},
		{[]string{"check", tighter, "--against", old}, 1, refused, nil},
		{[]string{"check", tighter, "--against", old + "/app.sql", "--json"}, 1, []string{`"verdict": "refused"`, `"relation": "readings"`, `"breaks": [`}, nil},
		{[]string{"check", broken, "--against", old}, 1, []string{"data.json: this is not JSON", "app.sql:10:"}, nil},
		{[]string{"check", broken}, 1, []string{"data.json: this is not JSON"}, nil},
		{[]string{"check", same, "--against", broken}, 1, nil, []string{"app.sql cannot run", "data.json: this is not JSON"}},
		{[]string{"check", same, "--against", old, "--server", admin}, 2, nil, []string{"--against"}},
		{[]string{"check", same, "--against", "127.0.0.1:1"}, 1, nil, []string{"hint: is the server running there?"}},
		{[]string{"deploy", tighter, "--server", admin}, 1, refused, nil},
		{[]string{"deploy", wider, "--server", admin}, 0, []string{"in effect at "}, nil},
		{[]string{"check", same, "--against", admin}, 1, []string{"against version 2, /values/*: maximum 70 → maximum 60"}, nil},
	} {
		c.check(t)
	}
}
