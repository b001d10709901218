package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"laaster/internal/node"
	"laaster/internal/sql"
)

type checkCommand struct {
	App     string `arg:"" help:"The app folder."`
	JSON    bool   `name:"json" help:"Print the findings as a JSON array; with --against the plan as an object."`
	Against string `help:"What runs now: the admin listener of a server, or another version of the app, its folder or its app.sql. Fails when this one may not follow it." placeholder:"SERVER|FILE" xor:"against"`
	Server  string `help:"The same for a server alone." placeholder:"ADDR" xor:"against"`
}

// Help implements kong.HelpProvider.
func (c *checkCommand) Help() string {
	return "Prints every error and warning of app.sql and laaster.yaml at once as file:line:col, and exits with 1 if there is an error.\n\n" +
		"With --against it also says what changes, and exits with 1 when yesterday's rows, writers or readers would not survive it: a server knows every\n" +
		"version whose rows its log holds, a file only itself.\n\n" +
		"Examples:\n  laaster check examples/vote\n  laaster check my-app --json\n  laaster check my-app --against 127.0.0.1:8081\n" +
		"  git show main:my-app/app.sql > old/app.sql && laaster check my-app --against old"
}

// Run implements the command.
func (c *checkCommand) Run(s *streams) error {
	if c.Against != "" {
		if _, err := os.Stat(c.Against); err == nil {
			plan, err := node.PlanAgainst(c.App, c.Against)
			if err != nil {
				return err
			}
			return printPlan(s, plan, c.JSON)
		}
	}
	if at := c.Against + c.Server; at != "" {
		srv, err := newServer(at)
		if err != nil {
			return err
		}
		plan, err := srv.check(context.Background(), c.App)
		if err != nil {
			return err
		}
		return printPlan(s, plan, c.JSON)
	}
	found, err := node.Check(c.App)
	if err != nil {
		return err
	}
	failed := false
	for i := range found {
		failed = failed || found[i].Severity == sql.Error
	}
	if c.JSON {
		enc := json.NewEncoder(s.out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(append([]sql.Diagnostic{}, found...)); err != nil { // [] when there are none
			return err
		}
	} else {
		for i := range found {
			fmt.Fprintln(s.out, found[i].Render())
		}
		if !failed {
			fmt.Fprintf(s.out, "%s: no errors\n", c.App)
			printChannels(s, c.App)
		}
	}
	if failed {
		return errSilent
	}
	return nil
}

// printChannels says which tables of an app without errors have their rows in memory alone.
func printChannels(s *streams, dir string) {
	src, _, err := node.ReadSource(dir)
	if err != nil {
		return // it was there a moment ago
	}
	p, _ := sql.CompileFiles(src.File, src.SQL, nil, src.Files)
	if p == nil {
		return
	}
	for _, ch := range p.Channels {
		fmt.Fprintln(s.out, "  "+sql.DescribeChannel(ch))
	}
}
