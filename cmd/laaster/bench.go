package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"laaster/internal/auth"
	"laaster/internal/kit/run"
	"laaster/internal/load"
)

type benchCommand struct {
	Profile string `arg:"" help:"idle, fanout, channels, storm, slow or ingest." enum:"idle,fanout,channels,storm,slow,ingest"`

	URL string `name:"url" help:"Public address of a running server whose app has the profile's tables (--print-app). Default: a server of its own, in a temporary folder." placeholder:"URL"`
	PID int    `name:"pid" help:"With --url: the server's process on this machine, for processor time and memory." placeholder:"N"`
	Yes bool   `help:"With --url: put the load on a server that is not on this machine."`

	Clients  int           `help:"Live connections." placeholder:"N"`
	Slow     int           `help:"slow: clients that read slowly, beside the others." placeholder:"N"`
	LineRate int           `help:"slow: bytes a second that one of them reads. Default 2048." placeholder:"N"`
	Rows     int           `help:"Rows of the view." placeholder:"N"`
	Changing int           `help:"channels: only so many of the rows change; the clients of the others must see nothing." placeholder:"N"`
	RowBytes int           `help:"Size of a row as JSON. Default 200." placeholder:"N"`
	Rate     float64       `help:"Changes a second; of ingest: rows." placeholder:"N"`
	To       float64       `help:"Rise evenly from --rate to this rate." placeholder:"N"`
	Burst    string        `help:"Bursts: TIMES,ON,EVERY, such as 10,1s,5s: ten times the rate for the first second of each five." placeholder:"SPEC"`
	Trace    string        `help:"Replay a recorded trace: a file with a line such as {\"at_ms\":12.5,\"rows\":3} for each arrival." placeholder:"FILE"`
	Record   string        `help:"Write when the requests of this run are due to this file, as a trace (of several rates the last)." placeholder:"FILE"`
	Batch    int           `help:"Changes in one request." placeholder:"N"`
	Single   bool          `help:"One change in each request: --batch 1 on 64 connections."`
	Conns    int           `help:"Connections that write, each with one request under way." placeholder:"N"`
	Over     string        `help:"How changes are written: http or ws. Default http." placeholder:"WAY"`
	Watch    string        `help:"How clients follow: ws or sse. Default ws." placeholder:"WAY"`
	Time     time.Duration `help:"Length of the load." placeholder:"TIME"`
	Warm     time.Duration `help:"Of it at the beginning, not counted. Default 2s, at most half." placeholder:"TIME"`
	Saturate bool          `help:"fanout: as fast as answers come, every change delivered (conflation off)."`
	Every    bool          `help:"Ask for every change on its own: nothing is merged."`
	Rounds   int           `help:"storm: storms; slow: pairs without and with slow clients." placeholder:"N"`
	Missed   int           `help:"storm: changes that pass while the clients are away. Default 20." placeholder:"N"`
	Loops    int           `help:"Event loops of the clients. Default 1." placeholder:"N"`
	Window   int           `help:"Clients that connect at one time." placeholder:"N"`

	Tokens bool `help:"Every client brings a token and every row passes policies: what authentication and rules cost. A server of its own only."`

	Rates []float64 `help:"ingest: rows a second, one rate after the other. Default 10000,50000,100000,200000." placeholder:"N"`

	Compare bool `help:"Do the same with a bare loop, which takes the same requests and writes the same frames without log, engine or rules: its figures stand beside."`

	JSON       bool   `name:"json" help:"Print the report as JSON."`
	HTML       string `name:"html" help:"Write the report with pictures to this file." placeholder:"FILE"`
	PrintApp   bool   `help:"Print the app.sql that the profile needs, and do nothing."`
	CPUProfile string `name:"cpuprofile" help:"Write a processor profile of the server to this file (a server of its own only)." placeholder:"FILE"`
	BareLoop   bool   `hidden:"" help:"Be the bare loop of --compare."`
	Binary     string `hidden:"" help:"The binary whose server is measured. Default: this one."`
}

