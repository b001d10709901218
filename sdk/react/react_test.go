package sdkreact

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evanw/esbuild/pkg/api"

	"laaster/internal/kit/testkit"
)

var update = flag.Bool("update", false, "rewrite dist/ from src/")

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func build(t *testing.T, o api.BuildOptions) []api.OutputFile {
	t.Helper()
	r := api.Build(o)
	for _, m := range r.Errors {
		t.Errorf("%s: %s", m.Location.File, m.Text)
	}
	if t.Failed() {
		t.FailNow()
	}
	return r.OutputFiles
}

// compare fails when the committed file differs from what was built, or writes it with -update.
func compare(t *testing.T, name string, want []byte) {
	t.Helper()
	if have, err := os.ReadFile(name); err == nil && bytes.Equal(have, want) {
		return
	}
	if !*update {
		t.Fatalf("%s is not what src/ gives: go test ./sdk/react -update", name)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, want, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestBuiltFileIsCurrent(t *testing.T) {
	out := build(t, api.BuildOptions{
		EntryPoints: []string{"src/index.ts"}, Outfile: "dist/laaster-react.js", Bundle: true, External: []string{"react", "laaster"},
		Format: api.FormatESModule, Target: api.ES2022, Banner: map[string]string{"js": "/*! laaster-react | Apache-2.0 */"},
		MinifyWhitespace: true, MinifyIdentifiers: true, MinifySyntax: true,
	})
	compare(t, "dist/laaster-react.js", out[0].Contents)
}

// TestTypes checks the sources and tests strictly, and that dist/laaster-react.d.ts is what they declare.
func TestTypes(t *testing.T) {
	testkit.NodeModules(t, ".")
	node, tsc := tool(t, "node"), filepath.Join("node_modules", "typescript", "bin", "tsc")
	run(t, node, tsc, "-p", ".")
	run(t, node, tsc, "-p", "tsconfig.types.json")
	compare(t, "dist/laaster-react.d.ts", read(t, "node_modules/.types/index.d.ts"))
}

// TestReadme checks the example of the README as a program that uses both packages.
func TestReadme(t *testing.T) {
	testkit.NodeModules(t, ".")
	_, example, ok := strings.Cut(string(read(t, "README.md")), "```tsx\n")
	example, _, ok2 := strings.Cut(example, "```\n")
	if !ok || !ok2 {
		t.Fatal("the README has no example")
	}
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	dir, root := t.TempDir(), filepath.ToSlash(here)
	for name, text := range map[string]string{
		"app.tsx": example,
		"tsconfig.json": `{"extends": "` + root + `/tsconfig.json", "include": ["app.tsx"], "compilerOptions": {"jsx": "react-jsx", "types": [], "paths": {
			"laaster": ["` + root + `/../js/dist/laaster.d.ts"], "laaster-react": ["` + root + `/dist/laaster-react.d.ts"],
			"react": ["` + root + `/node_modules/@types/react/index.d.ts"], "react/jsx-runtime": ["` + root + `/node_modules/@types/react/jsx-runtime.d.ts"]}}}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run(t, tool(t, "node"), filepath.Join("node_modules", "typescript", "bin", "tsc"), "-p", dir)
}

// TestSuite runs the hooks in a real React, against the SDK with its fake server.
func TestSuite(t *testing.T) {
	testkit.NodeModules(t, ".")
	node, dir := tool(t, "node"), t.TempDir()
	out := build(t, api.BuildOptions{
		EntryPoints: []string{"test/hooks.test.ts"}, Outfile: filepath.Join(dir, "hooks.test.mjs"), Bundle: true, Format: api.FormatESModule,
		Platform: api.PlatformNode, Target: api.ES2022, Sourcemap: api.SourceMapInline, Alias: map[string]string{"laaster": "../js/src/index.ts"},
		Define: map[string]string{"process.env.NODE_ENV": `"development"`},
		Banner: map[string]string{"js": "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);"},
	})
	if err := os.WriteFile(out[0].Path, out[0].Contents, 0o644); err != nil {
		t.Fatal(err)
	}
	// React keeps a message channel open.
	run(t, node, "--enable-source-maps", "--test-force-exit", "--test", out[0].Path)
}

// tool finds a program, or skips in one line.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		testkit.Missing(t, name+" is not installed")
	}
	return path
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
}
