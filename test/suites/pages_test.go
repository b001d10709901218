package suites

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"laaster/internal/sql"
)

// leastShown is how many tables of output the pages must have at least: with fewer the test does not find them.
const leastShown = 20

// TestPages plays the examples of the pages in docs/. A block that begins with ```sql app is an app.sql, which must compile without a
// warning; a ```sql rows block writes to it, in which a line "-- at <time>" begins a batch; a ```text block with a view's name, or
// laaster.errors or laaster.late, shows what that view then holds, one with "explain" and a view's name how it is computed. Rewrite what is shown by: go test ./test/suites -run TestPages -update
func TestPages(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join("..", "..", "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(text, []byte("```sql app")) {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(path), ".md"), func(t *testing.T) {
			p := examples{t: t, path: path}
			p.page(string(text))
			shown += p.shown
			if *update {
				if err := os.WriteFile(path, []byte(strings.Join(p.out, "")), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	if shown < leastShown && !t.Failed() {
		t.Errorf("the pages show %d views: at least %d are expected", shown, leastShown)
	}
}

// examples is a page under way.
type examples struct {
	player
	t     *testing.T
	path  string
	at    int // line above the block
	app   *app
	shown int
	out   []string // the page's lines, with what is shown as it is
}

func (p *examples) page(text string) {
	lines := strings.SplitAfter(text, "\n")
	for i := 0; i < len(lines); i++ {
		mark, isFence := strings.CutPrefix(strings.TrimRight(lines[i], "\n"), "```")
		p.out = append(p.out, lines[i])
		if !isFence {
			continue
		}
		from := i + 1
		for i = from; i < len(lines) && !strings.HasPrefix(lines[i], "```"); i++ {
		}
		if i == len(lines) {
			p.t.Fatalf("%s:%d: the block is not closed", p.path, from)
		}
		p.at = from
		p.out = append(p.out, p.block(mark, strings.Join(lines[from:i], "")), lines[i])
	}
	p.end()
}

// block plays one block and returns its text, as it should be.
func (p *examples) block(mark, text string) string {
	kind, name, _ := strings.Cut(mark, " ")
	var err error
	switch {
	case kind == "sql" && name == "app":
		p.end()
		err = p.start(text)
	case kind == "sql" && name == "rows" && p.app != nil:
		err = p.play(p.app, strings.ReplaceAll(text, "-- at ", "at "))
	case kind == "text" && name != "" && p.app != nil:
		p.shown++
		want := text
		if v, ok := strings.CutPrefix(name, "explain "); ok {
			text = strings.TrimSpace(sql.ExplainView(p.app.prog, v)) + "\n"
		} else {
			text, err = p.table(name)
		}
		if err == nil && text != want && !*update {
			err = fmt.Errorf("%s holds\n%s\nthe page has\n%s", name, text, want)
		}
	}
	if err != nil {
		p.t.Errorf("%s:%d: %v", p.path, p.at, err)
		if kind == "sql" {
			p.app = nil
		}
	}
	return text
}

func (p *examples) start(text string) error {
	prog, diags := sql.Compile("app.sql", []byte(text+"\n"+single), nil)
	if len(diags) > 0 {
		return fmt.Errorf("%s", sql.Render(diags))
	}
	p.app, p.stamp = &app{prog: prog}, begin().UnixMicro()-1_000_000
	var err error
	if p.main, err = newEngine(p.app); err != nil {
		return err
	}
	p.cut, err = newEngine(p.app)
	return err
}

// end checks that what an app holds does not depend on how its rows were cut into batches.
func (p *examples) end() {
	if p.app != nil && p.main.e.Fingerprint() != p.cut.e.Fingerprint() {
		p.t.Errorf("%s, above line %d: the fingerprint depends on how the rows are cut into batches", p.path, p.at)
	}
	p.app = nil
}

// table returns what a view holds: the names of its columns, then its rows.
func (p *examples) table(name string) (string, error) {
	for _, rel := range p.app.prog.Relations {
		if rel.Name != name || rel.Table != nil {
			continue
		}
		var names []string
		for _, c := range rel.Columns {
			names = append(names, c.Name)
		}
		if rel.Copies {
			names = names[:len(names)-1]
		}
		lines := slices.DeleteFunc(p.main.contents(&view{name: name, rel: rel}), func(l string) bool {
			return strings.HasPrefix(l, "error: ") || strings.HasPrefix(l, "late: ") // laaster.errors and laaster.late have them
		})
		lines = slices.Insert(lines, 0, strings.Join(names, " | "))
		return strings.Join(aligned(lines), "\n") + "\n", nil
	}
	return "", fmt.Errorf("there is no view %q", name)
}

// aligned puts the cells of all lines below one another.
func aligned(lines []string) []string {
	var width []int
	cells := make([][]string, len(lines))
	for i, l := range lines {
		cells[i] = strings.Split(l, " | ")
		for j, c := range cells[i] {
			if j == len(width) {
				width = append(width, 0)
			}
			width[j] = max(width[j], len([]rune(c)))
		}
	}
	for i, row := range cells {
		for j, c := range row {
			row[j] = c + strings.Repeat(" ", width[j]-len([]rune(c)))
		}
		lines[i] = strings.TrimRight(strings.Join(row, " | "), " ")
	}
	return lines
}
