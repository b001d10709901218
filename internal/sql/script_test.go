package sql

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the expected output of the scripts in testdata")

// TestScripts runs testdata/*.txt. A script is a run of cases, each a command line, its input, a line "----", what is
// printed, and a blank line or the end. A line of "----" twice begins output that has blank lines, which then ends likewise.
// The commands:
//
//	compile   the program of the input as a tree, and warnings, or its diagnostics
//	define    compile, and keep the catalog as what the log holds
//	change    compile relative to what is kept, and compare; a change that is possible is kept
//	json      the diagnostics of the input as JSON
//	catalog   the catalog of the input, relative to what is kept
//
// Rewrite with: go test ./internal/sql -run Scripts -update
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) { runScript(t, f) })
	}
}

func runScript(t *testing.T, file string) {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	s := &script{}
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	for i := 0; i < len(lines); {
		if lines[i] == "" || strings.HasPrefix(lines[i], "#") {
			out.WriteString(lines[i] + "\n")
			i++
			continue
		}
		at, command := i+1, lines[i]
		i++
		from := i
		for i < len(lines) && lines[i] != "----" {
			i++
		}
		if i == len(lines) {
			t.Fatalf("%s:%d: no ---- after %s", file, at, command)
		}
		input := strings.Join(lines[from:i], "\n")
		var want string
		want, i = expected(lines, i+1)
		got := strings.TrimRight(s.run(t, command, input), "\n")
		if got != want && !*update {
			t.Errorf("%s:%d: %s\n%s\ngot:\n%s\nwant:\n%s", file, at, command, input, got, want)
		}
		out.WriteString(command + "\n" + input + "\n----\n")
		if strings.Contains(got, "\n\n") {
			out.WriteString("----\n" + got + "\n----\n----\n")
		} else if got != "" {
			out.WriteString(got + "\n")
		}
	}
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// expected reads the output that begins at line i.
func expected(lines []string, i int) (string, int) {
	from := i
	if i < len(lines) && lines[i] == "----" {
		from++
		for i = from; i+1 < len(lines) && (lines[i] != "----" || lines[i+1] != "----"); i++ {
		}
		return strings.Join(lines[from:i], "\n"), i + 2
	}
	for i < len(lines) && lines[i] != "" {
		i++
	}
	return strings.Join(lines[from:i], "\n"), i
}

// script is what a run remembers.
type script struct{ prev *Catalog }

func (s *script) run(t *testing.T, command, input string) string {
	switch command {
	case "compile", "define":
		p, diags := Compile("app.sql", []byte(input), nil)
		if p == nil {
			return Render(diags)
		}
		if command == "define" {
			s.prev = mustCatalog(t, p.Catalog)
		}
		return Render(diags) + Explain(p)
	case "change":
		return s.change(t, input)
	case "json":
		_, diags := Compile("app.sql", []byte(input), nil)
		return jsonLines(t, diags)
	case "catalog":
		p, diags := Compile("app.sql", []byte(input), s.prev)
		if p == nil {
			return Render(diags)
		}
		return indented(t, p.Catalog)
	}
	t.Fatalf("unknown command %q", command)
	return ""
}

func (s *script) change(t *testing.T, input string) string {
	p, diags := Compile("app.sql", []byte(input), s.prev)
	if p == nil {
		return Render(diags)
	}
	change, list := Compare(s.prev, p)
	var b strings.Builder
	fmt.Fprintln(&b, [...]string{Same: "same", Compatible: "compatible", Refused: "refused"}[change])
	for _, d := range list {
		mark := " "
		if d.Refused {
			mark = "!"
		}
		fmt.Fprintln(&b, mark, d)
	}
	if change != Refused {
		s.prev = mustCatalog(t, p.Catalog)
	}
	return b.String()
}
