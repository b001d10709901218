package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFormat1 opens a data folder as the version before wrote it: its views show what they showed, a repeated request is known, and the folder is
// of the present format from then on, checkpoints and all.
func TestFormat1(t *testing.T) {
	const sample = "testdata/format-1"
	dir, s := t.TempDir(), settingsFor(filepath.Join(t.TempDir(), "data"), "embedded")
	if err := os.CopyFS(s.Data, os.DirFS(filepath.Join(sample, "data"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(sample, "app.sql"))
	if err != nil {
		t.Fatal(err)
	}
	writeApp(t, dir, string(text))
	want, err := os.ReadFile(filepath.Join(sample, "want.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second start goes on from a checkpoint
		l := start(t, dir, s)
		for _, line := range strings.Split(strings.TrimSpace(string(want)), "\n") {
			view, rows, _ := strings.Cut(line, " ")
			l.expect("/v1/views/"+view, rows)
		}
		l.end()
		format, err := os.ReadFile(filepath.Join(s.Data, "FORMAT"))
		if err != nil || !strings.Contains(string(format), "format 2") {
			t.Errorf("FORMAT is %q, %v", format, err)
		}
	}
	l := start(t, dir, s)
	defer l.end()
	if l.n.from.Header.Seq == 0 {
		t.Error("the start did not go on from a checkpoint")
	}
}
