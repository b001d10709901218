package suites

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the expected output of the scripts, with PostgreSQL's answers, and docs/sql-support.md")

// script is one file of testdata.
type script struct {
	file     string
	area     string
	features []*feature
}

// feature is a part of a script with tables of its own: a row of the page that is made from the scripts.
type feature struct {
	name   string
	note   string
	tables string // CREATE TABLE statements
	blocks []*block
}

// block is one block of a script.
type block struct {
	line  int
	kind  string // area, feature, note, tables, rows, view, expressions or a comment
	head  string // the rest of its first line
	input string

	differs string // why PostgreSQL gives something else
	only    string // why PostgreSQL is not asked
	theirs  string // the query as PostgreSQL reads it; "": the same

	want      []string // expected output
	wantTheir []string // with differs: PostgreSQL's
	checks    int      // in expressions: how many
}

// name returns a view's name and its WITH options.
func (b *block) name() (name, options string) {
	name, options, _ = strings.Cut(b.head, " ")
	return name, options
}

func readScripts(t testing.TB) []*script {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	var out []*script
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		s, err := parseScript(f, string(text))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

// automatic is a name by place, which changes when a view is put in front.
var automatic = regexp.MustCompile(`^v\d+$`)

// parseScript reads a script; testdata/README.md describes it.
func parseScript(file, text string) (*script, error) {
	s := &script{file: file}
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	views := 0
	for i := 0; i < len(lines); {
		if lines[i] == "" {
			i++
			continue
		}
		from := i
		for i < len(lines) && lines[i] != "" {
			i++
		}
		b, err := parseBlock(lines[from:i], from+1)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, from+1, err)
		}
		switch {
		case b.kind == "area":
			s.area = b.head
		case b.kind == "feature":
			s.features = append(s.features, &feature{name: b.head, note: b.input})
			views = 0
		case len(s.features) == 0:
			if b.kind != "#" {
				return nil, fmt.Errorf("%s:%d: a block before the first feature", file, from+1)
			}
			s.features = append(s.features, &feature{blocks: []*block{b}})
			continue
		case b.kind == "tables":
			s.last().tables += b.input + "\n"
		case b.kind == "view":
			views++
			if b.head == "" || automatic.MatchString(b.head) {
				b.head = fmt.Sprintf("v%d", views)
			}
		}
		if len(s.features) > 0 {
			s.last().blocks = append(s.last().blocks, b)
		}
	}
	return s, nil
}

func (s *script) last() *feature { return s.features[len(s.features)-1] }

func parseBlock(lines []string, at int) (*block, error) {
	b := &block{line: at}
	b.kind, b.head, _ = strings.Cut(lines[0], " ")
	switch b.kind {
	case "#":
		b.input = strings.Join(lines, "\n")
		return b, nil
	case "area", "feature", "tables", "rows", "view", "expressions":
	default:
		return nil, fmt.Errorf("unknown block %q", b.kind)
	}
	var part *[]string
	var input, theirs []string
	part = &input
	for _, line := range lines[1:] {
		switch {
		case line == "----" && part != &b.want:
			part = &b.want
		case line == "---- PostgreSQL":
			part = &b.wantTheir
		case line == "-- PostgreSQL" && part == &input:
			part = &theirs
		case part == &input && len(input) == 0 && strings.HasPrefix(line, "differs: "):
			b.differs = line[len("differs: "):]
		case part == &input && len(input) == 0 && strings.HasPrefix(line, "only here: "):
			b.only = line[len("only here: "):]
		default:
			*part = append(*part, line)
		}
	}
	b.input, b.theirs = strings.Join(input, "\n"), strings.Join(theirs, "\n")
	if b.kind == "expressions" {
		b.checks = len(input)
	}
	return b, nil
}

// text prints a script in its one form.
func (s *script) text() string {
	var out strings.Builder
	out.WriteString("area " + s.area + "\n\n")
	for _, f := range s.features {
		for _, b := range f.blocks {
			b.print(&out)
		}
	}
	return strings.TrimRight(out.String(), "\n") + "\n"
}

func (b *block) print(out *strings.Builder) {
	if b.kind == "#" {
		out.WriteString(b.input + "\n\n")
		return
	}
	out.WriteString(strings.TrimSpace(b.kind+" "+b.head) + "\n")
	if b.differs != "" {
		out.WriteString("differs: " + b.differs + "\n")
	}
	if b.only != "" {
		out.WriteString("only here: " + b.only + "\n")
	}
	if b.input != "" {
		out.WriteString(b.input + "\n")
	}
	if b.theirs != "" {
		out.WriteString("-- PostgreSQL\n" + b.theirs + "\n")
	}
	if b.kind == "view" || b.kind == "rows" && len(b.want) > 0 {
		out.WriteString("----\n")
		for _, l := range b.want {
			out.WriteString(l + "\n")
		}
	}
	if len(b.wantTheir) > 0 {
		out.WriteString("---- PostgreSQL\n")
		for _, l := range b.wantTheir {
			out.WriteString(l + "\n")
		}
	}
	out.WriteString("\n")
}

// cutExpression splits a line of an expressions block. theirs is set where PostgreSQL's result differs, with the reason behind it.
func cutExpression(line string) (sql, want, theirs, why string) {
	sql, want, _ = strings.Cut(line, " → ")
	want, theirs, _ = strings.Cut(want, " ≠ ")
	theirs, why, _ = strings.Cut(theirs, " — ")
	return strings.TrimSpace(sql), want, theirs, why
}
