package tidy

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"laaster/internal/sql"
)

var (
	linkPattern = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	codePattern = regexp.MustCompile("`[^`]*`")
	markPattern = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// fence is one fenced block of a page.
type fence struct {
	line int // of its text, from 1
	lang string
	text string
}

// page reads a Markdown file: its lines of prose (those of blocks are empty) and its fenced blocks.
func page(t *testing.T, path string) (prose []string, blocks []fence) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	open := false
	for i, line := range strings.Split(string(data), "\n") {
		lang, mark := strings.CutPrefix(strings.TrimLeft(line, " "), "```")
		switch {
		case mark && !open:
			blocks = append(blocks, fence{line: i + 2, lang: strings.TrimSpace(lang)})
		case !mark && open:
			blocks[len(blocks)-1].text += line + "\n"
		}
		if mark {
			open = !open
		}
		if mark || open {
			line = ""
		}
		prose = append(prose, line)
	}
	if open {
		t.Errorf("%s: the last block is not closed", path)
	}
	return prose, blocks
}

// anchors returns the names under which the headings of a page can be linked to, as GitHub makes them.
func anchors(prose []string) []string {
	var out []string
	for _, line := range prose {
		text := strings.TrimLeft(line, "#")
		if level := len(line) - len(text); level == 0 || level > 6 || !strings.HasPrefix(text, " ") {
			continue
		}
		text = strings.ToLower(strings.TrimSpace(markPattern.ReplaceAllString(text, "$1")))
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
				return r
			}
			return -1
		}, text)
		out = append(out, name)
	}
	return out
}

func TestLinksOfThePages(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"README.md", "ARCHITECTURE.md", "CHANGELOG.md"} {
		pages = append(pages, filepath.Join(root, name))
	}
	links := 0
	for _, path := range pages {
		prose, _ := page(t, path)
		for i, line := range prose {
			for _, m := range linkPattern.FindAllStringSubmatch(codePattern.ReplaceAllString(line, "x"), -1) {
				links++
				u, err := url.Parse(m[1])
				if err != nil {
					t.Errorf("%s:%d: link %s: %v", path, i+1, m[1], err)
					continue
				}
				if u.Scheme != "" || u.Host != "" {
					continue
				}
				target := path
				if u.Path != "" {
					target = filepath.Join(filepath.Dir(path), filepath.FromSlash(u.Path))
				}
				if _, err := os.Stat(target); err != nil {
					t.Errorf("%s:%d: link %s leads nowhere", path, i+1, m[1])
					continue
				}
				if u.Fragment == "" {
					continue
				}
				if filepath.Ext(target) != ".md" {
					t.Errorf("%s:%d: link %s: only pages have headings", path, i+1, m[1])
					continue
				}
				there, _ := page(t, target)
				if !slices.Contains(anchors(there), u.Fragment) {
					t.Errorf("%s:%d: link %s: no heading of that name", path, i+1, m[1])
				}
			}
		}
	}
	if links < 20 {
		t.Errorf("only %d links found: is the pattern right?", links)
	}
}

func TestAppOfTheReadmeCompiles(t *testing.T) {
	path := filepath.Join("..", "..", "..", "README.md")
	_, blocks := page(t, path)
	app := ""
	for _, b := range blocks {
		if b.lang == "sql" {
			app += b.text // what comes later adds to the app of the first block
		}
	}
	program, found := sql.Compile("app.sql", []byte(app), nil)
	for _, d := range found {
		t.Errorf("%s: %s", path, d.Render())
	}
	if program != nil && len(program.Views) < 3 {
		t.Errorf("%s: the app has %d views: at least 3 are expected", path, len(program.Views))
	}
}

// TestSQLOfThePages: every block of SQL is played or compiled by some test.
func TestSQLOfThePages(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join("..", "..", "..", "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range pages {
		if name := filepath.Base(path); name == "sql.md" || name == "access.md" || name == "contracts.md" || name == "tutorial.md" || name == "sql-support.md" {
			continue // TestDocs and TestContractsPage of internal/sql, the test below, and made from tests
		}
		_, blocks := page(t, path)
		for _, b := range blocks {
			if b.lang == "sql" {
				t.Errorf("%s:%d: no test plays this: say `sql app` or `sql rows`, see TestPages of test/suites", path, b.line)
			}
		}
	}
}

func TestAppsOfTheTutorialCompile(t *testing.T) {
	path := filepath.Join("..", "..", "..", "docs", "tutorial.md")
	_, blocks := page(t, path)
	app, apps := "", 0
	for _, b := range blocks {
		first, _, _ := strings.Cut(b.text, "\n")
		if b.lang != "sql" || !strings.HasPrefix(first, "-- app.sql") {
			continue
		}
		apps++
		if strings.HasPrefix(first, "-- app.sql, at the end") {
			app += "\n" + b.text // a step adds to the file of the steps before it
		} else {
			app = b.text
		}
		program, found := sql.Compile("app.sql", []byte(app), nil)
		for _, d := range found {
			t.Errorf("%s: the app of the block at line %d:\n%s", path, b.line, d.Render())
		}
		if program == nil {
			t.Errorf("%s: the app of the block at line %d does not compile", path, b.line)
		}
	}
	if apps < 2 {
		t.Errorf("%s: %d blocks begin with -- app.sql: at least 2 are expected", path, apps)
	}
}
