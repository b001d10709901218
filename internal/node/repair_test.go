package node

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"laaster/app"
	"laaster/internal/backbone"
	"laaster/internal/kit/run"
)

func openRepair(t *testing.T, s app.Settings) (*Repair, error) {
	t.Helper()
	return OpenRepair(t.Context(), RepairOptions{Settings: s, Clock: run.System{}, Logger: quiet()})
}

// damagedFolder is a data folder and its ledger, to be copied and damaged.
type damagedFolder struct {
	app  string
	data string
	s    app.Settings
	b    booked
	log  string
	head uint64
}

// newDamaged makes one: a third of the votes, a checkpoint and its copy, a third, a second checkpoint, and a third with none behind it.
func newDamaged(t *testing.T, trim bool) *damagedFolder {
	t.Helper()
	f := &damagedFolder{app: t.TempDir(), data: t.TempDir()}
	writeApp(t, f.app, votesSQL)
	f.s = checkedSettings(f.data)
	f.s.Checkpoint.Every = app.Duration(3600e9)
	l := start(t, f.app, f.s)
	r := rand.New(rand.NewPCG(9, 9))
	for i := range 3 {
		f.b.vote(l, r, 40)
		if i == 2 {
			break
		}
		if _, err := l.n.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if trim {
		if err := l.n.shard.Trim(t.Context(), l.n.oldestKept()+1); err != nil || l.n.shard.First() < 3 {
			t.Fatalf("trim: %v, first %d", err, l.n.shard.First())
		}
	}
	f.log, f.head = l.n.shard.ID().String(), l.n.shard.Head()
	killed := t.TempDir()
	if err := os.CopyFS(killed, os.DirFS(f.data)); err != nil { // as a kill leaves it
		t.Fatal(err)
	}
	l.end()
	f.data = killed
	if err := os.Remove(filepath.Join(killed, "LOCK")); err != nil {
		t.Fatal(err)
	}
	return f
}

// copy returns the settings of a copy.
func (f *damagedFolder) copy(t *testing.T) app.Settings {
	t.Helper()
	s := f.s
	s.Data = t.TempDir()
	if err := os.CopyFS(s.Data, os.DirFS(f.data)); err != nil {
		t.Fatal(err)
	}
	return s
}

// hurtFolder damages files of a data folder and says how.
func hurtFolder(t *testing.T, r *rand.Rand, dir string) string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(dir, path); err == nil && !d.IsDir() && !strings.HasPrefix(rel, "audit") && rel != "FORMAT" && rel != "LOCK" {
			files = append(files, path)
			if strings.HasSuffix(path, ".blk") { // these more often
				files = append(files, path, path, path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var what []string
	for range 1 + r.IntN(3) {
		file := files[r.IntN(len(files))]
		b, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || len(b) == 0 {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		at := r.IntN(len(b))
		switch r.IntN(5) {
		case 0:
			what = append(what, file+" removed")
			err = os.Remove(file)
		case 1:
			what = append(what, fmt.Sprintf("%s cut at %d of %d", file, at, len(b)))
			err = os.Truncate(file, int64(at))
		default:
			what = append(what, fmt.Sprintf("%s byte %d flipped", file, at))
			b[at] ^= 1 << r.IntN(8)
			err = os.WriteFile(file, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return strings.Join(what, "; ")
}

// TestRepair damages data folders and repairs them. What the files still have is there afterwards, what the repair says is lost is all that is lost, no
// position is used again, and nothing is left to repair.
func TestRepair(t *testing.T) {
	seeds := uint64(12)
	if n, err := strconv.ParseUint(os.Getenv("LAASTER_SEEDS"), 10, 64); err == nil {
		seeds = n
	}
	for _, trim := range []bool{false, true} {
		t.Run(map[bool]string{false: "whole", true: "trimmed"}[trim], func(t *testing.T) {
			f := newDamaged(t, trim)
			s := f.copy(t)
			r, err := openRepair(t, s)
			if err != nil || r.Needed() || !strings.Contains(r.Text(), "Nothing is damaged") {
				t.Fatalf("a sound folder: %v\n%s", err, r.Text())
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			done := map[string]int{}
			for seed := range seeds {
				s := f.copy(t)
				what := hurtFolder(t, rand.New(rand.NewPCG(seed, 4)), s.Data)
				done[f.repair(t, s, what)]++
				if t.Failed() {
					t.Fatalf("seed %d: %s", seed, what)
				}
			}
			t.Log(done)
		})
	}
}

// repair repairs a copy, looks at what became of it, and says what was done.
func (f *damagedFolder) repair(t *testing.T, s app.Settings, what string) string {
	t.Helper()
	before := tree(t, s.Data)
	r, err := openRepair(t, s)
	if err != nil {
		if !strings.Contains(err.Error(), "restore a backup") {
			t.Errorf("look: %v", err)
		}
		return "refused"
	}
	defer r.Close()
	text := r.Text()
	if now := tree(t, s.Data); now != before {
		t.Errorf("looking has changed the files: %s, before %s", now, before)
	}
	if !r.Needed() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		wantVotes(t, "nothing to repair", f.app, s, f.b.at(f.head))
		return "nothing"
	}
	done, err := r.Do(t.Context())
	if err := errors.Join(err, r.Close()); err != nil {
		t.Errorf("repair: %v\n%s", err, text)
		return "failed"
	}
	if _, err := os.Stat(done.Kept); err != nil {
		t.Errorf("what was there is not kept: %v", err)
	}
	again, err := openRepair(t, s)
	if err != nil {
		t.Errorf("look again: %v", err)
		return "failed"
	}
	if again.Needed() {
		t.Errorf("there is something left to repair:\n%s\nafter\n%s", again.Text(), text)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	l, err := tryStart(t, f.app, s)
	if err != nil {
		t.Errorf("start after\n%s: %v", text, err)
		return "failed"
	}
	defer l.end()
	if done.Rewritten && (l.n.shard.ID().String() == f.log || l.n.shard.Head() <= f.head && !f.lostMark(what)) {
		t.Errorf("the log %s of %s ends at %d, which ended at %d", l.n.shard.ID(), f.log, l.n.shard.Head(), f.head)
	}
	if lineage, err := backbone.ReadLineage(s.Data); done.Rewritten && (err != nil || lineage == nil || lineage.Parent != f.log || lineage.Reason != "repair") {
		t.Errorf("lineage: %+v, %v", lineage, err)
	}
	lost := 0
	for i, seq := range f.b.seq {
		if r.best != nil && seq <= r.best.Header.Seq {
			continue
		}
		for _, x := range done.Lost {
			if x.From <= seq && seq <= x.To {
				lost += f.b.total[i] - f.b.at(seq-1)
			}
		}
		if seq > r.survey.Last { // nothing tells that it was
			lost += f.b.total[i] - f.b.at(seq-1)
		}
	}
	want := f.b.total[len(f.b.total)-1] - lost
	l.expect("/v1/views/tally", fmt.Sprintf(`[{"contestant":"A","votes":%d,"points":%d}]`, want, want))
	if t.Failed() {
		t.Log(text)
	}
	if done.Rewritten {
		return "rewritten"
	}
	return "renewed"
}

// lostMark reports whether what was done to a folder may have taken away every sign of how long the log was.
func (f *damagedFolder) lostMark(what string) bool { return strings.Contains(what, "highwater-0") }

// tree returns the names and sizes of everything in a folder.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "LOCK" {
			return err
		}
		info, err := d.Info()
		if err == nil {
			fmt.Fprintf(&b, "%s %d\n", path, info.Size())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
