package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"laaster/app"
	"laaster/internal/backbone"
	"laaster/internal/backbone/archive"
	"laaster/internal/change"
	"laaster/internal/kit/run"
	"laaster/internal/seal"
)

// booked is a writer's ledger: after each position what the votes are.
type booked struct {
	seq   []uint64
	total []int
}

// at returns the votes after a position.
func (b *booked) at(seq uint64) (total int) {
	for i, s := range b.seq {
		if s <= seq {
			total = b.total[i]
		}
	}
	return total
}

// vote writes n requests of one or more votes, one after the other, and books them.
func (b *booked) vote(l *life, r *rand.Rand, n int) {
	l.t.Helper()
	for range n {
		rows := 1 + r.IntN(3)
		body := "[" + strings.TrimSuffix(strings.Repeat(`{"contestant":"A"},`, rows), ",") + "]"
		res := l.write("POST", "/v1/tables/votes", body)
		total := rows
		if len(b.total) > 0 {
			total += b.total[len(b.total)-1]
		}
		b.seq, b.total = append(b.seq, seqOf(l.t, res.Position)), append(b.total, total)
	}
}

// checkedSettings have frequent checkpoints.
func checkedSettings(data string) app.Settings {
	s := settingsFor(data, "embedded")
	s.Durability = "buffered"
	s.Checkpoint.Every, s.Checkpoint.CopyEvery = app.Duration(50*time.Millisecond), app.Duration(time.Second)
	s.Disk.Reserve = 0
	return s
}

