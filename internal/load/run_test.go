package load_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"laaster/app"
	"laaster/internal/kit/run"
	"laaster/internal/load"
	"laaster/internal/node"
)

// serve runs the app of a profile in this process and returns its address.
func serve(t *testing.T, profile string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "app.sql"), []byte(load.AppSQL(profile)), 0o600); err != nil {
		t.Fatal(err)
	}
	s := app.DefaultSettings()
	s.Listen, s.Admin, s.Data = "127.0.0.1:0", "127.0.0.1:0", filepath.Join(dir, "data")
	n, err := node.Start(t.Context(), node.Options{Dir: dir, Settings: s, Clock: run.System{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := n.Wait(ctx); err != nil {
			t.Error(err)
		}
	})
	return n.PublicURL()
}

// figure returns a figure of a report.
func figure(t *testing.T, r *load.Report, name string) float64 {
	t.Helper()
	for _, f := range r.Figures {
		if f.Name == name {
			return f.Value
		}
	}
	t.Errorf("%s: there is no figure %q", r.Profile, name)
	return 0
}

// measure runs a profile against a server in this process, when none is given one of its own, and fails where a check does.
func measure(t *testing.T, o load.Options) *load.Report {
	t.Helper()
	if o.PID = os.Getpid(); o.URL == "" {
		o.URL = serve(t, o.Profile)
	}
	r, err := load.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Checks {
		if !c.OK {
			t.Errorf("%s: %s: %s", r.Profile, c.Name, c.Detail)
		}
	}
	if len(r.Checks) == 0 || len(r.Figures) < 3 || len(r.Errors) > 0 {
		t.Errorf("%d checks, %d figures, errors %q", len(r.Checks), len(r.Figures), r.Errors)
	}
	var text bytes.Buffer
	if err := r.Text(&text); err != nil || !strings.Contains(text.String(), r.Summary) {
		t.Errorf("%v\n%s", err, text.String())
	}
	wellFormed(t, r)
	return r
}

// wellFormed parses the page of a report and its JSON.
func wellFormed(t *testing.T, r *load.Report) {
	t.Helper()
	page, err := r.HTML()
	if err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(bytes.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the page is not well formed: %v", err)
		}
	}
	for _, odd := range []string{"NaN", "Inf", "<no value>", "ZgotmplZ", "http://", "https://", "<script"} {
		if bytes.Contains(page, []byte(odd)) {
			t.Errorf("the page has %q in it", odd)
		}
	}
	var j bytes.Buffer
	if err := r.JSON(&j); err != nil {
		t.Fatal(err)
	}
	var again load.Report
	if err := json.Unmarshal(j.Bytes(), &again); err != nil || len(again.Figures) != len(r.Figures) {
		t.Errorf("the JSON cannot be read back: %v", err)
	}
}

// TestFanout: every change comes to every client, over HTTP and WebSocket, merged or each on its own.
func TestFanout(t *testing.T) {
	url := serve(t, "fanout")
	for name, o := range map[string]load.Options{
		"http":     {},
		"ws":       {Over: load.OverWS},
		"sse":      {Watch: load.OverEvents, Every: true, Rate: 300},
		"every":    {Every: true, Rate: 500},
		"saturate": {Saturate: true},
		"trace":    {Trace: []load.Arrival{{AtMS: 0, Rows: 3}, {AtMS: 200, Rows: 20}, {AtMS: 350, Rows: 2}}},
		"burst":    {Burst: load.Bursts{Times: 5, On: 100 * time.Millisecond, Every: 500 * time.Millisecond}},
		"ramp":     {Rate: 10, To: 200, Batch: 4},
		"loops":    {Loops: 3, Rate: 200},
	} {
		t.Run(name, func(t *testing.T) {
			o.Profile, o.URL, o.Clients, o.Rows, o.Length, o.Warm = "fanout", url, 20, 40, 400*time.Millisecond, 10*time.Millisecond
			var mu sync.Mutex
			told := 0
			o.Progress = func(load.Progress) { mu.Lock(); told++; mu.Unlock() }
			r := measure(t, o)
			mu.Lock()
			defer mu.Unlock()
			if figure(t, r, "changes delivered") == 0 || told == 0 {
				t.Errorf("nothing delivered, or no progress: %+v", r.Figures)
			}
		})
	}
}

// TestChannels: each client gets the changes of its row.
func TestChannels(t *testing.T) {
	for name, o := range map[string]load.Options{"batches": {Batch: 5}, "single": {Batch: 1, Conns: 8}, "some": {Changing: 7}} {
		t.Run(name, func(t *testing.T) {
			o.Profile, o.Clients, o.Rate, o.Length, o.Warm = "channels", 50, 1000, time.Second, 10*time.Millisecond
			r := measure(t, o)
			if figure(t, r, "server time per change") <= 0 {
				t.Error("no processor time")
			}
			if o.Changing > 0 && figure(t, r, "server time per change beyond rest") == 0 {
				t.Error("nothing beyond rest")
			}
			if len(r.Delays) != 2 || r.Delays[0].Count < 900 {
				t.Errorf("%+v", r.Delays)
			}
		})
	}
}

