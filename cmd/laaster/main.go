// Command laaster runs an app folder: events in, live SQL views kept, every change pushed to every screen.
//
// It turns flags and one settings file into an exit code: 0 done, 1 failed, 2 wrong usage. Everything else is in
// internal/node.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"laaster/app"
	"laaster/internal/kit/fault"
	"laaster/internal/kit/memcap"
	"laaster/internal/kit/run"
	"laaster/internal/node"
)

// version is the version of the program and of the SDK that it serves.
const version = "0.1.0"

type commands struct {
	Run     runCommand     `cmd:"" help:"Run an app folder: serve its tables, views and pages."`
	Check   checkCommand   `cmd:"" help:"Say everything that is wrong with an app folder, without starting it."`
	Dev     devCommand     `cmd:"" help:"Run an app folder and deploy it on every save, with errors in the terminal and on its pages."`
	Deploy  deployCommand  `cmd:"" help:"Change the app of a running server, or show what would change."`
	Explain explainCommand `cmd:"" help:"Print the operators of an app's views, what they keep and what bounds it."`
	Query   queryCommand   `cmd:"" help:"Read a view of a running server, or follow it live."`
	Tail    tailCommand    `cmd:"" help:"Follow a view of a running server: a live table, or one JSON object per change."`
	Audit   auditCommand   `cmd:"" help:"Check or print the audit trail of a data folder."`
	Backup  backupCommand  `cmd:"" help:"Back up a running server, or a data folder, into one file; verify one."`
	Restore restoreCommand `cmd:"" help:"Make a data folder of a backup, as of its end or of an earlier position or time."`
	Repair  repairCommand  `cmd:"" help:"Say what is damaged in a data folder, and make a whole log of what is left."`
	Replay  replayCommand  `cmd:"" help:"Look at a moment of the past, read-only, or compare two definitions over the same history."`
	Bench   benchCommand   `cmd:"" help:"Put load on a server and measure delays, processor time, memory and what clients see."`
	Schema  schemaCommand  `cmd:"" help:"Print the types of an app's rows: TypeScript, or JSON Schema."`
	Token   tokenCommand   `cmd:"" help:"Make keys and tokens, check a token, and take tokens back."`
	Key     keyCommand     `cmd:"" help:"Print a line with a new random key for encryption.keys."`
	Version versionCommand `cmd:"" help:"Print the version."`
}

// exit codes
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "run" {
		stayAwake()
	}
	os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr))
}

// streams is where commands write.
type streams struct {
	out, err io.Writer
}

// errSilent says that the command has already told what failed.
var errSilent = errors.New("failed")

// Main is the program: arguments and streams in, an exit code out.
func Main(args []string, stdout, stderr io.Writer) int {
	var c commands
	exited := -1
	parser, err := kong.New(&c, kong.Name("laaster"), kong.Writers(stdout, stderr), kong.Exit(func(code int) { exited = code }),
		kong.Description("Events in, live SQL views kept, every change pushed to every screen.\n\n"+
			"An app is a folder with app.sql, optionally laaster.yaml (settings), public/ (pages) and data/.\n\n"+
			"Examples:\n  laaster run examples/vote\n  laaster check my-app --json\n\nExit codes: 0 done, 1 failed, 2 wrong usage."),
		kong.UsageOnError(), kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}))
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitFailed
	}
	if len(args) == 0 { // nothing was asked for, so nothing is done: the help goes where errors go
		parser.Stdout = stderr
		_, _ = parser.Parse([]string{"--help"})
		return exitUsage
	}
	ctx, err := parser.Parse(args)
	if exited >= 0 { // --help
		return exited
	}
	if err != nil {
		fmt.Fprintf(stderr, "laaster: %v\n  hint: laaster --help, or laaster <command> --help\n", err)
		return exitUsage
	}
	err = ctx.Run(&streams{stdout, stderr})
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errSilent):
	default:
		fmt.Fprintf(stderr, "laaster: %v\n", err)
	}
	return exitFailed
}

type runCommand struct {
	App       string `arg:"" help:"The app folder: app.sql, optionally laaster.yaml and public/."`
	Listen    string `help:"Public listener, host:port; port 0 picks a free one. Default 127.0.0.1:8080." placeholder:"ADDR"`
	Admin     string `help:"Admin listener: health, metrics. Default 127.0.0.1:8081." placeholder:"ADDR"`
	Data      string `help:"Data folder. Default .laaster inside the app folder." placeholder:"DIR"`
	Backbone  string `help:"Where the log is: embedded, memory, or nats://host:port." placeholder:"WHERE"`
	PlainHTTP bool   `name:"plain-http" help:"Serve other addresses than loopback without TLS: it ends elsewhere."`
	LogLevel  string `help:"debug, info, warn or error: structured log on stderr." enum:"debug,info,warn,error" default:"info"`
}

// Help implements kong.HelpProvider.
func (r *runCommand) Help() string {
	return "Prints one line once it serves: ready public=http://… admin=http://…\n" +
		"Ctrl-C or SIGTERM drains: requests under way are answered, live clients are told when to come back.\n\n" +
		"Examples:\n  laaster run examples/vote\n  laaster run my-app --listen 127.0.0.1:0 --data /tmp/my-app-data\n  laaster run my-app --backbone memory"
}