// wantVotes starts a node on a data folder and compares its votes.
func wantVotes(t *testing.T, what, dir string, s app.Settings, want int) {
	t.Helper()
	l, err := tryStart(t, dir, s)
	if err != nil {
		t.Errorf("%s: start: %v", what, err)
		return
	}
	defer l.end()
	text := "[]"
	if want > 0 {
		text = fmt.Sprintf(`[{"contestant":"A","votes":%d,"points":%d}]`, want, want)
	}
	l.expect("/v1/views/tally", text)
	if t.Failed() {
		t.Errorf("%s: in the above", what)
	}
	var b booked
	b.vote(l, rand.New(rand.NewPCG(1, 1)), 1) // it takes writes
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// fetchBackup has a running node make a backup.
func fetchBackup(t *testing.T, l *life) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "backup")
	r, err := http.Get(l.n.AdminURL() + "/v1/backup")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", r.Status, b)
	}
	if err == nil {
		err = os.WriteFile(file, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func restoreTo(t *testing.T, file, until, keys string) (string, *Restored, error) {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	r, err := Restore(t.Context(), RestoreOptions{File: file, Data: data, Until: until, Keys: keys, Clock: run.System{}, Logger: quiet()})
	return data, r, err
}

// TestBackup makes backups under load and restores them to their end, to positions and to times: each is as the ledger says. Tampered ones
// leave nothing behind.
func TestBackup(t *testing.T) {
	for _, name := range []string{"plain", "sealed", "trimmed"} {
		t.Run(name, func(t *testing.T) {
			dir, data := t.TempDir(), t.TempDir()
			writeApp(t, dir, votesSQL)
			s, keys := checkedSettings(data), ""
			if name == "sealed" {
				keys = filepath.Join(dir, "keys")
				line, err := seal.NewLine("k")
				if err = errors.Join(err, os.WriteFile(keys, []byte(line), 0o600)); err != nil {
					t.Fatal(err)
				}
				s.Encryption.Keys = keys
			}
			l := start(t, dir, s)
			var b booked
			r := rand.New(rand.NewPCG(5, 5))
			b.vote(l, r, 60)
			if _, err := l.n.Checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
			if name == "trimmed" {
				if err := l.n.shard.Trim(t.Context(), l.n.oldestKept()+1); err != nil || l.n.shard.First() < 3 {
					t.Fatalf("trim: %v, first %d", err, l.n.shard.First())
				}
			}
			var files []string
			g := run.New(t.Context())
			begun, done := make(chan struct{}), make(chan struct{})
			g.Go("writer", func(context.Context) error {
				for i := 0; ; i++ {
					if i == 5 {
						close(begun)
					}
					select {
					case <-done:
						return nil
					default:
						b.vote(l, r, 1)
					}
				}
			})
			<-begun
			for range 3 {
				files = append(files, fetchBackup(t, l))
			}
			close(done)
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			id := l.n.shard.ID().String()
			l.end()
			for i, file := range files {
				m, h, err := VerifyBackup(file, keys)
				if err != nil || m.Log != id || h.Sealed != (keys != "") || len(m.Checkpoints) == 0 {
					t.Fatalf("backup %d: %v, %+v", i, err, m)
				}
				restored, done, err := restoreTo(t, file, "", keys)
				if err != nil || done.Until != m.Until || done.Log == id || done.Parent != id {
					t.Fatalf("restore %d: %v, %+v", i, err, done)
				}
				rs := s
				rs.Data = restored
				wantVotes(t, fmt.Sprint("backup ", i), dir, rs, b.at(m.Until))
				lineage, err := backbone.ReadLineage(restored)
				if err != nil || lineage == nil || lineage.Parent != id || lineage.Branch != m.Until || lineage.Reason != "restore" {
					t.Errorf("lineage: %+v, %v", lineage, err)
				}
			}
			testPointInTime(t, files[2], keys, dir, s, &b, r)
			testTampered(t, files[2], keys, r)
			full := filepath.Join(t.TempDir(), "full")
			f, err := os.Create(full)
			if err != nil {
				t.Fatal(err)
			}
			m, err := Backup(t.Context(), BackupOptions{Settings: s, Clock: run.System{}, Logger: quiet()}, f)
			if err = errors.Join(err, f.Close()); err != nil || m.Until < b.seq[len(b.seq)-1] {
				t.Fatalf("backup of a stopped server: %v", err)
			}
			rs := s
			if rs.Data, _, err = restoreTo(t, full, "", keys); err != nil {
				t.Fatal(err)
			}
			wantVotes(t, "stopped", dir, rs, b.total[len(b.total)-1])
		})
	}
}

// testPointInTime restores to random positions and times.
func testPointInTime(t *testing.T, file, keys, dir string, s app.Settings, b *booked, r *rand.Rand) {
	ring, err := loadKeys("", keys)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	stamps := map[uint64]int64{}
	m, err := archive.Read(raw, ring, archive.Visitor{Batch: func(b *change.Batch) error { stamps[b.Header().Seq] = b.Header().Stamp; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	earliest := m.First
	if m.First > 1 {
		earliest = m.Checkpoints[0].Seq
	}
	for i := range 4 {
		seq := earliest + uint64(r.Int64N(int64(m.Until-earliest+1)))
		until := []string{fmt.Sprint(seq), m.Log + fmt.Sprintf(".0-%d", seq)}[i%2]
		if stamp := stamps[seq]; i >= 2 && stamp != 0 {
			until = time.UnixMicro(stamp + r.Int64N(max(1, stamps[seq+1]-stamp))).UTC().Format(time.RFC3339Nano)
		}
		rs := s
		var done *Restored
		if rs.Data, done, err = restoreTo(t, file, until, keys); err != nil || done.Until != seq {
			t.Fatalf("restore to %s (%d): %v, %+v", until, seq, err, done)
		}
		wantVotes(t, "until "+until, dir, rs, b.at(seq))
	}
	for _, until := range []string{"soon", "0", fmt.Sprint(m.Until + 1), "2001-01-01T00:00:00Z", strings.Repeat("a", 16) + ".0-5", fmt.Sprint(earliest - 1)} {
		if data, _, err := restoreTo(t, file, until, keys); err == nil || !strings.Contains(err.Error(), "--until") {
			t.Errorf("restore to %q: %v", until, err)
		} else if _, err := os.Stat(data); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("restore to %q left something: %v", until, err)
		}
	}
}

// testTampered changes the set at random places.
func testTampered(t *testing.T, file, keys string, r *rand.Rand) {
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		bad := append([]byte(nil), raw...)
		if at := r.IntN(len(bad)); r.IntN(3) == 0 {
			bad = bad[:at]
		} else {
			bad[at] ^= 1 << r.IntN(8)
		}
		other := filepath.Join(t.TempDir(), "bad")
		if err := os.WriteFile(other, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		data, _, err := restoreTo(t, other, "", keys)
		if err == nil {
			t.Fatal("a tampered backup was restored")
		}
		if left, _ := filepath.Glob(filepath.Dir(data) + "/*"); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// TestRestoreInto refuses folders that have something in them.
func TestRestoreInto(t *testing.T) {
	dir, data := t.TempDir(), t.TempDir()
	writeApp(t, dir, votesSQL)
	l := start(t, dir, checkedSettings(data))
	file := fetchBackup(t, l)
	l.end()
	if _, err := Restore(t.Context(), RestoreOptions{File: file, Data: data, Clock: run.System{}, Logger: quiet()}); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("into a folder that is in use: %v", err)
	}
	empty := t.TempDir()
	if _, err := Restore(t.Context(), RestoreOptions{File: file, Data: empty, Root: strings.Repeat("0", 64), Clock: run.System{}, Logger: quiet()}); err == nil || !strings.Contains(err.Error(), "root") {
		t.Errorf("with another root: %v", err)
	}
	if _, err := Restore(t.Context(), RestoreOptions{File: file, Data: empty, Clock: run.System{}, Logger: quiet()}); err != nil {
		t.Errorf("into an empty folder: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Restore(ctx, RestoreOptions{File: file, Data: filepath.Join(t.TempDir(), "x"), Clock: run.System{}, Logger: quiet()}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}
