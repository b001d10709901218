//go:build linux

package chaos

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"laaster/internal/kit/run"
	"laaster/test/ledger"
)

// damage is one change of a file that nobody asked for.
type damage struct {
	file string // relative to the data folder
	how  string
}

func (d *damage) String() string { return d.file + ": " + d.how }

// kindOf returns the kind of a file: its path without what is its own.
func kindOf(file string) string {
	file = regexp.MustCompile(`[0-9a-f]{8,}|[0-9]+`).ReplaceAllString(filepath.ToSlash(file), "N")
	return strings.ReplaceAll(file, "$G", "G")
}

// filesByKind lists the files of a folder by their kind.
func filesByKind(t *testing.T, dir string) (kinds []string, files map[string][]string) {
	t.Helper()
	files = map[string][]string{}
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		k := kindOf(rel)
		if files[k] == nil {
			kinds = append(kinds, k)
		}
		files[k] = append(files[k], rel)
		return err
	}))
	sort.Strings(kinds)
	return kinds, files
}

// harm damages one file.
func harm(t *testing.T, rng *rand.Rand, dir, file string) *damage {
	t.Helper()
	path := filepath.Join(dir, file)
	b, err := os.ReadFile(path)
	must(t, err)
	d := &damage{file: file}
	at := rng.IntN(max(1, len(b)))
	switch how := rng.IntN(20); {
	case how == 0:
		d.how = "removed"
		must(t, os.Remove(path))
		return d
	case how < 5 || len(b) == 0:
		d.how = fmt.Sprintf("cut at %d of %d", at, len(b))
		b = b[:min(at, len(b))]
	case how < 7:
		end := min(at+1+rng.IntN(4096), len(b))
		d.how = fmt.Sprintf("zeros from %d to %d of %d", at, end, len(b))
		clear(b[at:end])
	default:
		bit := rng.IntN(8)
		d.how = fmt.Sprintf("bit %d of byte %d of %d flipped", bit, at, len(b))
		b[at] ^= 1 << bit
	}
	must(t, os.WriteFile(path, b, 0o600))
	return d
}

// names reports whether what the server said names a position, or the file or its folder.
func names(log string, d *damage) bool {
	return d.file == "FORMAT" && strings.Contains(log, "data folder") || strings.Contains(log, filepath.Base(d.file)) || strings.Contains(log, filepath.Base(filepath.Dir(d.file))) ||
		regexp.MustCompile(`(?i)(position|batch|sequence)[a-z ]*[0-9]+|\.0-[0-9]+`).MatchString(log)
}

// TestLedgerFlips damages one file of a data folder at a time, of every kind in turn, and starts the server on it: it refuses, naming what is wrong; or it shows
// exactly what it showed before, to readers and to one who resumes in the middle.
func TestLedgerFlips(t *testing.T) {
	flips := asked(t, "LAASTER_FLIPS", 16, 300)
	clean, killed := t.TempDir(), t.TempDir()
	data := filepath.Join(t.TempDir(), "data")
	settings := often + "scrub: {rate: 1GiB, every: 1s}\n"
	r := rigged(t, data, settings, ledger.LoadOptions{})
	history := &ledger.History{}
	must(t, r.Up())
	r.Load.Go()
	moment(t.Context(), rand.New(rand.NewPCG(1, 1)), time.Second)
	must(t, r.Load.Rest(t.Context()))
	must(t, r.Mark(history))
	r.Load.Go()
	moment(t.Context(), rand.New(rand.NewPCG(1, 2)), time.Second)
	must(t, r.Load.Rest(t.Context()))
	must(t, r.CheckAtRest(t.Context(), true))
	must(t, r.Remember(history))
	r.Down()
	must(t, os.CopyFS(killed, os.DirFS(data)))
	must(t, r.UpAlone())
	must(t, r.Server.Stop())
	must(t, os.CopyFS(clean, os.DirFS(data)))
	for _, from := range []string{clean, killed} {
		must(t, os.RemoveAll(data))
		must(t, os.CopyFS(data, os.DirFS(from)))
		if what := damaged(t, r, history, &damage{}); what != "harmless" {
			t.Fatalf("without any damage: %s\n%s", what, last(r.Server.Log(), 3000))
		}
	}

	seed := rand.Uint64()
	t.Logf("seed of the damage %d", seed)
	came := map[string]map[string]int{}
	for n := range flips {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		memory := "" // half of the times the state is read page by page, when it is needed
		if rng.IntN(2) == 0 {
			memory = "limits: {memory: 1MiB}\n"
		}
		must(t, os.WriteFile(filepath.Join(r.Spec.App, "laaster.yaml"), []byte(settings+memory), 0o600))
		must(t, os.RemoveAll(data))
		must(t, os.CopyFS(data, os.DirFS([]string{clean, killed}[rng.IntN(2)])))
		kinds, files := filesByKind(t, data)
		kind := kinds[n%len(kinds)]
		d := harm(t, rng, data, files[kind][rng.IntN(len(files[kind]))])
		what := damaged(t, r, history, d)
		if came[kind] == nil {
			came[kind] = map[string]int{}
		}
		came[kind][what]++
		if what == "harmless" && strings.HasSuffix(kind, ".ckpt") {
			t.Logf("harmless: %s", d)
		}
		if t.Failed() {
			t.Fatalf("damage %d: %s", n, d)
		}
	}
	kinds := make([]string, 0, len(came))
	for k := range came {
		kinds = append(kinds, k)
	}
	sort.Strings(kinds)
	for _, k := range kinds {
		t.Logf("%-60s %v", k, came[k])
	}
}