// Help implements kong.HelpProvider.
func (c *benchCommand) Help() string {
	return "Puts open-loop load on a server and measures delays, the server's processor time per unit of work, and whether every client saw what it had to. Requests\n" +
		"leave by a schedule that does not wait for answers; a delay counts from the moment at which a change was due (no coordinated omission).\n\n" +
		"Without --url it starts a server of its own, with log, engine and rules on, and stops it. Ctrl-C ends early and still reports.\n\n" +
		"Profiles:\n" +
		"  idle      10,000 clients subscribed to one view, nothing happens: memory of each, heartbeats\n" +
		"  fanout    a view that changes 50 times a second, watched by 1,000; --saturate: as fast as it goes, every change delivered\n" +
		"  channels  1,000 clients that watch a row each, 20,000 changes/s\n" +
		"  storm     5,000 clients cut at once and resumed under load\n" +
		"  slow      1,000 clients, without and with 100 that read 2 KB/s\n" +
		"  ingest    rows/s from POST to answer\n\n" +
		"Examples:\n  laaster bench fanout\n  laaster bench channels --rate 5000 --time 30s --html report.html\n  laaster bench fanout --saturate --json > report.json\n" +
		"  laaster bench ingest --rate 10000 --to 200000 --time 1m\n  laaster bench channels --print-app\n  laaster bench idle --url http://127.0.0.1:8080 --pid 4711\n\n" +
		"Exit codes: 0 measured and every check holds, 1 a check failed or nothing could be measured, 2 wrong usage. docs/bench.md explains the figures."
}

// Run implements the command.
func (c *benchCommand) Run(s *streams) error {
	sql := load.AppSQL(c.Profile)
	if c.Tokens {
		sql = load.RulesSQL(c.Profile)
	}
	if c.PrintApp {
		_, err := io.WriteString(s.out, sql)
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends at once
	if c.BareLoop {
		return load.Bare(ctx, s.out)
	}
	opt, err := c.options()
	if err != nil {
		return err
	}
	if err := c.target(ctx, &opt); err != nil {
		return err
	}
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), c.Loops+1)) // an event loop that waits keeps its processor for a moment
	if c.URL == "" {
		files := map[string]string{"app.sql": sql, "laaster.yaml": load.SettingsYAML(opt.Clients + opt.Slow)}
		if c.Tokens {
			filled := opt
			if err := load.Defaults(&filled); err != nil {
				return err
			}
			if opt.Token, err = benchTokens(files, c.Profile == "channels", filled.Rows, filled.Clients+filled.Slow); err != nil {
				return err
			}
		}
		srv, err := startBenchServer(c.Binary, files, s.err, "run")
		if err != nil {
			return err
		}
		defer srv.stop()
		opt.URL, opt.PID = srv.url, srv.cmd.Process.Pid
		if c.CPUProfile != "" {
			opt.Counting = func(ctx context.Context, length time.Duration) error { return srv.profile(ctx, c.CPUProfile, length) }
		}
	} else if c.CPUProfile != "" {
		return errors.New("--cpuprofile needs a server of its own: leave --url out")
	}
	if isTerminal(s.err) {
		opt.Progress = func(p load.Progress) { fmt.Fprint(s.err, "\r\x1b[K"+p.String()) }
	}
	report, err := load.Run(ctx, opt)
	if err == nil && c.Compare && !report.Interrupted {
		err = c.beside(ctx, s, opt, report)
	}
	if isTerminal(s.err) {
		fmt.Fprint(s.err, "\r\x1b[K")
	}
	if err != nil {
		return err
	}
	return c.print(s, report)
}

