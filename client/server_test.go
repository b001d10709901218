package client_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"laaster/app"
	"laaster/client"
	"laaster/internal/kit/run"
	"laaster/internal/node"
)

const appSQL = `CREATE TABLE votes (id bigint PRIMARY KEY, contestant text NOT NULL, points integer NOT NULL CHECK (points > 0)) WITH (append_only);
CREATE TABLE people (name text PRIMARY KEY, age integer, note text);
CREATE MATERIALIZED VIEW tally AS SELECT contestant, sum(points) AS points, count(*) AS n FROM votes GROUP BY contestant;
CREATE MATERIALIZED VIEW total AS SELECT sum(points) AS points, count(*) AS n FROM votes;
GRANT INSERT ON votes TO anon;
GRANT ALL ON people TO anon;
GRANT SELECT ON tally TO anon;
GRANT SELECT ON total TO anon;
`

// serve runs an app in this process until the test ends, or until the returned function is called.
func serve(t testing.TB, sql string, change func(*app.Settings)) (*node.Node, func()) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "app.sql"), []byte(sql), 0o600); err != nil {
		t.Fatal(err)
	}
	s := app.DefaultSettings()
	s.Listen, s.Admin, s.Backbone = "127.0.0.1:0", "127.0.0.1:0", "memory"
	if change != nil {
		change(&s)
	}
	n, err := node.Start(context.Background(), node.Options{Dir: dir, Settings: s, Clock: run.System{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	over := false
	stop := func() {
		if over {
			return
		}
		over = true
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := n.Wait(ctx); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return n, stop
}

// within bounds a test that would wait for ever.
func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// dial connects and makes sure that nothing of the client outlives the test.
func dial(t testing.TB, url string, opt client.Options) *client.Client {
	t.Helper()
	c, err := client.Dial(within(t), url, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		select {
		case <-c.Done():
		case <-time.After(10 * time.Second):
			t.Error("the client has not ended 10 s after Close")
		}
	})
	return c
}
