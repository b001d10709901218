package sdkjs

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"laaster/internal/kit/testkit"
)

// blocks returns the blocks of README.md that have a title, by language and title.
func blocks(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, m := range regexp.MustCompile("(?ms)^```(\\w+) title=(\\S+)\n(.*?)^```$").FindAllStringSubmatch(string(read(t, "README.md")), -1) {
		out[m[1]+" "+m[2]] = m[3]
	}
	return out
}

// TestReadmeInNode runs the program of the README against its app, over WebSocket and over streams of events, and compares what it prints.
func TestReadmeInNode(t *testing.T) {
	node := tool(t, "node")
	b := blocks(t)
	for _, flags := range [][]string{{"--experimental-websocket"}, {}} {
		dir := t.TempDir()
		for name, text := range map[string]string{"app/app.sql": b["sql app.sql"], "report.mjs": b["js report.mjs"], "laaster.mjs": string(read(t, "dist/laaster.js"))} {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(node, append(flags, "report.mjs")...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "NODE_NO_WARNINGS=1", "LAASTER_URL="+serve(t, filepath.Join(dir, "app")))
		out, err := cmd.CombinedOutput()
		if want := b["text report.mjs"]; err != nil || want == "" || string(out) != want {
			t.Errorf("node %s report.mjs: %v\n%swant:\n%s", strings.Join(flags, " "), err, out, want)
		}
	}
}

// serve runs the real server with an app until the test ends, and returns its URL.
func serve(t *testing.T, app string) string {
	t.Helper()
	cmd := exec.Command(testkit.Binary(t), "run", app, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data", t.TempDir())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	ready := regexp.MustCompile(`^ready public=(\S+)`)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if m := ready.FindStringSubmatch(lines.Text()); m != nil {
			return m[1]
		}
	}
	t.Fatal("the server ended before it was ready")
	return ""
}

// TestReadmeTypes checks the typed example of the README as a program that uses the package.
func TestReadmeTypes(t *testing.T) {
	testkit.NodeModules(t, ".")
	dir := t.TempDir()
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"typed.ts": blocks(t)["ts typed.ts"],
		"tsconfig.json": `{"extends": "` + filepath.ToSlash(here) + `/tsconfig.json", "include": ["*.ts"],
			"compilerOptions": {"types": [], "paths": {"laaster": ["` + filepath.ToSlash(here) + `/dist/laaster.d.ts"]}}}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run(t, tool(t, "node"), filepath.Join("node_modules", "typescript", "bin", "tsc"), "-p", dir)
}
