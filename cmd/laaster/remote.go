package main

import (
	"bufio"
	"bytes"
	"context"
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

	"laaster/internal/node"
	"laaster/internal/sql"
	"laaster/internal/wire"
)

// server is the admin listener of a running server.
type server struct{ base string }

// newServer reads an address: http://host:port or host:port.
func newServer(addr string) (*server, error) {
	if !strings.Contains(addr, "://") {
		addr = "http://" + addr
	}
	u, err := url.Parse(addr)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("--server %q is not an address\n  hint: it is the admin listener, such as http://127.0.0.1:8081", addr)
	}
	return &server{strings.TrimSuffix(u.String(), "/")}, nil
}

// call sends a request, whose body is an app, and returns the body of a good answer, which the caller closes.
func (s *server) call(ctx context.Context, method, path string, body []byte) (io.ReadCloser, error) {
	return s.send(ctx, method, path, node.AppType, body)
}

// send is call for bodies of any kind.
func (s *server) send(ctx context.Context, method, path, kind string, body []byte) (io.ReadCloser, error) {
	q, err := http.NewRequestWithContext(ctx, method, s.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		q.Header.Set("Content-Type", kind)
	}
	r, err := do(q)
	if err != nil {
		return nil, fmt.Errorf("%w\n  hint: is the server running there? --server names its admin listener, which `laaster run` prints as admin=…", err)
	}
	const hint = "--server names the admin listener, which `laaster run` prints as admin=…"
	return answered(r, hint)
}

// answered returns the body of a good answer; of another one it makes an error, with a hint for answers that are not Laaster's or say
// that the path is unknown.
func answered(r *http.Response, hint string) (io.ReadCloser, error) {
	if r.StatusCode == http.StatusOK {
		return r.Body, nil
	}
	defer r.Body.Close()
	var p wire.Problem
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&p); err != nil || p.Detail == "" || p.Code == wire.NotFound {
		return nil, fmt.Errorf("%s answered %s\n  hint: %s", r.Request.URL, r.Status, hint)
	}
	if p.Hint != "" {
		p.Detail += "\n  hint: " + p.Hint
	}
	return nil, errors.New(p.Detail)
}

// source reads an app folder's SQL and the files that it names, as a request carries them.
func source(dir string) (query string, body []byte, err error) {
	src, files, err := node.ReadSource(dir)
	if err != nil {
		return "", nil, err
	}
	body, err = json.Marshal(node.Sent{Source: string(src.SQL), Files: files})
	return "?file=" + url.QueryEscape(src.File), body, err
}

type deployCommand struct {
	App    string `arg:"" help:"The app folder."`
	Server string `help:"Admin listener of the running server. Default: what the app's laaster.yaml says." placeholder:"ADDR"`
	DryRun bool   `name:"dry-run" help:"Show the plan and change nothing."`
	Force  bool   `help:"Let views go that somebody may read."`
	JSON   bool   `name:"json" help:"Print the plan as JSON."`
}

// Help implements kong.HelpProvider.
func (c *deployCommand) Help() string {
	return "Shows what is new, what is rebuilt and whom it concerns, builds new and changed views beside the running ones, and lets everything\n" +
		"take effect at one position of the log. A change that rows, writers or readers of yesterday would not survive is refused and\n" +
		"changes nothing. Ctrl-C before it takes effect leaves the running app as it is.\n\n" +
		"Examples:\n  laaster deploy my-app\n  laaster deploy my-app --dry-run --server 127.0.0.1:8081"
}

// Run implements the command.
func (c *deployCommand) Run(s *streams) error {
	srv, err := serverOf(c.App, c.Server)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	plan, err := srv.check(ctx, c.App)
	if err != nil {
		return err
	}
	forced := c.Force && plan.Verdict == "refused" && !sql.Errors(plan.Findings) && sql.Forcible(plan.Differences)
	if (plan.Verdict == "compatible" || forced) && !c.DryRun {
		if !c.JSON {
			fmt.Fprint(s.out, plan.Text())
		}
		if plan, err = srv.deploy(ctx, c.App, forced, progress(s.err)); err != nil {
			return err
		}
		if !c.JSON {
			fmt.Fprintf(s.out, "in effect at %s; built from %d batches in %d ms\n", plan.Position, plan.Replayed, plan.BuiltMS)
			return nil
		}
	}
	return printPlan(s, plan, c.JSON)
}

// serverOf returns the server that an address names, or else the app's settings.
func serverOf(dir, addr string) (*server, error) {
	if addr == "" {
		settings, err := readSettings(dir)
		if err != nil {
			return nil, err
		}
		addr = scheme(settings.TLS.Admin()) + settings.Admin
	}
	return newServer(addr)
}

func printPlan(s *streams, plan *node.Plan, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(s.out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(plan); err != nil {
			return err
		}
	} else {
		fmt.Fprint(s.out, plan.Text())
	}
	if plan.Verdict == "refused" {
		return errSilent
	}
	return nil
}

func (s *server) check(ctx context.Context, dir string) (*node.Plan, error) {
	query, src, err := source(dir)
	if err != nil {
		return nil, err
	}
	body, err := s.call(ctx, http.MethodPost, "/v1/check"+query, src)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	p := &node.Plan{}
	return p, json.NewDecoder(body).Decode(p)
}

func (s *server) deploy(ctx context.Context, dir string, force bool, watch io.Writer) (*node.Plan, error) {
	query, src, err := source(dir)
	if err != nil {
		return nil, err
	}
	if force {
		query += "&force=true"
	}
	body, err := s.call(ctx, http.MethodPost, "/v1/deploy"+query, src)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e node.DeployEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("the server's answer cannot be read: %w", err)
		}
		switch {
		case e.Error != "":
			return nil, errors.New(e.Error)
		case e.Plan != nil:
			if watch != nil {
				fmt.Fprintf(watch, "\r%60s\r", "")
			}
			return e.Plan, nil
		case e.Progress != nil && watch != nil:
			fmt.Fprintf(watch, "\rbuilding views: batch %d of %d (%d %%)", e.Progress.Batches, e.Progress.Of, 100*e.Progress.Batches/max(e.Progress.Of, 1))
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	return nil, errors.New("the server ended the answer before the change took effect")
}

type explainCommand struct {
	App    string `arg:"" help:"The app folder."`
	View   string `arg:"" optional:"" help:"One view; all of them when left out."`
	Live   bool   `help:"Ask the running server: rows in and out, bytes of state, time spent per operator."`
	Server string `help:"Its admin listener. Default: what the app's laaster.yaml says; implies --live." placeholder:"ADDR"`
}

// Help implements kong.HelpProvider.
func (c *explainCommand) Help() string {
	return "Prints each view as a tree of operators with the state that each keeps and what bounds it.\n\n" +
		"Examples:\n  laaster explain examples/vote\n  laaster explain examples/vote tally --live"
}

// Run implements the command.
func (c *explainCommand) Run(s *streams) error {
	if !c.Live && c.Server == "" {
		text, err := node.Explain(c.App, c.View)
		if err != nil {
			return err
		}
		_, err = io.WriteString(s.out, text)
		return err
	}
	srv, err := serverOf(c.App, c.Server)
	if err != nil {
		return err
	}
	body, err := srv.call(context.Background(), http.MethodGet, "/v1/explain?view="+url.QueryEscape(c.View), nil)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(s.out, body)
	return err
}
