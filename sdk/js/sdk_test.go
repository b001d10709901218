package sdkjs

import (
	"bytes"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/evanw/esbuild/pkg/api"

	"laaster/internal/kit/testkit"
)

var update = flag.Bool("update", false, "rewrite dist/ from src/")

const maxGzipped = 12 << 10

// entries are the built modules and their sources. The second is for pages whose tabs share a connection.
func entries() map[string]string {
	return map[string]string{"laaster.js": "src/index.ts", "laaster-tabs.js": "src/tabs.ts"}
}

// options are those of the committed build; esbuild gives the same bytes for the same input.
func options(t *testing.T, name string) api.BuildOptions {
	t.Helper()
	return api.BuildOptions{
		EntryPoints: []string{entries()[name]},
		Outfile:     "dist/" + name,
		Bundle:      true,
		Format:      api.FormatESModule,
		Target:      api.ES2022,
		Banner:      map[string]string{"js": "/*! laaster " + version(t) + " | Apache-2.0 */"},

		MinifyWhitespace: true, MinifyIdentifiers: true, MinifySyntax: true,
	}
}

func version(t *testing.T) string {
	t.Helper()
	src := read(t, "src/client.ts")
	pkg := read(t, "package.json")
	v := regexp.MustCompile(`export const version = '([^']+)'`).FindSubmatch(src)
	p := regexp.MustCompile(`"version": "([^"]+)"`).FindSubmatch(pkg)
	if v == nil || p == nil || !bytes.Equal(v[1], p[1]) {
		t.Fatalf("the versions in src/client.ts (%s) and package.json (%s) differ", v, p)
	}
	return string(v[1])
}

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
		t.Errorf("%s:%d: %s", m.Location.File, m.Location.Line, m.Text)
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
		t.Fatalf("%s is not what src/ gives: go test ./sdk/js -update", name)
	}
	if err := os.WriteFile(name, want, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestBuiltFilesAreCurrent(t *testing.T) {
	for name := range entries() {
		out := build(t, options(t, name))[0].Contents
		compare(t, "dist/"+name, out)
		if n := gzipped(t, out); n > maxGzipped {
			t.Errorf("%s has %d bytes gzipped, at most %d are promised", name, n, maxGzipped)
		} else {
			t.Logf("%s: %d bytes, %d gzipped", name, len(out), n)
		}
	}
}

func TestFilesAreEmbedded(t *testing.T) {
	for _, name := range []string{"laaster.js", "laaster.d.ts", "laaster-tabs.js", "laaster-tabs.d.ts"} {
		if b, err := fs.ReadFile(Files(), name); err != nil || len(b) == 0 {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
}

// TestSuite runs test/*.test.ts on Node's own test runner.
func TestSuite(t *testing.T) {
	node := tool(t, "node")
	dir := t.TempDir()
	files, err := filepath.Glob("test/*.test.ts")
	if err != nil || len(files) == 0 {
		t.Fatal("no tests in test/", err)
	}
	for _, f := range build(t, api.BuildOptions{
		EntryPoints: files, Outdir: dir, Bundle: true, Format: api.FormatESModule, Platform: api.PlatformNode,
		Target: api.ES2022, Sourcemap: api.SourceMapInline, OutExtension: map[string]string{".js": ".mjs"},
	}) {
		if err := os.WriteFile(f.Path, f.Contents, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	outs, err := filepath.Glob(filepath.Join(dir, "*.mjs"))
	if err != nil {
		t.Fatal(err)
	}
	run(t, node, append([]string{"--enable-source-maps", "--test"}, outs...)...)
}

// TestTypes checks the sources strictly with tsc, those of its first users too, and that dist/laaster.d.ts is what they declare.
func TestTypes(t *testing.T) {
	testkit.NodeModules(t, ".")
	tsc := filepath.Join("node_modules", "typescript", "bin", "tsc")
	node := tool(t, "node")
	run(t, node, tsc, "-p", ".")
	run(t, node, tsc, "-p", "../../examples/vote")
	run(t, node, tsc, "-p", "tsconfig.types.json")
	for name, modules := range map[string][]string{
		"dist/laaster.d.ts": {
			"problem", "env", "order", "optimistic", "collection", "channel", "pulse", "writes", "queue", "client", "index"},
		"dist/laaster-tabs.d.ts": {"env", "tabs"},
	} {
		compare(t, name, bundleTypes(t, "node_modules/.types", modules))
		if !*update {
			run(t, node, tsc, "--strict", "--noEmit", "--target", "ES2022", "--module", "esnext", "--moduleResolution", "bundler", "--lib", "ES2023,DOM", "--types", "node", name)
		}
	}
}

// bundleTypes joins the declarations of modules into one: what the last of them exports is exported, the rest is private.
func bundleTypes(t *testing.T, dir string, modules []string) []byte {
	t.Helper()
	var out bytes.Buffer
	out.WriteString("/*! laaster " + version(t) + " | Apache-2.0 */\n")
	codes := regexp.MustCompile(`(?ms)^(/\*\*[^\n]*\*/\n)export (type ServerCode =.*?;\n)`).FindSubmatch(read(t, filepath.Join(dir, "wire.d.ts")))
	if codes == nil {
		t.Fatal("wire.d.ts declares no ServerCode")
	}
	out.Write(append(codes[1], codes[2]...))
	imports := regexp.MustCompile(`(?m)^import [^;]*;\n`)
	from := regexp.MustCompile(`(?m)^(export (?:type )?\{[^}]*\}) from [^;]*;`)
	for i, m := range modules {
		text := string(imports.ReplaceAll(read(t, filepath.Join(dir, m+".d.ts")), nil))
		if i == len(modules)-1 {
			text = from.ReplaceAllString(text, "$1;")
		} else {
			text = regexp.MustCompile(`(?m)^export (?:\{\};\n)?`).ReplaceAllString(text, "")
		}
		out.WriteString(text)
	}
	return out.Bytes()
}

// tool finds a program, or skips in one line; with LAASTER_REQUIRE=all its absence is a failure.
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
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
}