// damaged starts the server on a damaged folder and says what came of it.
func damaged(t *testing.T, r *ledger.Rig, h *ledger.History, d *damage) string {
	t.Helper()
	lives := ""
	for range 3 {
		err := r.UpAlone()
		if ended := (*ledger.Ended)(nil); errors.As(err, &ended) {
			if code := ledger.ExitCode(ended.Err); code != 1 {
				t.Errorf("exit code %d: %s", code, last(ended.Log, 3000))
			}
			if !names(ended.Log, d) {
				t.Errorf("the message does not name what is damaged: %s", last(ended.Log, 3000))
			}
			return "refused"
		}
		wrong := ""
		if err == nil {
			wrong, err = r.Same(t.Context(), h)
		}
		if wrong != "" {
			r.Server.Kill()
			t.Errorf("WRONG ROWS: %s\n%s", wrong, last(r.Server.Log(), 3000))
			return "wrong"
		}
		if err != nil { // it found the damage while it served, and ends: the next start does without
			if err := r.Server.Wait(20 * time.Second); ledger.ExitCode(err) != 1 || !names(r.Server.Log(), d) {
				t.Errorf("a read failed, and the end is %v: %s", err, last(r.Server.Log(), 3000))
			}
			lives += "\n" + last(r.Server.Log(), 3000)
			continue
		}
		if told(r.Server.Log()) {
			r.Server.Kill()
			return "told"
		}
		if !scrubbed(t, r) { // a checkpoint that was written meanwhile needed what is damaged
			if err := r.Server.Wait(time.Second); ledger.ExitCode(err) != 1 || !names(r.Server.Log(), d) {
				t.Errorf("it ended by itself: %v: %s", err, last(r.Server.Log(), 3000))
			}
			lives += "\n" + last(r.Server.Log(), 3000)
			continue
		}
		r.Server.Kill()
		if told(r.Server.Log()) {
			if !names(r.Server.Log(), d) {
				t.Errorf("the message does not name what is damaged: %s", last(r.Server.Log(), 3000))
			}
			return "found by scrub"
		}
		return "harmless"
	}
	t.Errorf("every start ends while it serves: %s", lives)
	return "never up"
}

// scrubbed waits until the server has read everything at rest. It reports false when it has ended before.
func scrubbed(t *testing.T, r *ledger.Rig) bool {
	t.Helper()
	for late := (run.System{}).After(time.Minute); metric(t, r, "laaster_scrub_passes") <= 0; {
		select {
		case <-r.Server.Done():
			r.Target.Down()
			return false
		case <-late:
			t.Fatal("never: everything at rest was read")
		case <-run.System{}.After(5 * time.Millisecond):
		}
	}
	return true
}

// told reports whether a server's log has a warning or an error.
func told(log string) bool {
	return strings.Contains(log, `"level":"WARN"`) || strings.Contains(log, `"level":"ERROR"`)
}

// metric returns a gauge or counter of the server.
func metric(t *testing.T, r *ledger.Rig, name string) float64 {
	t.Helper()
	a, err := http.Get(r.Server.Admin + "/metrics")
	if err != nil {
		return -1 // it is ending
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		return -1
	}
	for _, l := range strings.Split(string(b), "\n") {
		if rest, ok := strings.CutPrefix(l, name+" "); ok {
			v, err := strconv.ParseFloat(rest, 64)
			must(t, err)
			return v
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}
