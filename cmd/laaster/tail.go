package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"laaster/client"
	"laaster/internal/kit/run"
)

type tailCommand struct {
	View   string `arg:"" help:"A view, or a table that may be read."`
	URL    string `name:"url" aliases:"addr" help:"Public listener of the server, http://host:port." default:"http://127.0.0.1:8080" placeholder:"URL"`
	Filter string `help:"Only rows for which this holds, such as 'points=gt.10&name=like.A*'." placeholder:"FILTER"`
	Select string `help:"Only these columns, comma-separated; key columns always come." placeholder:"COLUMNS"`
	Order  string `help:"Order of the rows, such as points.desc,name." placeholder:"ORDER"`
	Limit  int    `help:"Only the first rows by --order." placeholder:"N"`
	JSON   bool   `name:"json" help:"Print one JSON object per change, also on a terminal."`
}

// Help implements kong.HelpProvider.
func (c *tailCommand) Help() string {
	return "On a terminal: the rows as a table that is redrawn in place, with new (+), changed (~) and gone (-) rows marked. In a pipe or with --json:\n" +
		"one JSON object per row and line, first the rows that are there (event snapshot), then each change (insert, update, delete).\n" +
		"A lost connection is told and made again, and nothing is missed. Ctrl-C ends.\n\n" +
		"Examples:\n  laaster tail scoreboard --order total.desc --limit 10\n  laaster tail tally --filter 'points=gt.10' --json | jq .row\n" +
		"  laaster tail tally --url http://127.0.0.1:8090"
}

// Run implements the command.
func (c *tailCommand) Run(s *streams) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return c.run(ctx, s, run.System{})
}

const tailHint = "\n  hint: is the server running there? --url names its public listener, which `laaster run` prints as public=…"

// run follows the view until ctx ends, which is no error, or the server refuses.
func (c *tailCommand) run(ctx context.Context, s *streams, clock run.Clock) error {
	_, _, drawn := terminalSize(s.out)
	drawn = drawn && !c.JSON
	encrypted, err := clientTLS()
	if err != nil {
		return err
	}
	cl, err := client.New(c.URL, client.Options{Name: "laaster tail", Version: version, ReportDelay: drawn, TLS: encrypted,
		Token: func(context.Context) (string, error) { return ownToken(), nil }})
	if err != nil {
		return fmt.Errorf("--url: %w", err)
	}
	defer func() {
		cl.Close()
		<-cl.Done()
	}()
	if err := reached(ctx, cl, s.err); err != nil {
		return err
	}
	query := client.Query{Filter: c.Filter, Order: c.Order, Limit: c.Limit}
	if c.Select != "" {
		for _, column := range strings.Split(c.Select, ",") {
			query.Select = append(query.Select, strings.TrimSpace(column))
		}
	}
	sub := cl.Subscribe(c.View, query)
	if err := sub.Ready(ctx); err != nil {
		return tailError(ctx, err)
	}
	if drawn {
		return tailError(ctx, c.draw(ctx, s, cl, sub, clock))
	}
	told := run.New(ctx)
	told.Go("tail state", func(ctx context.Context) error { tellStates(ctx, cl, s.err); return nil })
	err = tailJSON(ctx, s.out, sub)
	told.Stop()
	_ = told.Wait()
	return tailError(ctx, err)
}

// reached waits for the server. One that is not there fails; one that says later is waited for.
func reached(ctx context.Context, cl *client.Client, w io.Writer) error {
	told := false
	for st := range cl.States(ctx) {
		var p *client.Problem
		switch errors.As(st.Reason, &p); st.Name {
		case client.StateClosed:
			return tailError(ctx, st.Reason)
		case client.StateConnecting:
			if p != nil && (p.Status == 0 || !p.Retry) {
				return errors.New(p.Detail + tailHint)
			}
			if p != nil && !told {
				told = true
				fmt.Fprintf(w, "waiting: %s\n", p.Detail)
			}
		default:
			return nil
		}
	}
	return nil
}

// tailError adds what to do to an error. The end of ctx is no error: Ctrl-C is how it ends.
func tailError(ctx context.Context, err error) error {
	var p *client.Problem
	switch {
	case ctx.Err() != nil || err == nil:
		return nil
	case !errors.As(err, &p):
		return err
	case p.Code == "http_404":
		return errors.New(p.Detail + tailHint)
	case p.Hint != "":
		return errors.New(p.Detail + "\n  hint: " + p.Hint)
	}
	return errors.New(p.Detail)
}

