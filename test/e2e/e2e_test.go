// Package e2e drives real browsers against the real binary. The scripts beside this file are run by Node's test runner with
// playwright-core and axe-core; this test builds what they need, finds Chromium and runs them.
package e2e

import (
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
		testkit.Missing(t, "node is not installed")
	}
	chromium := findChromium()
	if chromium == "" {
		testkit.Missing(t, "no Chromium: install it or set LAASTER_CHROMIUM to one")
	}
	testkit.NodeModules(t, ".")
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