// TestStorm: everybody comes back and resumes, over both transports.
func TestStorm(t *testing.T) {
	for _, watch := range []string{load.OverWS, load.OverEvents} {
		r := measure(t, load.Options{Profile: "storm", Clients: 100, Rounds: 2, Rate: 100, Missed: 10, Length: 100 * time.Millisecond, Window: 20,
			Watch: watch})
		if len(r.Tables) != 1 || len(r.Tables[0].Rows) != 2 || r.Tables[0].Rows[1][4] < 10 || r.Delays[0].Count != 200 {
			t.Errorf("%+v", r.Tables)
		}
	}
}

func TestSlow(t *testing.T) {
	r := measure(t, load.Options{Profile: "slow", Clients: 30, Slow: 5, Rounds: 2, Rate: 100, Length: 500 * time.Millisecond, LineRate: 20_000})
	if len(r.Tables) != 1 || len(r.Tables[0].Rows) != 2 {
		t.Errorf("%+v", r.Tables)
	}
}

func TestIdle(t *testing.T) {
	r := measure(t, load.Options{Profile: "idle", Clients: 200, Length: 300 * time.Millisecond, Window: 10})
	figure(t, r, "resident memory per connection")
	figure(t, r, "processor time for heartbeats")
}

func TestIngest(t *testing.T) {
	for _, over := range []string{load.OverHTTP, load.OverWS} {
		r := measure(t, load.Options{Profile: "ingest", Rates: []float64{2000, 4000}, Batch: 50, Clients: 3, Conns: 4, Length: 500 * time.Millisecond,
			Warm: 10 * time.Millisecond, Over: over})
		rows := r.Tables[0].Rows
		if len(rows) != 2 || rows[0][1] < 1000 || rows[1][8] != 0 || len(r.Delays) != 4 || r.Delays[1].Count < 3*15 {
			t.Errorf("%+v, %+v", rows, r.Delays)
		}
	}
}

// TestInterrupted: what there is is reported when the context ends early.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := load.Options{Profile: "fanout", URL: serve(t, "fanout"), Clients: 5, Length: time.Hour, Warm: time.Millisecond}
	o.Progress = func(p load.Progress) {
		if p.Delivered > 0 {
			cancel()
		}
	}
	r, err := load.Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Interrupted || len(r.Delays) == 0 || r.Delays[0].Count == 0 {
		t.Errorf("%+v", r)
	}
	for _, c := range r.Checks {
		if !c.OK {
			t.Errorf("%s: %s", c.Name, c.Detail)
		}
	}
	wellFormed(t, r)
}

// TestWrongServers: what is no server with the profile's app is told apart.
func TestWrongServers(t *testing.T) {
	_, err := load.Run(t.Context(), load.Options{Profile: "fanout", URL: serve(t, "ingest"), Clients: 1})
	if err == nil || !strings.Contains(err.Error(), "--print-app") {
		t.Error(err)
	}
	_, err = load.Run(t.Context(), load.Options{Profile: "fanout", URL: "http://127.0.0.1:1", Clients: 1})
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Error(err)
	}
}

// TestPlainSwarm: a goroutine for each client does what the event loop does: joins, reads slowly, is cut and comes back.
func TestPlainSwarm(t *testing.T) {
	url := serve(t, "fanout")
	if _, err := load.Run(t.Context(), load.Options{Profile: "fanout", URL: url, Clients: 1, Length: 50 * time.Millisecond}); err != nil {
		t.Fatal(err) // makes the rows
	}
	var mu sync.Mutex
	kinds := map[load.Kind]int{}
	for _, rate := range []int{0, 100_000} {
		s, err := load.NewSwarm(t.Context(), 20, load.SwarmOptions{URL: url, Plain: true, Window: 4, Rate: rate,
			Hello: func(_ int, resume string) string {
				hello := `"subscribe":[{"id":"1","view":"bench_feed"}]`
				if resume != "" {
					hello += `,"resume":"` + resume + `"`
				}
				return hello
			},
			Frame: func(_ *load.Client, kind load.Kind, _ []byte, _ time.Duration) { mu.Lock(); kinds[kind]++; mu.Unlock() }})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Open(t.Context(), 0, 20); err != nil {
			t.Fatal(err)
		}
		s.Cut(0, 20)
		if c := s.Count(); c.Live != 0 {
			t.Errorf("%d live after the cut", c.Live)
		}
		if err := s.Open(t.Context(), 0, 20); err != nil {
			t.Fatal(err)
		}
		if c := s.Count(); c.Live != 20 || c.Opened != 40 || c.Lost != 0 {
			t.Errorf("%+v", c)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if kinds["snapshot"] != 40 || kinds["resumed"] != 40 || kinds["welcome"] != 80 {
		t.Errorf("%v", kinds)
	}
}
