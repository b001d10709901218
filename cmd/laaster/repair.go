package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"laaster/app"
	"laaster/internal/kit/run"
	"laaster/internal/node"
)

type repairCommand struct {
	App     string `arg:"" help:"The app folder."`
	Data    string `help:"Data folder. Default .laaster inside the app folder." placeholder:"DIR"`
	DryRun  bool   `name:"dry-run" help:"Say what is wrong and what would be done, and change nothing."`
	Yes     bool   `help:"Do it without asking."`
	Rewrite bool   `help:"Make a new log also when nothing is damaged."`
	JSON    bool   `name:"json" help:"Print what was done as JSON; needs --yes."`
}

// Help implements kong.HelpProvider.
func (c *repairCommand) Help() string {
	return "For a stopped server whose start says that the log is damaged. Reads everything in the data folder, says what is damaged and what of it is lost,\n" +
		"asks, and makes a new log, under a new id, of all that is whole. What was there is kept beside it. Live clients get their views anew.\n" +
		"When a backup has what is lost, `laaster restore` is the better way.\n\n" +
		"Exit codes: 0 nothing is damaged, or it was repaired; 1 something is damaged and was not repaired.\n\n" +
		"Examples:\n  laaster repair my-app --dry-run\n  laaster repair my-app\n  laaster repair my-app --yes --json"
}

// Run implements the command.
func (c *repairCommand) Run(s *streams) (err error) {
	settings, err := dataSettings(c.App, c.Data)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := node.OpenRepair(ctx, node.RepairOptions{Dir: c.App, Settings: settings, Rewrite: c.Rewrite, Clock: run.System{},
		Logger: warnings(s), Progress: steps(s)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if !c.JSON {
		fmt.Fprint(s.out, r.Text())
	}
	switch {
	case !r.Needed():
		return nil
	case c.DryRun:
		return errSilent
	case !c.Yes && !confirmed(s, "Repair?"):
		fmt.Fprintln(s.err, "laaster: nothing was changed")
		return errSilent
	}
	done, err := r.Do(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(s.out).Encode(done)
	}
	if !done.Rewritten {
		fmt.Fprintf(s.out, "Done. What cannot be used is in %s.\n", done.Kept)
		return nil
	}
	fmt.Fprintf(s.out, "Done. The log is %s now, from batch %d to %d, made of %s. What was there is in %s.\n", done.Log, done.First, done.Head, done.Parent, done.Kept)
	return nil
}

// dataSettings reads an app's settings with another data folder, if one is named.
func dataSettings(dir, data string) (app.Settings, error) {
	s, err := readSettings(dir)
	if err != nil {
		return s, err
	}
	switch {
	case data != "":
		s.Data = data
	case !filepath.IsAbs(s.Data):
		s.Data = filepath.Join(dir, s.Data)
	}
	return s, nil
}

// warnings is a log of what is out of the ordinary, on stderr.
func warnings(s *streams) *slog.Logger {
	return slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// steps tells a person who watches what is under way.
func steps(s *streams) func(string) {
	w := progress(s.err)
	if w == nil {
		return nil
	}
	return func(text string) { fmt.Fprintf(w, "%s …\n", text) }
}

// confirmed asks the person at the terminal; without one the answer is no.
func confirmed(s *streams, question string) bool {
	info, err := os.Stdin.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		fmt.Fprintln(s.err, "laaster: nobody to ask: say --yes")
		return false
	}
	fmt.Fprintf(s.out, "%s [y/N] ", question)
	line, _ := bufio.NewReader(os.Stdin).ReadString('\n') // an end of input is a no
	line = strings.ToLower(strings.TrimSpace(line))
	return line == "y" || line == "yes"
}
