//go:build linux

package chaos

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"laaster/internal/kit/testkit"
)

// plantedTags build what runs with a bug planted in it.
const plantedTags = "crashpoints,plantedbugs"

// catcher is a check that must fail when a bug is planted, and passes when none is.
type catcher struct {
	pkg   string   // of the test; empty: this one, on the real binary
	run   string   // the test
	env   []string // that makes it short
	fails string   // what it says, as a regular expression
}

// catchers are the checks of the harness that planted bugs are tried on.
func catchers() map[string]catcher {
	sim := catcher{"test/sim", "TestHistories", []string{"LAASTER_SEEDS=400"}, `LAASTER_SEED=\d+`}
	return map[string]catcher{
		"simulation": sim,
		"power cut":  {"", "TestLedgerPower", []string{"LAASTER_CUTS=4"}, `LOST|violations|the log is damaged`},
		"log damage": {"internal/backbone/jetstream", "TestDamage|TestSwapped", nil, `FAIL`},
		"restore":    {"internal/node", "TestBackup", nil, `FAIL`},
	}
}

// planted says which check catches which bug.
func planted() map[string]string {
	return map[string]string{
		"ack-before-fsync":            "power cut",
		"checkpoint-early-remove":     "simulation",
		"checkpoint-skip-folder-sync": "simulation",
		"checkpoint-skip-sync":        "simulation",
		"dedupe-window-off-by-one":    "simulation",
		"flow-apply-twice":            "simulation",
		"flow-forgets-keys":           "simulation",
		"flow-forgets-sums":           "simulation",
		"flow-lost-preimage":          "simulation",
		"ingest-ack-before-log":       "simulation",
		"ingest-double-append":        "simulation",
		"ingest-drop-part":            "simulation",
		"log-reuse-sequence":          "log damage",
		"log-skip-mark":               "log damage",
		"log-unknown-retry":           "simulation",
		"restore-unverified":          "restore",
		"trim-too-far":                "simulation",
		"view-ring-gap":               "simulation",
		"view-skip-leaf":              "simulation",
	}
}

// sourceBugs returns the names of the planted bugs in the source.
func sourceBugs(t *testing.T) []string {
	t.Helper()
	var out []string
	name := regexp.MustCompile(`fault\.Bug\("([^"]+)"\)`)
	must(t, eachSource(func(text string) {
		for _, m := range name.FindAllStringSubmatch(text, -1) {
			out = append(out, m[1])
		}
	}))
	slices.Sort(out)
	return slices.Compact(out)
}

// TestPlanted plants each of the bugs that the source has and runs the check that must catch it; and each check without a bug, which must pass.
func TestPlanted(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds several test programs")
	}
	bugs, by := sourceBugs(t), planted()
	if len(bugs) < 10 {
		t.Errorf("%d bugs are planted in the source, want at least 10", len(bugs))
	}
	for _, b := range bugs {
		if by[b] == "" {
			t.Errorf("nothing is said to catch the planted bug %s", b)
		}
	}
	programs := map[string]string{}
	for name, c := range catchers() {
		programs[name] = catcherProgram(t, c.pkg)
		if out, err := c.try(t, programs[name], ""); err != nil {
			t.Fatalf("without a bug, %s fails: %v\n%s", name, err, last(out, 5000))
		}
	}
	caught := 0
	for _, b := range bugs {
		c, known := catchers()[by[b]]
		if !known {
			continue
		}
		out, err := c.try(t, programs[by[b]], b)
		switch {
		case err == nil:
			t.Errorf("the planted bug %s is not caught by the %s", b, by[b])
		case !regexp.MustCompile(c.fails).MatchString(out):
			t.Errorf("with the planted bug %s the %s fails otherwise than it should: %v\n%s", b, by[b], err, last(out, 3000))
		default:
			caught++
			t.Logf("%-28s caught by the %s: %s", b, by[b], firstLine(out, c.fails))
		}
	}
	t.Logf("%d of %d planted bugs caught", caught, len(bugs))
}

// firstLine returns the first line that matches.
func firstLine(out, pattern string) string {
	re := regexp.MustCompile(pattern)
	for _, l := range strings.Split(out, "\n") {
		if re.MatchString(l) {
			return l[:min(len(l), 160)]
		}
	}
	return ""
}

// catcherProgram builds a test program with the bugs in it; for this package it is this one, over a binary with the bugs in it.
func catcherProgram(t *testing.T, pkg string) string {
	t.Helper()
	if pkg == "" {
		return tagged(t, plantedTags)
	}
	path := filepath.Join(t.TempDir(), "test")
	if out, err := exec.Command("go", "test", "-c", "-tags", plantedTags, "-o", path, "laaster/"+pkg).CombinedOutput(); err != nil {
		t.Fatalf("go test -c %s: %v\n%s", pkg, err, out)
	}
	return path
}

// try runs the check with a bug planted, or without one.
func (c *catcher) try(t *testing.T, program, bug string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	bin := program
	if c.pkg == "" {
		self, err := os.Executable()
		must(t, err)
		bin = self
	}
	cmd := exec.CommandContext(ctx, bin, "-test.run=^("+c.run+")", "-test.count=1", "-test.v")
	cmd.Env = append(append(os.Environ(), "LAASTER_BUG="+bug, "LAASTER_FULL="), c.env...)
	if bug == "" {
		cmd.Env = append(cmd.Env, "LAASTER_SEEDS=60") // the test of the simulation itself runs more
	}
	if c.pkg == "" {
		cmd.Env = append(cmd.Env, "LAASTER_BIN_TAGGED="+program)
	} else {
		cmd.Dir = filepath.Join("..", "..", filepath.FromSlash(c.pkg))
	}
	out, err := cmd.CombinedOutput()
	if err == nil && strings.Contains(string(out), "--- SKIP: "+c.run) {
		testkit.Missing(t, fmt.Sprintf("%s is skipped here: %s", c.run, last(string(out), 300)))
	}
	return string(out), err
}