// Run implements the command.
func (r *runCommand) Run(s *streams) error { return r.run(s, nil) }

// run starts the node; beside, when given, works with it until it ends.
func (r *runCommand) run(s *streams, beside func(context.Context, *node.Node) error) error {
	settings, err := r.settings()
	if err != nil {
		return err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(r.LogLevel)); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer collect(ctx)()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends at once
	logger := slog.New(slog.NewJSONHandler(s.err, &slog.HandlerOptions{Level: level}))
	heedMemoryCap(logger, &settings)
	n, err := node.Start(ctx, node.Options{Dir: r.App, Settings: settings, Clock: fault.Clock(run.System{}), Logger: logger, Progress: progress(s.err),
		Develop: beside != nil})
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		logger.Info("stopped before it was ready")
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "ready public=%s admin=%s\n", n.PublicURL(), n.AdminURL())
	if isTerminal(s.err) {
		fmt.Fprintf(s.err, "Open %s. %s Ctrl-C stops.\n", n.PublicURL(), whoIsWho(&settings))
	}
	if beside != nil {
		n.Beside(ctx, beside)
	}
	return n.Wait(ctx)
}

// whoIsWho says whom the server takes its callers for.
func whoIsWho(s *app.Settings) string {
	if len(s.Auth.Issuers) > 0 {
		return fmt.Sprintf("Tokens of %d issuers are believed; callers without one are anon.", len(s.Auth.Issuers))
	}
	return "No token issuer is set: every caller is anon and gets what app.sql grants to anon."
}

// heedMemoryCap keeps the process within a limit that the system sets. The garbage collector gets four fifths of it, as the page cache of the log counts, too
// (GOMEMLIMIT in the environment wins), and what limits.memory lets state and rows have is at most a third.
func heedMemoryCap(logger *slog.Logger, settings *app.Settings) {
	limit, ok := memcap.Limit(os.DirFS("/"))
	if !ok {
		return
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit / 5 * 4)
	}
	settings.Limits.Memory = min(settings.Limits.Memory, app.Bytes(limit/3))
	logger.Info("the system limits this process's memory", "bytes", limit, "state_and_rows", int64(settings.Limits.Memory))
}

type devCommand struct{ runCommand }

// Help implements kong.HelpProvider.
func (d *devCommand) Help() string {
	return "Runs the app as `laaster run` does, looks at its folder, and deploys app.sql whenever it is saved: new and changed views are built from\n" +
		"the log beside the running ones. What is wrong with it is shown here and on the pages that are open, which also reload when public/\n" +
		"changes. The app that worked last goes on meanwhile.\n\n" +
		"Examples:\n  laaster dev examples/vote\n  laaster dev my-app --backbone memory"
}

// Run implements the command.
func (d *devCommand) Run(s *streams) error {
	return d.run(s, func(ctx context.Context, n *node.Node) error {
		return n.Develop(ctx, run.System{}, func(e node.DevEvent) {
			fmt.Fprintf(s.err, "%s: %s\n", e.Kind, strings.TrimSuffix(e.Text, "\n"))
		})
	})
}

// collect has the garbage collector heed what it costs. The function that it returns ends that.
func collect(ctx context.Context) (end func()) {
	g := run.New(ctx)
	g.Go("garbage collection", func(ctx context.Context) error {
		memcap.Collect(ctx, run.System{})
		return nil
	})
	return func() {
		g.Stop()
		_ = g.Wait()
	}
}

// settings lays the flags over the file over the defaults.
func (r *runCommand) settings() (app.Settings, error) {
	s, err := readSettings(r.App)
	if err != nil {
		return s, err
	}
	for _, f := range []struct{ to, from *string }{{&s.Listen, &r.Listen}, {&s.Admin, &r.Admin}, {&s.Data, &r.Data}, {&s.Backbone, &r.Backbone}} {
		if *f.from != "" {
			*f.to = *f.from
		}
	}
	s.PlainHTTP = s.PlainHTTP || r.PlainHTTP
	if r.Data == "" && !filepath.IsAbs(s.Data) {
		s.Data = filepath.Join(r.App, s.Data)
	}
	return s, s.Validate()
}

func readSettings(dir string) (app.Settings, error) {
	name := filepath.Join(dir, "laaster.yaml")
	src, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return app.Settings{}, err
	}
	s, err := app.ParseSettings(name, src)
	for _, path := range []*string{&s.Checkpoint.Copy, &s.Audit.Witness} { // relative to the app folder, as encryption.keys is
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
	return s, err
}

type versionCommand struct{}

// Run implements the command.
func (versionCommand) Run(s *streams) error {
	fmt.Fprintf(s.out, "laaster %s (%s %s/%s)\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}

// progress returns w when a person watches it, else nil: no progress in a pipe.
func progress(w io.Writer) io.Writer {
	if isTerminal(w) {
		return w
	}
	return nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
