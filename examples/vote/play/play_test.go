package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"laaster/examples/vote/data"
	"laaster/examples/vote/show"
	"laaster/internal/kit/run"
)

// server is as much of Laaster as the player uses, with faults: it refuses some requests, and forgets to answer others that
// it has carried out.
type server struct {
	faults bool

	mu struct {
		sync.Mutex
		n       int
		tables  map[string]map[string]map[string]any               // table → key → row
		version int                                                // of the stage
		changed chan struct{}                                      // closed when it changes
		hook    func(table string, rows map[string]map[string]any) // called after each write
	}
}

func newServer(faults bool) *server {
	s := &server{faults: faults}
	s.mu.tables = map[string]map[string]map[string]any{"show": {}, "votes": {}, "catalog": {}, "contestants": {}}
	s.mu.changed = make(chan struct{})
	return s
}

func key(table string, row map[string]any) string {
	if table == "contestants" {
		return fmt.Sprint(row["run"], "/", row["country"])
	}
	return fmt.Sprint(row["id"])
}

func (s *server) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	s.mu.Lock()
	s.mu.n++
	n := s.mu.n
	s.mu.Unlock()
	if s.faults && n%7 == 3 {
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return
	}
	if q.Method == http.MethodGet {
		s.read(w, q)
		return
	}
	table := strings.TrimPrefix(q.URL.Path, "/v1/tables/")
	s.write(q.Method, table, q, body)
	if s.faults && n%5 == 1 {
		panic(http.ErrAbortHandler) // done, but nobody hears of it
	}
	fmt.Fprint(w, `{"position":"p","final":true,"accepted":1,"duplicates":0,"rejected":[]}`)
}

func (s *server) write(method, table string, q *http.Request, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := s.mu.tables[table]
	if method == http.MethodPatch {
		var patch map[string]any
		_ = json.Unmarshal(body, &patch)
		for _, row := range rows {
			want := strings.TrimPrefix(q.URL.Query().Get("run"), "eq.")
			if want == "" || want == row["run"] {
				maps.Copy(row, patch)
			}
		}
	} else {
		var list []map[string]any
		_ = json.Unmarshal(body, &list)
		for _, row := range list {
			if k := key(table, row); rows[k] == nil {
				rows[k] = row
			}
		}
	}
	if table == "show" {
		s.mu.version++
		close(s.mu.changed)
		s.mu.changed = make(chan struct{})
	}
	if s.mu.hook != nil {
		s.mu.hook(table, rows)
	}
}

// read answers for the stage alone; with If-None-Match it holds the request until there is something new.
func (s *server) read(w http.ResponseWriter, q *http.Request) {
	for {
		s.mu.Lock()
		tag, changed := fmt.Sprintf(`"%d"`, s.mu.version), s.mu.changed
		list := []map[string]any{}
		for _, row := range s.mu.tables["show"] {
			list = append(list, maps.Clone(row))
		}
		s.mu.Unlock()
		if q.Header.Get("If-None-Match") != tag {
			w.Header().Set("ETag", tag)
			_ = json.NewEncoder(w).Encode(list)
			return
		}
		select {
		case <-changed:
		case <-q.Context().Done():
			return
		}
	}
}

func (s *server) totals(run string) map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]int{}
	for _, row := range s.mu.tables["contestants"] {
		if row["run"] == run {
			out[row["country"].(string)] = 0
		}
	}
	for _, row := range s.mu.tables["votes"] {
		if row["run"] == run {
			out[row["to_country"].(string)] += int(row["points"].(float64))
		}
	}
	return out
}

func (s *server) stage() map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.mu.tables["show"]["stage"])
}

func newPlayer(t *testing.T, url string, set settings) *player {
	t.Helper()
	contests, err := show.Read(data.Votes())
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	return &player{
		api:   &api{base: url, client: &http.Client{}, clock: run.System{}, log: log},
		clock: run.System{}, log: log, contests: contests, settings: set,
	}
}

func final(t *testing.T, year int) map[string]int {
	t.Helper()
	contests, err := show.Read(data.Votes())
	if err != nil {
		t.Fatal(err)
	}
	return contests.Find(year, "final").Result()
}

