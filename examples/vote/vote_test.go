package vote

import (
	"bytes"
	"compress/gzip"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/evanw/esbuild/pkg/api"
)

var update = flag.Bool("update", false, "rewrite the scripts in public/ from src/")

const maxPage = 32 << 10 // bytes of a page with everything that it loads, as they travel: the server compresses text

// TestScriptsAreCurrent rebuilds the pages' scripts and compares them with the committed ones.
func TestScriptsAreCurrent(t *testing.T) {
	r := api.Build(api.BuildOptions{
		EntryPoints: []string{"src/audience.ts", "src/studio.ts"},
		Outdir:      "public",
		Bundle:      true,
		Format:      api.FormatESModule,
		Target:      api.ES2022,
		External:    []string{"/laaster.js"},

		MinifyWhitespace: true, MinifyIdentifiers: true, MinifySyntax: true,
	})
	for _, m := range r.Errors {
		t.Errorf("%s:%d: %s", m.Location.File, m.Location.Line, m.Text)
	}
	for _, f := range r.OutputFiles {
		name := filepath.Join("public", filepath.Base(f.Path))
		if have, err := os.ReadFile(name); err == nil && bytes.Equal(have, f.Contents) {
			continue
		}
		if !*update {
			t.Errorf("%s is not what src/ gives: go test ./examples/vote -update", name)
			continue
		}
		if err := os.WriteFile(name, f.Contents, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPagesAreLight adds up what each page loads: itself, its styles, its script and the SDK.
func TestPagesAreLight(t *testing.T) {
	for _, page := range []string{"index.html", "studio.html"} {
		html := read(t, filepath.Join("public", page))
		sum := travels(t, html)
		for _, m := range regexp.MustCompile(`(?:src|href)="/([\w.]+\.(?:js|css))"`).FindAllSubmatch(html, -1) {
			name := filepath.Join("public", string(m[1]))
			if string(m[1]) == "laaster.js" {
				name = "../../sdk/js/dist/laaster.js"
			}
			sum += travels(t, read(t, name))
		}
		if sum > maxPage {
			t.Errorf("%s loads %d bytes, at most %d are allowed", page, sum, maxPage)
		}
		t.Logf("%s: %d bytes in all", page, sum)
		if m := regexp.MustCompile(`(?i) style=|<style| on[a-z]+="|<script>|https?://`).Find(html); m != nil {
			t.Errorf("%s has %q: a strict Content-Security-Policy forbids it", page, m)
		}
	}
}

func travels(t *testing.T, b []byte) int {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Len()
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
