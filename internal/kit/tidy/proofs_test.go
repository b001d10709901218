package tidy

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestProofsExist: a test or fuzz target that docs/security.md names as a proof is there, and in the folder that is named behind it.
func TestProofsExist(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z]\w*)\(`)
	folders := map[string][]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules"):
			return filepath.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		for _, m := range declared.FindAllStringSubmatch(string(src), -1) {
			folders[m[1]] = append(folders[m[1]], filepath.ToSlash(dir))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for i, line := range strings.Split(string(page), "\n") {
		for _, m := range regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w*)`").FindAllStringSubmatch(line, -1) {
			named++
			if folders[m[1]] == nil {
				t.Errorf("docs/security.md:%d: there is no %s", i+1, m[1])
			}
		}
		for _, m := range regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w*)` \\(([a-z/]+)\\)").FindAllStringSubmatch(line, -1) {
			if folders[m[1]] != nil && !slices.Contains(folders[m[1]], m[2]) {
				t.Errorf("docs/security.md:%d: %s is in %v, not in %s", i+1, m[1], folders[m[1]], m[2])
			}
		}
	}
	if named < 40 {
		t.Errorf("only %d proofs are named", named)
	}
}
