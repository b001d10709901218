package client_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPage: every block of Go of docs/go.md is part of an example, which is compiled and run.
func TestPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "docs", "go.md"))
	if err != nil {
		t.Fatal(err)
	}
	examples, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	flat := func(s string) string {
		var lines []string
		for _, l := range strings.Split(s, "\n") {
			lines = append(lines, strings.TrimSpace(l))
		}
		return strings.Join(lines, "\n")
	}
	all := flat(string(examples))
	blocks := strings.Split(string(page), "```go\n")[1:]
	for _, b := range blocks {
		code, _, _ := strings.Cut(b, "```")
		if !strings.Contains(all, flat(code)) {
			t.Errorf("no example has this block:\n%s", code)
		}
	}
	if len(blocks) < 6 {
		t.Errorf("only %d blocks", len(blocks))
	}
}
