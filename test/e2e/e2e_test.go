// Package e2e drives real browsers against the real binary. The scripts beside this file are run by Node's test runner with
// playwright-core and axe-core; this test builds what they need, finds Chromium and runs them.
package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"laaster/internal/kit/testkit"
)

func TestBrowsers(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: browsers take a minute, and -short was given")
	}
	node, err := exec.LookPath("node")
	if err != nil {
		missing(t, "node is not installed")
	}
	chromium := findChromium()
	if chromium == "" {
		missing(t, "no Chromium: install it or set LAASTER_CHROMIUM to one")
	}
	install(t)
	play := filepath.Join(t.TempDir(), "vote-play")
	if out, err := exec.Command("go", "build", "-o", play, "laaster/examples/vote/play").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	env := append(os.Environ(), "LAASTER_BIN="+testkit.Binary(t), "VOTE_PLAY_BIN="+play, "LAASTER_CHROMIUM="+chromium)
	if os.Getenv("LAASTER_ARTIFACTS") == "" {
		env = append(env, "LAASTER_ARTIFACTS="+filepath.Join(t.TempDir(), "pictures"))
	}
	scripts, err := filepath.Glob("*.test.mjs")
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, script := range scripts {
		t.Run(strings.TrimSuffix(script, ".test.mjs"), func(t *testing.T) {
			cmd := exec.Command(node, "--test", "--test-timeout=180000", script)
			cmd.Env = env
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", script, err, out)
			}
		})
	}
}

// findChromium returns the browser: LAASTER_CHROMIUM, or one of the usual names.
func findChromium() string {
	if path := os.Getenv("LAASTER_CHROMIUM"); path != "" {
		return path
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// install brings node_modules to the state of package-lock.json; when it is there already, nothing is fetched.
func install(t *testing.T) {
	t.Helper()
	const mark = "node_modules/.installed-lock"
	lock, err := os.ReadFile("package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if have, err := os.ReadFile(mark); err == nil && bytes.Equal(have, lock) {
		return
	}
	if out, err := exec.Command("npm", "ci", "--no-audit", "--no-fund").CombinedOutput(); err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		missing(t, "npm ci failed: "+lines[len(lines)-1])
	}
	if err := os.WriteFile(mark, lock, 0o644); err != nil {
		t.Fatal(err)
	}
}

// missing skips in one line; with LAASTER_REQUIRE=all what is missing is a failure.
func missing(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("LAASTER_REQUIRE") == "all" {
		t.Fatal(why)
	}
	t.Skip("skipped: " + why)
}
