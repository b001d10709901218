package conform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"laaster/app"
	"laaster/internal/kit/run"
	"laaster/internal/node"
)

// server is the real server, in this process: a node with a log on disk, which can be stopped and started again on the same address.
type server struct {
	dir      string // has app/, data/ and what was saved
	settings app.Settings
	log      *lockedLog
	node     *node.Node
	url      string
	admin    string
}

// lockedLog keeps the last part of what the server says.
type lockedLog struct {
	mu sync.Mutex
	b  []byte
}

// Write implements io.Writer.
func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b = append(l.b, p...); len(l.b) > 64<<10 {
		l.b = l.b[len(l.b)-32<<10:]
	}
	return len(p), nil
}

// startServer starts one over an empty folder, with an app of apps/ and lines of laaster.yaml.
func startServer(dir, appName, yaml string) (*server, error) {
	s := &server{dir: dir, log: &lockedLog{}}
	if err := os.MkdirAll(filepath.Join(dir, "app"), 0o700); err != nil {
		return nil, err
	}
	if err := s.writeApp(appName); err != nil {
		return nil, err
	}
	// What the scenarios ask is about order, not about power cuts: without a sync for each batch ten servers at once are no burden.
	settings, err := app.ParseSettings("laaster.yaml", []byte("durability: buffered\nscrub: {rate: 0B}\n"+yaml))
	if err != nil {
		return nil, err
	}
	settings.Listen, settings.Admin, settings.Data = "127.0.0.1:0", "127.0.0.1:0", filepath.Join(dir, "data")
	settings.Drain = app.Duration(3 * time.Second)
	s.settings = settings
	return s, s.start()
}

func (s *server) writeApp(name string) error {
	text, err := os.ReadFile(filepath.Join("apps", name+".sql"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, "app", "app.sql"), text, 0o600)
}

// start starts it on the address that it had. Somebody else may have that port for a moment: a client's end of a connection, say.
func (s *server) start() error {
	opt := node.Options{Dir: filepath.Join(s.dir, "app"), Settings: s.settings, Clock: run.System{}, Logger: slog.New(slog.NewTextHandler(s.log, nil))}
	var err error
	for range 50 {
		if s.node, err = node.Start(context.Background(), opt); err == nil || !strings.Contains(err.Error(), "cannot take") {
			break
		}
		<-time.After(100 * time.Millisecond)
	}
	if err != nil {
		return err
	}
	if s.url == "" { // it keeps its addresses; a storm may be reading them
		s.url, s.admin = s.node.PublicURL(), s.node.AdminURL()
		s.settings.Listen, s.settings.Admin = strings.TrimPrefix(s.url, "http://"), strings.TrimPrefix(s.admin, "http://")
	}
	return nil
}

// stop ends it gracefully: clients are told goodbye.
func (s *server) stop() error {
	if s.node == nil {
		return nil
	}
	now, cancel := context.WithCancel(context.Background())
	cancel()
	err := s.node.Wait(now)
	s.node = nil
	return err
}

// restart stops it, does something with its folder, and starts it again.
func (s *server) restart(between func() error) error {
	if err := s.stop(); err != nil {
		return err
	}
	if between != nil {
		if err := between(); err != nil {
			return err
		}
	}
	return s.start()
}

// save keeps a copy of the data folder; restore puts it in place of what came later.
func (s *server) save() error {
	return s.restart(func() error { return os.CopyFS(filepath.Join(s.dir, "saved"), os.DirFS(filepath.Join(s.dir, "data"))) })
}

func (s *server) restore() error {
	return s.restart(func() error {
		if err := os.RemoveAll(filepath.Join(s.dir, "data")); err != nil {
			return err
		}
		return os.CopyFS(filepath.Join(s.dir, "data"), os.DirFS(filepath.Join(s.dir, "saved")))
	})
}

func (s *server) wipe() error {
	return s.restart(func() error { return os.RemoveAll(filepath.Join(s.dir, "data")) })
}

// deploy replaces the running app by another one of apps/.
func (s *server) deploy(name string) error {
	if err := s.writeApp(name); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join("apps", name+".sql"))
	if err != nil {
		return err
	}
	r, err := http.Post(s.admin+"/v1/deploy?force=true", "application/sql", bytes.NewReader(text))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	answer, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if r.StatusCode != http.StatusOK || bytes.Contains(answer, []byte(`"error"`)) {
		return fmt.Errorf("deploy: %d %s", r.StatusCode, answer)
	}
	return nil
}

// answer is what a write was answered, by HTTP or by a driver.
type answer struct {
	Position   string   `json:"position"`
	Accepted   int      `json:"accepted"`
	Duplicates int      `json:"duplicates"`
	Rejected   []reject `json:"rejected"`
	Problem    string   `json:"problem"` // code of the problem that the whole write was answered with
}

type reject struct {
	Index int    `json:"index"`
	Code  string `json:"code"`
	Error struct {
		Code string `json:"code"`
	} `json:"error"` // as the server has it
}

// write sends a write straight to the server, past every proxy.
func (s *server) write(method, table, query, body string) (*answer, error) {
	return s.writeKey(method, table, query, body, "")
}

// insist writes one vote, over restarts: under a key, so that the answer is that of the first time.
func (s *server) insist(r row) (*answer, error) {
	began := time.Now()
	for {
		a, err := s.writeKey("POST", "votes", "", r.text(), fmt.Sprintf("storm-%v", r["id"]))
		if err == nil || time.Since(began) > patience/2 {
			return a, err
		}
		<-time.After(50 * time.Millisecond)
	}
}

func (s *server) writeKey(method, table, query, body, key string) (*answer, error) {
	u := "http://" + s.settings.Listen + "/v1/tables/" + table
	if query != "" {
		u += "?" + query
	}
	q, err := http.NewRequest(method, u, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	q.Header.Set("Content-Type", "application/json")
	if key != "" {
		q.Header.Set("Idempotency-Key", key)
	}
	q.Close = true // a connection that is kept would not outlive a restart
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	a := &answer{}
	if err := json.Unmarshal(text, a); err != nil {
		return nil, fmt.Errorf("%s %s: %d %s", method, u, r.StatusCode, text)
	}
	for i := range a.Rejected {
		a.Rejected[i].Code = a.Rejected[i].Error.Code
	}
	if a.Position == "" {
		return nil, fmt.Errorf("%s %s: %d %s", method, u, r.StatusCode, text)
	}
	return a, nil
}

// read returns the rows of a query as the server has them now, at this position or later, and the position.
func (s *server) read(q *query, after string) (position string, rows []string, err error) {
	all := *q
	if all.Select != "" { // a live subscription always has the key
		all.Select += "," + key(q.View)
	}
	values := all.url()
	if after != "" {
		values += "&_after=" + after
	}
	r, err := http.Get(s.url + "/v1/views/" + q.View + "?" + strings.TrimPrefix(values, "&"))
	if err != nil {
		return "", nil, err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return "", nil, err
	}
	if r.StatusCode != http.StatusOK {
		return "", nil, fmt.Errorf("read %s: %d %s", values, r.StatusCode, text)
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		return "", nil, err
	}
	for _, row := range raw {
		rows = append(rows, canonical(row))
	}
	return r.Header.Get("Laaster-Position"), rows, nil
}

// close ends it for good. What it says then is told when anything failed.
func (s *server) close() error {
	return errors.Join(s.stop(), os.RemoveAll(s.dir))
}
