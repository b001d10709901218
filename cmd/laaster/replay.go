package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"laaster/internal/kit/run"
	"laaster/internal/node"
)

type replayCommand struct {
	App    string `arg:"" help:"The app folder: its settings, keys and pages. The app.sql of the past is in the log." type:"path"`
	Data   string `help:"Data folder of the stopped server. Default .laaster inside the app folder." placeholder:"DIR" type:"path" xor:"from"`
	Backup string `help:"Look at a backup instead; the server may run." placeholder:"FILE" type:"path" xor:"from"`
	Until  string `help:"The moment: a position, a sequence or a time such as 2026-11-22T09:30:00Z. Default: the end." placeholder:"WHEN"`
	Listen string `help:"Serve there, host:port; port 0 picks a free one. Default 127.0.0.1:8080." placeholder:"ADDR"`
	With   string `help:"Do not serve: run this app folder over the same history and print what differs." placeholder:"APP" type:"path"`
	JSON   bool   `name:"json" help:"With --with: print it as JSON."`
}

// Help implements kong.HelpProvider.
func (c *replayCommand) Help() string {
	return "Makes the state of a moment of the past and serves it read-only, as a running server does: GET /v1/views, live connections, pages. Live\n" +
		"subscriptions get their rows and are told that this is history; writes are refused. Nothing in the data folder is changed.\n" +
		"Prints one line once it serves: ready public=http://… position=… time=…\n\n" +
		"With --with nothing is served: another definition runs over the same history, and every row of every view that differs is counted.\n" +
		"Exit code 1 then means that something differs.\n\n" +
		"Examples:\n  laaster replay my-app --until 2026-11-22T09:30:00Z\n  laaster replay my-app --backup today.backup --listen 127.0.0.1:0\n  laaster replay my-app --with my-app-next --json"
}

// Run implements the command.
func (c *replayCommand) Run(s *streams) (err error) {
	if c.JSON && c.With == "" {
		return errors.New("--json prints a comparison: name the other app with --with")
	}
	settings, err := dataSettings(c.App, c.Data)
	if err != nil {
		return err
	}
	if c.Listen != "" {
		settings.Listen = c.Listen
	}
	if err := settings.Validate(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer collect(ctx)()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends at once
	h, err := node.OpenHistory(ctx, node.HistoryOptions{Dir: c.App, Settings: settings, Set: c.Backup, Until: c.Until, Clock: run.System{},
		Logger: warnings(s), Progress: progress(s.err)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if c.With != "" {
		return c.compare(ctx, s, h)
	}
	url, err := h.Serve(ctx, settings.Listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "ready public=%s position=%s time=%s\n", url, h.Position(), h.Time().Format(time.RFC3339Nano))
	if isTerminal(s.err) {
		fmt.Fprintf(s.err, "This is history, made of %s; it goes on to %s. Nothing can be written. Open %s. Ctrl-C stops.\n", h.From(), h.Last(), url)
	}
	return h.Wait(ctx)
}

// compare prints what differs under another definition.
func (c *replayCommand) compare(ctx context.Context, s *streams, h *node.History) error {
	found, err := h.Compare(ctx, c.With)
	if err != nil {
		return err
	}
	if c.JSON {
		enc := json.NewEncoder(s.out)
		enc.SetIndent("", "  ")
		err = enc.Encode(found)
	} else {
		found.Print(s.out)
	}
	if err == nil && found.Differs {
		return errSilent
	}
	return err
}