// benchTokens makes a key that the server of an app folder with these files believes, and returns the token of each client and, under
// the id -1, of writers. With own a client sees one of rows alone.
func benchTokens(files map[string]string, own bool, rows, clients int) (token func(id int) string, err error) {
	signer, err := auth.NewSigner("EdDSA")
	if err != nil {
		return nil, err
	}
	keys, err := auth.KeySet(nil, signer)
	if err != nil {
		return nil, err
	}
	files["jwks.json"] = string(keys)
	files["laaster.yaml"] += "auth:\n  max_lifetime: 24h\n  issuers:\n    - issuer: " + benchIssuer + "\n      audience: bench\n      jwks: jwks.json\n"
	now := run.System{}.Now()
	texts := make([]string, clients+1)
	for id := -1; id < clients; id++ {
		claims := map[string]any{"iss": benchIssuer, "aud": "bench", "sub": "client " + strconv.Itoa(id), "roles": []string{"bench"}, "iat": now.Unix(),
			"exp": now.Add(12 * time.Hour).Unix()}
		if id < 0 {
			claims["writes"] = "yes"
		} else if own {
			claims["row"] = id % rows
		}
		if texts[id+1], err = signer.Sign(claims); err != nil {
			return nil, err
		}
	}
	return func(id int) string { return texts[id+1] }, nil
}

const benchIssuer = "https://bench.invalid/"

// beside does the same against a bare loop.
func (c *benchCommand) beside(ctx context.Context, s *streams, opt load.Options, report *load.Report) error {
	srv, err := startBenchServer("", nil, s.err, "bench", c.Profile, "--bare-loop")
	if err != nil {
		return err
	}
	defer srv.stop()
	opt.URL, opt.PID, opt.Counting, opt.Schedule = srv.url, srv.cmd.Process.Pid, nil, nil
	bare, err := load.Run(ctx, opt)
	if err == nil {
		report.Beside(bare)
	}
	return err
}

// target refuses a load that would hit somebody else's machine by accident.
func (c *benchCommand) target(ctx context.Context, opt *load.Options) error {
	if c.URL == "" {
		if c.Compare && !slices.Contains([]string{"idle", "fanout", "channels", "storm"}, c.Profile) {
			return errors.New("--compare is for idle, fanout, channels and storm: a bare loop has no tables and merges nothing")
		}
		if c.Compare && c.Watch == load.OverEvents {
			return errors.New("--compare needs --watch ws: a bare loop has no event streams")
		}
		if c.Compare && c.Tokens {
			return errors.New("--compare is without --tokens: a bare loop knows nobody")
		}
		if c.PID != 0 || c.Yes {
			return errors.New("--pid and --yes belong to --url: without it the server is one of its own")
		}
		return nil
	}
	if c.Tokens {
		return errors.New("--tokens needs a server of its own, which believes the key that is made: leave --url out")
	}
	own, err := load.Loopback(ctx, c.URL)
	if err != nil {
		return err
	}
	if !own && !c.Yes {
		return fmt.Errorf("%s is not on this machine, and this load may be more than it can take\n  hint: add --yes when the server is yours to load", c.URL)
	}
	if !own && c.PID != 0 {
		return errors.New("--pid is a process of this machine, and --url is another machine")
	}
	if c.Compare {
		return errors.New("--compare needs a server of its own: leave --url out")
	}
	opt.URL, opt.PID = c.URL, c.PID
	return nil
}

