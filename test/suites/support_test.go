package suites

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

const page = "../../docs/sql-support.md"

// TestSupportPage holds docs/sql-support.md against what the scripts say. Write it anew by: go test ./test/suites -update
func TestSupportPage(t *testing.T) {
	want := supportPage(t)
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("docs/sql-support.md is not what the scripts say: go test ./test/suites -update")
	}
}

// finding is a statement that is not supported, or whose result differs.
type finding struct {
	area, feature, sql string
	refused            string // what the compiler says
	here, there, why   string
}

// tally is what the blocks of a feature add up to.
type tally struct {
	statements, steps      int
	alone                  int // statements that PostgreSQL is not asked
	unsupported, different []finding
}

func (y *tally) add(b *block, area, feature string) {
	note := func(sql, want, theirs, why string) {
		y.statements++
		f := finding{area: area, feature: feature, sql: sql, why: why}
		if msg, ok := strings.CutPrefix(want, "not supported: "); ok {
			f.refused = msg
			y.unsupported = append(y.unsupported, f)
		} else if theirs != "" {
			f.here, f.there = want, theirs
			y.different = append(y.different, f)
		}
	}
	switch b.kind {
	case "rows":
		if len(b.want) > 0 {
			y.steps++
		}
	case "view":
		if b.only != "" && b.theirs == "" {
			y.alone++
		}
		note(b.input, strings.Join(b.want, "; "), strings.Join(b.wantTheir, "; "), b.differs)
	case "expressions":
		for _, line := range strings.Split(b.input, "\n") {
			note(cutExpression(line))
		}
	}
}

func (y *tally) status() string {
	switch n := len(y.unsupported); {
	case n == y.statements && n > 0:
		return "no"
	case n > 0:
		return "in part"
	case len(y.different) > 0:
		return "differs"
	}
	return "yes"
}

func supportPage(t *testing.T) string {
	var tables strings.Builder
	var all tally
	features := 0
	for _, s := range readScripts(t) {
		fmt.Fprintf(&tables, "\n### %s\n\n| | | statements | |\n|---|---|---|---|\n", s.area)
		for _, f := range s.features {
			var y tally
			for _, b := range f.blocks {
				y.add(b, s.area, f.name)
			}
			features++
			all.statements, all.steps, all.alone = all.statements+y.statements, all.steps+y.steps, all.alone+y.alone
			all.unsupported, all.different = append(all.unsupported, y.unsupported...), append(all.different, y.different...)
			fmt.Fprintf(&tables, "| %s | %s | %d | %s |\n", cell(f.name), y.status(), y.statements, cell(y.summary(f.note)))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, `# What of SQL is supported

Made from the scripts of `+"`test/suites/testdata`"+` by its tests: do not edit it. The scripts hold %d statements about %d features, and
%d changes of rows after which the views of a feature are compared again. What the statements are about comes from PostgreSQL's
regression tests and RisingWave's streaming tests; the expected results come from PostgreSQL 15 running the same statements. Of them
%d are not supported, %d have another result, and %d have no counterpart in PostgreSQL; everything else gives what PostgreSQL gives,
types included, and what PostgreSQL refuses is refused.

**yes**: all statements; **in part**: all but those named under [not supported](#not-supported); **differs**: see [what
differs](#what-differs); **no**: none. PostgreSQL has no windows of time, watermarks and rows that leave by themselves: there it runs
an equal query in its own words, or the script alone says what comes out.

## Features
`, all.statements, features, all.steps, len(all.unsupported), len(all.different), all.alone)
	b.WriteString(tables.String())
	b.WriteString("\n## Not supported\n\nEach is refused by `laaster check` with its place and mostly a hint.\n\n| feature | statement | what is said |\n|---|---|---|\n")
	for _, f := range all.unsupported {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", cell(f.feature), code(f.sql), cell(f.refused))
	}
	b.WriteString("\n## What differs\n\n| statement | here | in PostgreSQL | why |\n|---|---|---|---|\n")
	for _, f := range all.different {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", code(f.sql), code(f.here), code(f.there), cell(f.why))
	}
	b.WriteString("\n[sql-values.md](sql-values.md#where-it-differs) says more about values, [sql.md](sql.md) about the language.\n")
	b.WriteString(functionsPart(t))
	return b.String()
}

func (y *tally) summary(note string) string {
	if len(y.unsupported) == 0 {
		return note
	}
	not := fmt.Sprintf("%d not supported", len(y.unsupported))
	if note == "" {
		return not
	}
	return note + "; " + not
}

func functionsPart(t *testing.T) string {
	var b strings.Builder
	b.WriteString("\n## Functions\n\nBy what they are for; those on the right are in PostgreSQL 15 and not here. Operators are in [sql-values.md](sql-values.md#operators).\n\n| | supported | not supported |\n|---|---|---|\n")
	for _, g := range readFunctions(t) {
		var yes, no []string
		for _, e := range g.entries {
			if e.supported {
				yes = append(yes, "`"+e.name+"`")
			} else {
				no = append(no, "`"+e.name+"`")
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", g.name, strings.Join(yes, " "), strings.Join(no, " "))
	}
	return b.String()
}

// cell is text inside a table.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;", "*", `\*`).Replace(s)
}

// code is a statement or result inside a table, cut where it is long.
func code(s string) string {
	s = strings.ReplaceAll(strings.ReplaceAll(s, "\n", " "), "|", `\|`)
	if r := []rune(s); len(r) > 140 {
		s = string(r[:140]) + " …"
	}
	if strings.Contains(s, "`") {
		return "`` " + s + " ``"
	}
	return "`" + s + "`"
}
