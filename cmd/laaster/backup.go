package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"laaster/app"
	"laaster/internal/kit/run"
	"laaster/internal/node"
)

type backupCommand struct {
	Make   backupMake   `cmd:"" default:"withargs" help:"Write a backup of a running server, or of the data folder of a stopped one, into a file."`
	Verify backupVerify `cmd:"" help:"Read a whole backup and say what is in it."`
}

type backupMake struct {
	File   string `arg:"" help:"The file to write; it must not be there." type:"path"`
	Server string `help:"Admin listener of a running server." placeholder:"ADDR" xor:"from" required:""`
	Data   string `help:"Data folder of a stopped server." placeholder:"DIR" type:"path" xor:"from" required:""`
	Keys   string `help:"Key file, or env:NAME, of an encrypted folder; a server has its own, and they are needed only to verify what it sends." placeholder:"FILE"`
	JSON   bool   `name:"json" help:"Print what is in the backup as JSON."`
}

// Help implements kong.HelpProvider.
func (c *backupMake) Help() string {
	return "The backup is one file with the newest checkpoint and the log from where it begins, as they are at one position; the server goes on meanwhile. It is\n" +
		"verified as it is written, and is there only when it is whole and on the disk. Note the root that is printed elsewhere: `laaster backup verify`\n" +
		"and `laaster restore` compare it. A backup of an encrypted folder is encrypted with the same keys: keep them elsewhere.\n\n" +
		"Examples:\n  laaster backup today.backup --server 127.0.0.1:8081\n  laaster backup today.backup --data my-app/.laaster\n  laaster backup verify today.backup"
}

// Run implements the command.
func (c *backupMake) Run(s *streams) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if _, err := os.Lstat(c.File); err == nil {
		return fmt.Errorf("%s is there already: choose another name, or remove it", c.File)
	}
	f, err := os.CreateTemp(filepath.Dir(c.File), filepath.Base(c.File)+".partial-*")
	if err != nil {
		return err
	}
	keys, err := absolute(c.Keys)
	if err == nil {
		err = c.write(ctx, s, f, keys)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if tell := steps(s); tell != nil {
		tell("verifying")
	}
	m, _, err := node.VerifyBackup(f.Name(), keys)
	locked := c.Server != "" && keys == "" && node.NeedsKeys(err)
	if err != nil && !locked {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := node.Settle(f.Name(), c.File); err != nil {
		return err
	}
	if locked {
		fmt.Fprintf(s.out, "%s is there. It is encrypted and was not verified: say --keys, or `laaster backup verify %s --keys FILE`\n", c.File, c.File)
		return nil
	}
	return printManifest(s, c.File, m, c.JSON)
}

// write fills the file.
func (c *backupMake) write(ctx context.Context, s *streams, f *os.File, keys string) error {
	if c.Server != "" {
		srv, err := newServer(c.Server)
		if err != nil {
			return err
		}
		body, err := srv.call(ctx, http.MethodGet, "/v1/backup", nil)
		if err != nil {
			return err
		}
		defer body.Close()
		if _, err := io.Copy(f, body); err != nil {
			return fmt.Errorf("the server did not finish the backup: %w\n  hint: its log says why", err)
		}
		return nil
	}
	settings := app.DefaultSettings()
	settings.Data, settings.Encryption.Keys = c.Data, keys
	_, err := node.Backup(ctx, node.BackupOptions{Settings: settings, Clock: run.System{}, Logger: warnings(s)}, f)
	return err
}

// absolute makes the name of a key file one that does not depend on where it is read from.
func absolute(keys string) (string, error) {
	if keys == "" || strings.HasPrefix(keys, "env:") {
		return keys, nil
	}
	return filepath.Abs(keys)
}

type backupVerify struct {
	File string `arg:"" help:"The backup." type:"path"`
	Keys string `help:"Key file, or env:NAME, of an encrypted backup." placeholder:"FILE"`
	Root string `help:"The root that was printed when the backup was made: another one is an error." placeholder:"HEX"`
	JSON bool   `name:"json" help:"Print what is in it as JSON."`
}

// Run implements the command.
func (c *backupVerify) Run(s *streams) error {
	keys, err := absolute(c.Keys)
	if err != nil {
		return err
	}
	m, _, err := node.VerifyBackup(c.File, keys)
	if err != nil {
		return err
	}
	if c.Root != "" && !strings.EqualFold(c.Root, m.Root) {
		return fmt.Errorf("%s is whole, but its root is %s, not %s: it is another backup, or somebody made it anew", c.File, m.Root, c.Root)
	}
	return printManifest(s, c.File, m, c.JSON)
}

func printManifest(s *streams, file string, m *node.BackupManifest, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(s.out).Encode(m)
	}
	fmt.Fprintf(s.out, "%s: log %s, batches %d to %d", file, m.Log, m.First, m.Until)
	if m.Batches > 0 {
		fmt.Fprintf(s.out, " (%s to %s)", stamp(m.FirstStamp), stamp(m.LastStamp))
	}
	fmt.Fprintln(s.out)
	for _, c := range m.Checkpoints {
		fmt.Fprintf(s.out, "  checkpoint of batch %d (%s), %d pages\n", c.Seq, stamp(c.Stamp), c.Pages)
	}
	if m.First > 1 && len(m.Checkpoints) > 0 {
		fmt.Fprintf(s.out, "  can be restored to any position from %d on\n", m.Checkpoints[0].Seq)
	}
	fmt.Fprintf(s.out, "  root %s\n", m.Root)
	return nil
}

// stamp formats microseconds since 1970.
func stamp(us int64) string { return time.UnixMicro(us).UTC().Format(time.RFC3339) }

type restoreCommand struct {
	File  string `arg:"" help:"The backup." type:"path"`
	Data  string `required:"" help:"Folder to make: it must be empty or not there." placeholder:"DIR" type:"path"`
	Until string `help:"Restore as it was at a position, a sequence or a time such as 2026-11-22T09:30:00Z. Default: the end of the backup." placeholder:"WHEN"`
	Root  string `help:"The root that was printed when the backup was made: another one is an error." placeholder:"HEX"`
	Keys  string `help:"Key file, or env:NAME, of an encrypted backup; its first key encrypts the new folder." placeholder:"FILE"`
	JSON  bool   `name:"json" help:"Print what was made as JSON."`
}

// Help implements kong.HelpProvider.
func (c *restoreCommand) Help() string {
	return "Verifies the whole backup before it writes anything, then makes a data folder of it, under a new log id. Start it with\n" +
		"`laaster run <app> --data <folder>`. Live clients of the old log get their views anew.\n\n" +
		"Examples:\n  laaster restore today.backup --data my-app/.laaster\n  laaster restore today.backup --data /tmp/before --until 2026-11-22T09:30:00Z"
}

// Run implements the command.
func (c *restoreCommand) Run(s *streams) error {
	keys, err := absolute(c.Keys)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	done, err := node.Restore(ctx, node.RestoreOptions{File: c.File, Data: c.Data, Until: c.Until, Root: c.Root, Keys: keys, Clock: run.System{},
		Logger: warnings(s), Progress: steps(s)})
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(s.out).Encode(done)
	}
	fmt.Fprintf(s.out, "%s is ready: log %s, made of %s up to batch %d\n", done.Data, done.Log, done.Parent, done.Until)
	return nil
}