// The table ends at the official result although requests are refused, answers are lost and the player is stopped in the
// middle and started again.
func TestPlayEndsAtTheOfficialResult(t *testing.T) {
	s := newServer(true)
	web := httptest.NewServer(s)
	defer web.Close()

	ctx, stop := context.WithCancel(t.Context())
	s.mu.hook = func(table string, rows map[string]map[string]any) {
		if table == "votes" && len(rows) > 300 {
			stop()
		}
	}
	set := settings{year: 2022, round: "final", speed: 200, once: true}
	if err := newPlayer(t, web.URL, set).play(ctx); err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.mu.hook = nil
	half := len(s.mu.tables["votes"])
	s.mu.Unlock()
	if half < 300 || half > 2000 {
		t.Fatalf("stopped after %d votes, want it in the middle", half)
	}
	if err := newPlayer(t, web.URL, set).play(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := s.totals("0001-2022-final"), final(t, 2022); !maps.Equal(got, want) {
		t.Errorf("the board ends at %v, want %v", got, want)
	}
	if stage := s.stage(); stage["phase"] != "ended" {
		t.Errorf("the stage ends as %v", stage)
	}
	set.again = true
	if err := newPlayer(t, web.URL, set).play(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := s.totals("0002-2022-final"), final(t, 2022); !maps.Equal(got, want) {
		t.Errorf("played again the board ends at %v, want %v", got, want)
	}
}

// The studio page may put on another show at any time; the player follows.
func TestAnotherShowIsPutOn(t *testing.T) {
	s := newServer(false)
	web := httptest.NewServer(s)
	defer web.Close()
	p := newPlayer(t, web.URL, settings{year: 2022, round: "final", speed: 1, once: true})
	var once sync.Once
	s.mu.hook = func(table string, _ map[string]map[string]any) {
		if table != "votes" {
			return
		}
		once.Do(func() { // at speed 1 the first show would take minutes
			maps.Copy(s.mu.tables["show"]["stage"], map[string]any{
				"run": "0002-1974-final", "year": 1974, "speed": 1000, "phase": "waiting", "played_ms": 0,
			})
			s.mu.version++
			close(s.mu.changed)
			s.mu.changed = make(chan struct{})
		})
	}
	if err := p.play(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := s.totals("0002-1974-final"), final(t, 1974); !maps.Equal(got, want) {
		t.Errorf("the board ends at %v, want %v", got, want)
	}
	if len(s.totals("0001-2022-final")) == 0 {
		t.Error("the first show had not begun")
	}
}

func TestPausedShowStandsStill(t *testing.T) {
	s := newServer(false)
	web := httptest.NewServer(s)
	defer web.Close()
	p := newPlayer(t, web.URL, settings{year: 1957, round: "final", speed: 1000, once: true})
	if err := p.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.write(http.MethodPatch, "show", httptest.NewRequest("PATCH", "/", nil), []byte(`{"paused":true}`))
	begun := make(chan struct{})
	var once sync.Once
	s.mu.Lock()
	s.mu.hook = func(table string, _ map[string]map[string]any) {
		if table == "contestants" {
			once.Do(func() { close(begun) })
		}
	}
	s.mu.Unlock()
	g := run.New(t.Context())
	g.Go("player", p.play)
	<-begun
	s.mu.Lock()
	votes := len(s.mu.tables["votes"])
	s.mu.Unlock()
	if votes != 0 {
		t.Errorf("%d votes while paused", votes)
	}
	s.write(http.MethodPatch, "show", httptest.NewRequest("PATCH", "/", nil), []byte(`{"paused":false}`))
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if got, want := s.totals("0001-1957-final"), final(t, 1957); !maps.Equal(got, want) {
		t.Errorf("the board ends at %v, want %v", got, want)
	}
}

func TestARefusalEndsThePlayerWithItsReason(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"code":"forbidden","detail":"anon may not INSERT into catalog","hint":"GRANT it"}`)
	}))
	defer web.Close()
	err := newPlayer(t, web.URL, settings{year: 2022, round: "final"}).play(t.Context())
	if err == nil || !strings.Contains(err.Error(), "anon may not INSERT into catalog") || !strings.Contains(err.Error(), "GRANT it") {
		t.Errorf("the error is %v", err)
	}
}

func TestRefusedRowsEndThePlayerWithTheirReason(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnprocessableEntity)
		fmt.Fprint(w, `{"position":"p","final":true,"accepted":0,"duplicates":0,"rejected":[{"index":3,"error":{"code":"invalid_row","detail":"year: not an integer"}}]}`)
	}))
	defer web.Close()
	err := newPlayer(t, web.URL, settings{year: 2022, round: "final"}).play(t.Context())
	if err == nil || !strings.Contains(err.Error(), "row 3 of the request") || !strings.Contains(err.Error(), "year: not an integer") {
		t.Errorf("the error is %v", err)
	}
}

func TestNextRun(t *testing.T) {
	for last, want := range map[string]string{"0001-2022-final": "0002-1974-final", "0099-x": "0100-1974-final", "": "0001-1974-final"} {
		if got := nextRun(last, 1974, "final"); got != want {
			t.Errorf("after %q comes %q, want %q", last, got, want)
		}
	}
}
