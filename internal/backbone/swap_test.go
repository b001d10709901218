package backbone

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// TestSwap interrupts a swap behind each of its steps: whoever opens the folder next finishes it.
func TestSwap(t *testing.T) {
	old := map[string]string{"FORMAT": "f", "LOCK": "l", "highwater-0": "old mark", "base-0": "old base", "store/a/1": "old", "other": "stays"}
	coming := map[string]string{"highwater-0": "new mark", "lineage": "new lineage", "store/b/2": "new"}
	want := map[string]string{"FORMAT": "f", "LOCK": "l", "highwater-0": "new mark", "lineage": "new lineage", "store/b/2": "new", "other": "stays",
		"damaged-x/highwater-0": "old mark", "damaged-x/base-0": "old base", "damaged-x/store/a/1": "old"}
	out := []string{"store", "highwater-0", "base-0", "lineage"}
	begin := func() string {
		dir := t.TempDir()
		writeTree(t, dir, old)
		writeTree(t, filepath.Join(dir, "repair"), coming)
		return dir
	}
	same := func(what, dir string, want map[string]string) {
		t.Helper()
		if got := readTree(t, dir); !maps.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	dir := begin()
	if err := Swap(dir, "repair", "damaged-x", out); err != nil {
		t.Fatal(err)
	}
	same("at once", dir, want)
	if err := finishSwap(dir); err != nil {
		t.Error(err)
	}
	same("again", dir, want)
	for done := range len(out) + 1 { // so many have moved out
		dir := begin()
		s := &swap{From: "repair", Away: "damaged-x", Out: out[:done]}
		check(t, s.moveOut(dir))
		check(t, writeSwap(dir, &swap{From: "repair", Away: "damaged-x", Out: out}))
		check(t, finishSwap(dir))
		same("moving out", dir, want)
	}
	for done := range 4 { // so many have moved in
		dir := begin()
		s := &swap{From: "repair", Away: "damaged-x", Out: out, In: true}
		check(t, s.moveOut(dir))
		check(t, writeSwap(dir, s))
		for _, name := range []string{"store", "lineage", "highwater-0"}[:done] {
			check(t, os.Rename(filepath.Join(dir, "repair", name), filepath.Join(dir, name)))
		}
		check(t, finishSwap(dir))
		same("moving in", dir, want)
	}
	dir = begin()
	check(t, os.WriteFile(filepath.Join(dir, swapName), []byte("?"), 0o600))
	if err := finishSwap(dir); err == nil {
		t.Error("a file that nobody wrote was taken")
	}
	for _, name := range []string{"", "..", "a/b", "../x", ".x"} {
		if err := Swap(dir, "repair", name, out); err == nil {
			t.Errorf("%q was taken for a name", name)
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func writeTree(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		check(t, os.MkdirAll(filepath.Dir(path), 0o700))
		check(t, os.WriteFile(path, []byte(text), 0o600))
	}
}

func readTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	check(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		out[rel] = string(b)
		return err
	}))
	return out
}
