package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
)

type queryCommand struct {
	Where  string `arg:"" help:"The app folder, or the public address of a server: http://host:port."`
	View   string `arg:"" help:"A view, or a table that may be read."`
	Filter string `arg:"" optional:"" help:"Filters and order, such as 'points=gt.10&order=points.desc&limit=5'."`
	JSON   bool   `name:"json" xor:"form" help:"Print JSON; with --watch one event a line."`
	CSV    bool   `name:"csv" xor:"form" help:"Print CSV."`
	Watch  bool   `help:"Print the rows and then every change: + for a row that is new or changed, - for the key of one that is gone."`
}

// Help implements kong.HelpProvider.
func (c *queryCommand) Help() string {
	return "Reads over HTTP as every client does: what was not granted to anon, or to the token in the variable\n" +
		"LAASTER_TOKEN, is refused. Filters are those of GET /v1/views/{view}.\n\n" +
		"Examples:\n  laaster query examples/vote tally\n  laaster query http://127.0.0.1:8080 tally 'order=points.desc&limit=3' --csv\n" +
		"  laaster query my-app tally --watch"
}

// Run implements the command.
func (c *queryCommand) Run(s *streams) error {
	base, err := c.base()
	if err != nil {
		return err
	}
	if c.Watch && c.CSV {
		return errors.New("--watch prints text or --json, not --csv")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	accept := "text/csv"
	switch {
	case c.Watch:
		accept = "text/event-stream"
	case c.JSON:
		accept = "application/json"
	}
	body, err := c.get(ctx, base, accept)
	if err != nil {
		return err
	}
	defer body.Close()
	switch {
	case c.Watch:
		if err = c.follow(s, body); ctx.Err() != nil {
			return nil // Ctrl-C is how it ends
		}
	case c.JSON, c.CSV:
		_, err = io.Copy(s.out, body)
		if c.JSON {
			fmt.Fprintln(s.out)
		}
	default:
		err = printTable(s.out, body)
	}
	return err
}

// base returns the URL of the public listener.
func (c *queryCommand) base() (string, error) {
	if info, err := os.Stat(c.Where); err == nil && info.IsDir() {
		settings, err := readSettings(c.Where)
		return scheme(settings.TLS.On()) + settings.Listen, err
	}
	where := c.Where
	if !strings.Contains(where, "://") {
		where = "http://" + where
	}
	u, err := url.Parse(where)
	if err != nil || u.Port() == "" && u.Scheme == "http" && u.Hostname() != "localhost" && !strings.Contains(u.Hostname(), ".") {
		return "", fmt.Errorf("%s is neither an app folder nor an address\n  hint: the public address is what `laaster run` prints as public=…", c.Where)
	}
	return strings.TrimSuffix(u.String(), "/"), nil
}

func (c *queryCommand) get(ctx context.Context, base, accept string) (io.ReadCloser, error) {
	path := base + "/v1/views/" + url.PathEscape(c.View)
	if c.Filter != "" {
		path += "?" + strings.ReplaceAll(c.Filter, " ", "%20")
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	q.Header.Set("Accept", accept)
	if token := ownToken(); token != "" {
		q.Header.Set("Authorization", "Bearer "+token)
	}
	r, err := do(q)
	if err != nil {
		return nil, fmt.Errorf("%w\n  hint: is the server running there? its public address is what `laaster run` prints as public=…", err)
	}
	return answered(r, "the address must be the public listener, which `laaster run` prints as public=…")
}

// printTable prints CSV with aligned columns.
func printTable(w io.Writer, body io.Reader) error {
	in := csv.NewReader(body)
	in.ReuseRecord = true
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	rows := -1
	for {
		record, err := in.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		rows++
		for i, v := range record {
			if i > 0 {
				fmt.Fprint(out, "\t")
			}
			fmt.Fprint(out, strings.Map(printable, v))
		}
		fmt.Fprintln(out)
		if rows == 0 {
			for i, v := range record {
				if i > 0 {
					fmt.Fprint(out, "\t")
				}
				fmt.Fprint(out, strings.Repeat("-", len([]rune(v))))
			}
			fmt.Fprintln(out)
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	noun := "rows"
	if rows == 1 {
		noun = "row"
	}
	_, err := fmt.Fprintf(w, "(%d %s)\n", max(rows, 0), noun)
	return err
}

// printable keeps control characters of values away from the terminal and from the columns.
func printable(r rune) rune {
	if r < ' ' || r >= 0x7f && r < 0xa0 {
		return '␣'
	}
	return r
}

// event is the part of a stream's events that is printed.
type event struct {
	Rows, Put, Del []json.RawMessage
	State, Reason  string
	Code           string
	Error          struct{ Detail string }
}

// follow prints a stream of events until it ends, which is an error.
func (c *queryCommand) follow(s *streams, body io.Reader) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 64<<20)
	kind := ""
	for lines.Scan() {
		name, value, _ := bytes.Cut(lines.Bytes(), []byte(": "))
		switch string(name) {
		case "event":
			kind = string(value)
			continue
		case "data":
		default:
			continue
		}
		var e event
		if err := json.Unmarshal(value, &e); err != nil {
			return fmt.Errorf("an event cannot be read: %w", err)
		}
		if c.JSON {
			fmt.Fprintf(s.out, `{"event":%q,"data":%s}`+"\n", kind, value)
		}
		switch kind {
		case "error":
			return errors.New(e.Error.Detail)
		case "goodbye":
			return fmt.Errorf("the server ended the stream: %s", strings.TrimSpace(e.Code+" "+e.Reason))
		case "freshness":
			fmt.Fprintf(s.err, "the rows are %s\n", strings.TrimSuffix(e.State+": "+e.Reason, ": "))
		}
		if c.JSON {
			continue
		}
		for _, r := range append(e.Rows, e.Put...) {
			fmt.Fprintf(s.out, "+ %s\n", r)
		}
		for _, k := range e.Del {
			fmt.Fprintf(s.out, "- %s\n", k)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return errors.New("the server ended the stream")
}