// tailLine is one line of output for programs.
type tailLine struct {
	Event    client.EventKind      `json:"event"` // snapshot, change, gap or freshness
	Op       client.Op             `json:"op,omitempty"`
	Key      client.Row            `json:"key,omitempty"` // the key's values, an array
	Row      client.Row            `json:"row,omitempty"` // the row now; left out when it is gone
	State    client.FreshnessState `json:"state,omitempty"`
	Reason   string                `json:"reason,omitempty"`
	Position string                `json:"position,omitempty"`
	At       string                `json:"at,omitempty"` // the log's time, RFC 3339
}

// tailJSON prints a line per change until the subscription or ctx ends.
func tailJSON(ctx context.Context, w io.Writer, sub *client.Subscription) error {
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	out.SetEscapeHTML(false)
	for e := range sub.Events(ctx) {
		b.Reset()
		line := tailLine{Event: e.Kind, Position: e.Position}
		if !e.At.IsZero() {
			line.At = e.At.UTC().Format("2006-01-02T15:04:05.000000Z")
		}
		switch e.Kind {
		case client.Closed:
			return e.Err
		case client.FreshnessChanged:
			line.State, line.Reason = e.Freshness.State, e.Freshness.Reason
			_ = out.Encode(line) // of our own fields
		case client.Gap:
			_ = out.Encode(line)
		}
		for i := range e.Changes {
			x := &e.Changes[i]
			line.Op, line.Key, line.Row = x.Op, x.Key, x.Row
			_ = out.Encode(line) // the rows are valid
		}
		if _, err := w.Write(b.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// tellStates says on w when the connection is lost and when it is back.
func tellStates(ctx context.Context, cl *client.Client, w io.Writer) {
	away := false
	for st := range cl.States(ctx) {
		switch {
		case st.Name == client.StateStale && !away && st.Reason != nil:
			away = true
			fmt.Fprintf(w, "connection lost: %v; trying again\n", st.Reason)
		case st.Name == client.StateLive && away:
			away = false
			fmt.Fprintln(w, "connected again")
		}
	}
}

// draw shows the rows as a table until the subscription or ctx ends.
func (c *tailCommand) draw(ctx context.Context, s *streams, cl *client.Client, sub *client.Subscription, clock run.Clock) error {
	t := &tailTable{view: c.View, colour: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
	var mu sync.Mutex
	group := run.New(ctx)
	show := func(fit bool) string {
		mu.Lock()
		defer mu.Unlock()
		width, height, ok := terminalSize(s.out)
		if !ok {
			width, height = 80, 24
		}
		if !fit {
			height = 1 << 30
		}
		t.rows, t.key = sub.Rows(), sub.Key()
		t.state, t.fresh, t.pulse, t.position = cl.State(), sub.Freshness(), cl.Pulse(), sub.Position()
		if n, listed := sub.Count(); !listed {
			t.unlisted = n
		} else {
			t.unlisted = 0
		}
		return t.render(clock.Now(), width, height)
	}
	fmt.Fprint(s.out, "\x1b[?1049h\x1b[?25l") // another screen, no cursor
	dirty := make(chan struct{}, 1)
	group.Go("tail screen", func(ctx context.Context) error {
		for {
			fmt.Fprint(s.out, "\x1b[H"+strings.ReplaceAll(show(true), "\n", "\x1b[K\r\n")+"\x1b[J")
			select { // at most ten pictures a second
			case <-clock.After(100 * time.Millisecond):
			case <-ctx.Done():
				return nil
			}
			select {
			case <-dirty:
			case <-clock.After(time.Second):
			case <-ctx.Done():
				return nil
			}
		}
	})
	var err error
	for e := range sub.Events(ctx) {
		mu.Lock()
		t.mark(&e, clock.Now())
		mu.Unlock()
		select {
		case dirty <- struct{}{}:
		default:
		}
		if e.Kind == client.Closed {
			err = e.Err
		}
	}
	group.Stop()
	_ = group.Wait()
	fmt.Fprint(s.out, "\x1b[?25h\x1b[?1049l")
	t.colour = false
	t.marks, t.gone = nil, nil
	fmt.Fprintln(s.out, show(true)) // what was seen last stays
	return err
}
