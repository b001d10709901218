package node

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"laaster/internal/change"
	"laaster/internal/kit/run"
)

// shifted is the system's clock, moved on by hand.
type shifted struct {
	run.System
	by atomic.Int64
}

func (s *shifted) Now() time.Time { return s.System.Now().Add(time.Duration(s.by.Load())) }

func startWith(t *testing.T, o Options) *life {
	t.Helper()
	o.Logger = slog.New(slog.DiscardHandler)
	n, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return &life{t, n, func() {}, n.PublicURL()}
}

func (l *life) degraded() (out []string) {
	for _, d := range l.n.degraded.list() {
		out = append(out, d.What)
	}
	return out
}

// TestCanaryDisagrees puts a fingerprint into the log that no replay can have: a start passes the checkpoint over, reads the whole log, and says that
// the log disagrees with itself. One that is right changes nothing.
func TestCanaryDisagrees(t *testing.T) {
	for _, wrong := range []bool{false, true} {
		dir, s := t.TempDir(), settingsFor(filepath.Join(t.TempDir(), "data"), "embedded")
		s.Scrub.Rate = 0
		writeApp(t, dir, votesSQL)
		clock := &shifted{}
		l := startWith(t, Options{Dir: dir, Settings: s, Clock: clock})
		l.write("POST", "/v1/tables/votes", `{"contestant":"a"}`)
		at := l.checkpoint()
		clock.by.Add(int64(2 * time.Second))
		seq := seqOf(t, l.write("POST", "/v1/tables/votes", `{"contestant":"b"}`).Position) // the first of its second
		if wrong {
			k := change.Canary{Log: l.n.shard.ID(), Seq: seq, Fingerprint: [16]byte{1, 2, 3}}
			if err := l.n.betweenBatches(func() { k.Plan = l.n.engine.Identity() }); err != nil {
				t.Fatal(err)
			}
			l.n.writer.Note(change.EntryCanary, k.Append(nil))
		}
		l.write("POST", "/v1/tables/votes", `{"contestant":"b"}`)
		was := l.views("tally")
		killed := l.image(&s)
		l.end()
		k := startWith(t, Options{Dir: dir, Settings: killed, Clock: clock})
		if is := k.views("tally"); is != was {
			t.Errorf("before\n%s\nafter\n%s", was, is)
		}
		d := k.degraded()
		switch {
		case wrong && (k.n.from.Header.Seq != 0 || !slices.Contains(d, "canary") || !slices.Contains(d, "checkpoint")):
			t.Errorf("from %d, degraded %v", k.n.from.Header.Seq, d)
		case !wrong && (k.n.from.Header.Seq != at || len(d) != 0 || k.n.canary.agreed == 0):
			t.Errorf("from %d, not %d, degraded %v, %d fingerprints agreed", k.n.from.Header.Seq, at, d, k.n.canary.agreed)
		}
		if wrong {
			k.checkpoint() // at the position of the one that was passed over, or later
		}
		k.end()
	}
}

// TestDiskLow: while the disk is low, writes are refused with the reason and reads go on; when it has room, writes are taken by themselves.
func TestDiskLow(t *testing.T) {
	dir, s := t.TempDir(), settingsFor(filepath.Join(t.TempDir(), "data"), "embedded")
	s.Limits.PendingWait = 0
	writeApp(t, dir, votesSQL)
	var free atomic.Uint64
	free.Store(1 << 40)
	l := startWith(t, Options{Dir: dir, Settings: s, Clock: run.System{}, Free: func(string) (uint64, error) { return free.Load(), nil }})
	l.write("POST", "/v1/tables/votes", `{"contestant":"a"}`)
	until := func(low bool) {
		for slices.Contains(l.degraded(), "disk") != low {
			runtime.Gosched()
		}
	}
	free.Store(1 << 20)
	until(true)
	status, text, h := l.call("POST", "/v1/tables/votes", `{"contestant":"a"}`)
	if status != http.StatusServiceUnavailable || !strings.Contains(text, "disk") || !strings.Contains(text, "1 MiB are free") || h.Get("Retry-After") == "" {
		t.Errorf("%d %s", status, text)
	}
	l.expect("/v1/views/tally", `[{"contestant":"a","votes":1,"points":1}]`)
	l.change(votesSQL + "GRANT SELECT ON votes TO anon;\n") // what serves to end it goes on
	free.Store(uint64(s.Disk.LowWater) + 1)                 // less than a tenth above: not yet
	status, _, _ = l.call("POST", "/v1/tables/votes", `{"contestant":"a"}`)
	if status != http.StatusServiceUnavailable {
		t.Errorf("%d just above the mark", status)
	}
	free.Store(1 << 40)
	until(false)
	l.write("POST", "/v1/tables/votes", `{"contestant":"a"}`)
	l.end()
}

// TestStopInCheckpoint stops a node while checkpoints are asked for and a deployment may be under way: the next start has everything.
func TestStopInCheckpoint(t *testing.T) {
	dir, s := t.TempDir(), settingsFor(filepath.Join(t.TempDir(), "data"), "embedded")
	writeApp(t, dir, keptSQL)
	rng := rand.New(rand.NewPCG(4, 4))
	names := []string{"tally", "best", "teams", "seen", "players"}
	was := ""
	for round := range 4 {
		l := start(t, dir, s)
		if is := l.views(names...); round > 0 && is != was {
			t.Fatalf("round %d: before\n%s\nafter\n%s", round, was, is)
		}
		l.some(rng)
		was = l.views(names...)
		g, asked := run.New(t.Context()), make(chan struct{})
		g.Go("checkpoint", func(ctx context.Context) error {
			close(asked)
			for {
				if _, err := l.n.Checkpoint(ctx); err != nil { // the node has left
					return nil
				}
			}
		})
		<-asked
		l.end()
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNoRoomForCheckpoint: without room on the disk there is no checkpoint, and who asks for one is told so.
func TestNoRoomForCheckpoint(t *testing.T) {
	dir, s := t.TempDir(), settingsFor(filepath.Join(t.TempDir(), "data"), "embedded")
	writeApp(t, dir, votesSQL)
	var free atomic.Uint64
	free.Store(1 << 40)
	l := startWith(t, Options{Dir: dir, Settings: s, Clock: run.System{}, Free: func(string) (uint64, error) { return free.Load(), nil }})
	defer l.end()
	l.write("POST", "/v1/tables/votes", `{"contestant":"a"}`)
	free.Store(1)
	if seq, err := l.n.Checkpoint(t.Context()); err == nil {
		t.Errorf("a checkpoint of %d with one byte free", seq)
	}
	if !slices.Contains(l.degraded(), "checkpoint") {
		t.Error(l.degraded())
	}
	free.Store(1 << 40)
	l.checkpoint()
	if slices.Contains(l.degraded(), "checkpoint") {
		t.Error(l.degraded())
	}
}