func (c *benchCommand) options() (load.Options, error) {
	o := load.Options{Profile: c.Profile, Version: version, Clients: c.Clients, Slow: c.Slow, LineRate: c.LineRate, Rows: c.Rows,
		Changing: c.Changing, RowBytes: c.RowBytes, Rate: c.Rate, Rates: c.Rates, To: c.To,
		Batch: c.Batch, Conns: c.Conns, Over: c.Over, Watch: c.Watch, Length: c.Time, Warm: c.Warm, Saturate: c.Saturate, Every: c.Every, Rounds: c.Rounds, Missed: c.Missed, Loops: c.Loops, Window: c.Window,
		Clock: run.System{}}
	if c.Single {
		if c.Batch > 1 {
			return o, errors.New("--single is --batch 1: give one of them")
		}
		o.Batch = 1
		if o.Conns == 0 {
			o.Conns = 64
		}
	}
	if c.Burst != "" {
		var err error
		if o.Burst, err = load.ParseBursts(c.Burst); err != nil {
			return o, err
		}
	}
	if c.Trace != "" {
		f, err := os.Open(c.Trace)
		if err != nil {
			return o, err
		}
		defer f.Close()
		if o.Trace, err = load.ReadTrace(f); err != nil {
			return o, fmt.Errorf("%s: %w", c.Trace, err)
		}
	}
	var err error
	if o.TLS, err = clientTLS(); err != nil {
		return o, err
	}
	if c.Record != "" {
		o.Schedule = func(s load.Schedule, rows int) error { return record(c.Record, s, rows) }
	}
	filled := o
	filled.URL = "http://127.0.0.1"
	if err := load.Defaults(&filled); err != nil {
		return o, err
	}
	o.Clients, o.Slow = filled.Clients, filled.Slow
	return o, nil
}

// record writes a trace.
func record(file string, s load.Schedule, rows int) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(load.WriteTrace(f, s, rows), f.Close())
}

// print tells the report where it was asked for, and fails when a check did.
func (c *benchCommand) print(s *streams, r *load.Report) error {
	if c.HTML != "" {
		page, err := r.HTML()
		if err == nil {
			err = os.WriteFile(c.HTML, page, 0o644)
		}
		if err != nil {
			return err
		}
	}
	var err error
	if c.JSON {
		err = r.JSON(s.out)
	} else {
		err = r.Text(s.out)
	}
	if err == nil && !r.OK() {
		return errSilent
	}
	return err
}

// benchServer is a server of this binary on an app and data of its own.
type benchServer struct {
	cmd        *exec.Cmd
	dir        string
	url, admin string
}

// startBenchServer makes an app folder of files and starts the binary with args; run gets the folder and addresses.
func startBenchServer(binary string, files map[string]string, stderr io.Writer, args ...string) (*benchServer, error) {
	if binary == "" {
		var err error
		if binary, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp("", "laaster-bench-")
	if err != nil {
		return nil, err
	}
	srv := &benchServer{dir: dir}
	if err := srv.start(binary, files, stderr, args); err != nil {
		srv.stop()
		return nil, err
	}
	return srv, nil
}

func (b *benchServer) start(binary string, files map[string]string, stderr io.Writer, args []string) error {
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if args[0] == "run" {
		args = append(args, b.dir, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-level", "warn")
	}
	b.cmd = exec.Command(binary, args...)
	b.cmd.Stderr = struct{ io.Writer }{stderr} // a pipe: what it would tell a person at a terminal is for us
	b.cmd.SysProcAttr = ownGroup()             // Ctrl-C is for us: the server is stopped when the report is made
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := b.cmd.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the server did not get ready: %w", err)
	}
	for _, f := range strings.Fields(line) {
		if v, ok := strings.CutPrefix(f, "public="); ok {
			b.url = v
		}
		if v, ok := strings.CutPrefix(f, "admin="); ok {
			b.admin = v
		}
	}
	if b.url == "" {
		return fmt.Errorf("the server said %q, not where it listens", strings.TrimSpace(line))
	}
	return nil
}

// profile fetches a processor profile for as long as is counted.
func (b *benchServer) profile(ctx context.Context, file string, length time.Duration) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", b.admin, max(1, int(length.Seconds())-1)), nil)
	if err != nil {
		return err
	}
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o600)
}

// stop ends the server and removes its folder.
func (b *benchServer) stop() {
	if b.cmd != nil && b.cmd.Process != nil {
		_ = b.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = b.cmd.Wait()
	}
	_ = os.RemoveAll(b.dir)
}
