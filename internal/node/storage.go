package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"laaster/app"
	"laaster/internal/backbone"
	"laaster/internal/backbone/jetstream"
	"laaster/internal/backbone/memory"
	"laaster/internal/change"
	"laaster/internal/checkpoint"
	"laaster/internal/flow"
	"laaster/internal/seal"
	"laaster/internal/sql"
	"laaster/internal/view"
)

// AppError is an app.sql that cannot run: the findings, rendered for people.
type AppError struct{ Findings []sql.Diagnostic }

// Error returns every finding with its place, line and caret.
func (e *AppError) Error() string {
	var b strings.Builder
	b.WriteString("app.sql cannot run:\n\n")
	for i := range e.Findings {
		b.WriteString(e.Findings[i].Render() + "\n")
	}
	return b.String()
}

// readApp returns the app's SQL and the name to call it by.
func readApp(dir string) (file string, src []byte, err error) {
	file = filepath.Join(dir, "app.sql")
	src, err = os.ReadFile(file)
	if !errors.Is(err, os.ErrNotExist) {
		return file, src, err
	}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return file, nil, fmt.Errorf("%s: there is no such folder\n  hint: name the app's folder, such as examples/vote", dir)
	}
	return file, nil, fmt.Errorf("%s: there is no app.sql in the folder\n  hint: an app is a folder with app.sql, optionally laaster.yaml and public/", dir)
}

// Check returns everything to say about the app in dir, errors and warnings, of laaster.yaml and then of app.sql. Its own error
// means that the app could not be read.
func Check(dir string) ([]sql.Diagnostic, error) {
	file, src, err := readApp(dir)
	if err != nil {
		return nil, err
	}
	settings, err := CheckSettings(dir)
	if err != nil {
		return nil, err
	}
	_, found := sql.CompileFiles(file, src, nil, AppFiles(dir))
	return append(settings, found...), nil
}

// Explain prints the operators of the views of the app in dir, or of the one that is named.
func Explain(dir, name string) (string, error) {
	file, src, err := readApp(dir)
	if err != nil {
		return "", err
	}
	p, found := sql.CompileFiles(file, src, nil, AppFiles(dir))
	if p == nil {
		return "", &AppError{found}
	}
	var b strings.Builder
	for _, v := range p.Views {
		if rel := p.Relations[v.Relation].Name; name == "" || name == rel {
			b.WriteString(sql.ExplainView(p, rel) + "\n")
		}
	}
	if b.Len() == 0 && name != "" {
		return "", fmt.Errorf("%s: no view is named %s", file, name)
	}
	return b.String(), nil
}

// CheckSettings returns what is wrong with the settings file in dir, nothing when there is none.
func CheckSettings(dir string) ([]sql.Diagnostic, error) {
	name := filepath.Join(dir, "laaster.yaml")
	src, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	_, err = app.ParseSettings(name, src)
	return settingsFindings(name, strings.Split(string(src), "\n"), err), nil
}

// settingsFindings turns an error of app.ParseSettings, which may join several, into findings.
func settingsFindings(file string, lines []string, err error) []sql.Diagnostic {
	if err == nil {
		return nil
	}
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		var out []sql.Diagnostic
		for _, e := range all.Unwrap() {
			out = append(out, settingsFindings(file, lines, e)...)
		}
		return out
	}
	d := sql.Diagnostic{File: file, Line: 1, Col: 1, Width: 1, Severity: sql.Error, Msg: err.Error()}
	if e := (*app.SettingsError)(nil); errors.As(err, &e) {
		d.Line, d.Col, d.Msg, d.Hint = max(e.Line, 1), max(e.Col, 1), e.Msg, e.Hint
	}
	if d.Line <= len(lines) {
		d.Excerpt = strings.TrimSuffix(lines[d.Line-1], "\r")
		if rest := []rune(d.Excerpt); d.Col <= len(rest) {
			word, _, _ := strings.Cut(string(rest[d.Col-1:]), " ")
			d.Width = max(len([]rune(word)), 1)
		}
	}
	return []sql.Diagnostic{d}
}

// compile reads the app against the definition that the log has, or against none.
func (n *Node) compile(prev *sql.Catalog) error {
	file, src, err := readApp(n.opt.Dir)
	if err != nil {
		return err
	}
	program, found := sql.CompileFiles(file, src, prev, AppFiles(n.opt.Dir))
	for i := range found {
		if found[i].Severity == sql.Error {
			return &AppError{found}
		}
	}
	n.program.Store(program)
	return nil
}

// openLog opens the shard on the driver that the settings name.
func (n *Node) openLog(ctx context.Context) error {
	s := &n.opt.Settings
	o := backbone.Options{Clock: n.opt.Clock, Log: n.opt.Logger}
	if s.Backbone == "memory" || s.Durability == string(backbone.Memory) {
		if _, err := os.Stat(filepath.Join(s.Data, "store")); err == nil {
			n.opt.Logger.Warn("nothing is read from the data folder or written to it, since the log is in memory", "data", s.Data, "durability", s.Durability, "backbone", s.Backbone)
		}
		o.Driver = memory.NewStore(int64(s.Limits.MemoryLog)).Open()
		return n.openShard(ctx, o)
	}
	var err error
	if n.folder, err = backbone.OpenFolder(s.Data); err != nil {
		return err
	}
	dir := n.folder.Path()
	if n.keys, err = loadKeys(n.opt.Dir, s.Encryption.Keys); err != nil {
		return err
	}
	files, bytes, err := backbone.ResyncStore(dir, time.Time{}, n.opt.Logger)
	if err != nil {
		return fmt.Errorf("make durable what the process before this one could not sync: %w", err)
	}
	clean := n.cleanBefore()
	if files > 0 {
		n.opt.Logger.Warn("what the process before this one could not sync was written anew", "files", files, "bytes", bytes)
		clean = 0
	}
	n.guard = backbone.NewGuard(backbone.GuardOptions{Dir: dir, LowWater: int64(s.Disk.LowWater), Reserve: int64(s.Disk.Reserve), Free: n.opt.Free, Log: n.opt.Logger})
	o.Dir, o.Keys = dir, n.keys
	o.Reopen = func(ctx context.Context) (backbone.Driver, error) { return n.openDriver(ctx, n.shard.Head()) }
	if o.Driver, err = n.openDriver(ctx, clean); err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	if err := n.openShard(ctx, o); err != nil {
		return err
	}
	return n.folder.Upgrade()
}

func (n *Node) openShard(ctx context.Context, o backbone.Options) (err error) {
	if n.shard, err = backbone.Open(ctx, o); err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	return nil
}

// cleanBefore returns the position of the newest checkpoint, as far as can be told before the log is open: the store's files below it need not be
// inspected before anything else, since the start does not read them; the scrubber does.
func (n *Node) cleanBefore() uint64 {
	dir := filepath.Join(n.folder.Path(), "checkpoints")
	if _, err := os.Stat(dir); err != nil {
		return 0
	}
	s, err := checkpoint.Open(checkpoint.Options{Dir: dir, ReadOnly: true, Keys: n.keys, Clock: n.opt.Clock, Slog: slog.New(slog.DiscardHandler)})
	if err != nil {
		return 0
	}
	defer s.Close() //nolint:errcheck // read only
	for _, i := range s.List() {
		if i.Err == nil {
			return i.Header.Seq
		}
	}
	return 0
}

// openDriver opens the store in the data folder, or on the external server. clean is as jetstream.Options.CleanBefore.
func (n *Node) openDriver(ctx context.Context, clean uint64) (backbone.Driver, error) {
	s, dir := &n.opt.Settings, n.folder.Path()
	if s.Backbone != "embedded" {
		return driver(jetstream.Open(ctx, jetstream.Options{URL: s.Backbone, Name: s.Stream, Log: n.opt.Logger}))
	}
	acknowledged, err := backbone.Acknowledged(dir, 0)
	if err != nil {
		return nil, err
	}
	first, err := backbone.Begins(dir, 0)
	if err != nil {
		return nil, err
	}
	return driver(jetstream.Open(ctx, jetstream.Options{Dir: n.folder.Store(), Acknowledged: acknowledged, First: first, CleanBefore: clean, Sync: backbone.Level(s.Durability), Log: n.opt.Logger}))
}

// driver keeps a nil driver from becoming an interface that is not nil.
func driver(d *jetstream.Driver, err error) (backbone.Driver, error) {
	if err != nil {
		return nil, err
	}
	return d, nil
}

// loadKeys reads the keys that the settings name, relative to the app folder; nil when they name none.
func loadKeys(dir, where string) (*seal.Ring, error) {
	switch {
	case where == "":
		return nil, nil
	case !strings.HasPrefix(where, "env:") && !filepath.IsAbs(where):
		where = filepath.Join(dir, where)
	}
	keys, err := seal.Load(where)
	if err != nil {
		return nil, fmt.Errorf("encryption.keys: %w", err)
	}
	return keys, nil
}

// define settles under which definition the log is read. The definition of app.sql is compared with the last one in the
// log; a changed one that is compatible is appended, so that every reader switches at the same position.
func (n *Node) define(ctx context.Context) error {
	doc, err := n.lastDefinition(ctx)
	if err != nil {
		return err
	}
	var prev *sql.Catalog
	if doc != nil {
		if prev, err = sql.ParseCatalog(doc); err != nil {
			return fmt.Errorf("the definition in the log: %w", err)
		}
		if err := n.compile(prev); err != nil {
			return err
		}
		verdict, differences := sql.Compare(prev, n.program.Load())
		switch verdict {
		case sql.Same:
			return nil
		case sql.Refused:
			if !sql.AtStart(differences) {
				return refusedChange(differences)
			}
			n.warnReaders(differences)
		}
		n.opt.Logger.Info("app.sql changed: the new definition is appended and its views are built by replay", "changes", len(differences))
	}
	_, err = n.appendDefinition(ctx, n.program.Load().Catalog)
	return err
}

// appendDefinition makes doc the definition of the log from the next batch on, and returns that batch.
func (n *Node) appendDefinition(ctx context.Context, doc []byte) (change.Batch, error) {
	var b change.Builder
	if err := b.Add(&change.Entry{Kind: change.EntryDefinition, Last: true, Body: doc}); err != nil {
		return change.Batch{}, fmt.Errorf("the definition of the app: %w", err)
	}
	batch, err := n.shard.Append(ctx, &b)
	if err != nil {
		return change.Batch{}, fmt.Errorf("append the definition: %w", err)
	}
	return batch.Clone(), nil
}

func refusedChange(differences []sql.Difference) error {
	var b strings.Builder
	b.WriteString("app.sql differs from the definition in the log in a way that yesterday's rows would not survive:\n")
	told := ""
	for i := range differences {
		b.WriteString("  " + differences[i].String() + "\n")
		if differences[i].Relation != told {
			for _, who := range differences[i].Breaks {
				b.WriteString("    " + who + "\n")
			}
		}
		told = differences[i].Relation
	}
	b.WriteString("  hint: undo these changes; or keep the history and start a new log with --data <another folder>")
	return errors.New(b.String())
}

// lastDefinition returns the newest definition document of the log, nil when there is none.
func (n *Node) lastDefinition(ctx context.Context) (doc []byte, err error) {
	err = n.shard.Replay(ctx, 1, func(b *change.Batch) error {
		e := change.Entry{}
		if it := b.Entries(); it.Next(&e) && e.Kind == change.EntryDefinition {
			doc = append(doc[:0], e.Body...)
		}
		return nil
	})
	return doc, err
}

// replay brings engine and views to the head of the log.
func (n *Node) replay(ctx context.Context) error {
	var err error
	program := n.program.Load()
	n.engine, err = flow.New(program, n.engineOptions())
	if err != nil {
		return err
	}
	n.slots = identity(len(program.Relations))
	n.canary = canary{}
	n.store = view.New(program.Relations, n.viewOptions())
	n.use(program)
	head := n.shard.Head()
	n.status.Lock()
	n.status.batches = head
	n.status.Unlock()
	p := newProgress(n.opt.Progress, n.opt.Clock, head)
	err = n.shard.Replay(ctx, 1, func(b *change.Batch) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		epoch, err := n.engine.Apply(b)
		if err != nil {
			return err
		}
		n.store.Apply(epoch)
		if err := n.audited(b); err != nil {
			return err
		}
		seq := b.Header().Seq
		if err := n.canary.passed(n, b); errors.Is(err, errDiverged) { // the log is the truth, and there is nothing else to go by
			n.opt.Logger.Error("the replay of the log gave another state than the one that ran before", "error", err.Error())
			n.degrade("canary", err.Error())
		} else if err != nil {
			return err
		}
		if n.grew(len(b.Raw())); seq == head {
			last := b.Clone()
			n.last = &last
		}
		p.at(seq)
		n.status.Lock()
		n.status.replayed = b.Header().Seq
		n.status.Unlock()
		return nil
	})
	p.done()
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	n.applied.Store(head)
	n.remembered.Store(n.engine.SeenBytes())
	for i := range program.Relations {
		n.store.SetBirth(i, n.engine.Birth(i))
	}
	return nil
}

func (n *Node) viewOptions() view.Options {
	l := &n.opt.Settings.Limits
	return view.Options{RingBytes: int(l.Ring), Memory: int64(l.Memory) / 2, Damaged: n.damaged}
}

func (n *Node) engineOptions() flow.Options {
	l := &n.opt.Settings.Limits
	began := n.opt.Clock.Now()
	return flow.Options{Definition: seenBy, Window: time.Duration(l.DedupeWindow),
		MaxViewBytes: int64(l.ViewState), MaxBytes: int64(l.State), MaxJoinRows: int64(l.JoinRows), Resident: int64(l.Memory) / 2,
		Clock: func() int64 { return n.opt.Clock.Now().Sub(began).Nanoseconds() }}
}

// position returns the text of a position of this node's shard.
func (n *Node) position(seq uint64) string {
	return change.Position{Log: n.shard.ID(), Shard: n.shard.Number(), Seq: seq}.String()
}

// seenBy is definition for those who come back: what a relation shows them is another thing, too, when its rules are others.
func seenBy(doc []byte) ([]flow.RelationVersion, error) {
	c, err := sql.ParseCatalog(doc)
	if err != nil {
		return nil, err
	}
	out, err := definition(doc)
	for i := range out {
		if s := c.Sight(out[i].Name); s != "" {
			out[i].Hash += " seen " + s
		}
	}
	return out, err
}

// definition lists the relations of a definition document for the engine: a table is another one for its readers when it
// has other columns, a view when its hash differs.
func definition(doc []byte) ([]flow.RelationVersion, error) {
	c, err := sql.ParseCatalog(doc)
	if err != nil {
		return nil, err
	}
	out := make([]flow.RelationVersion, 0, len(c.Tables)+len(c.Views))
	for _, t := range c.Tables {
		out = append(out, flow.RelationVersion{Name: t.Name, Hash: fmt.Sprintf("table %d with %d columns", t.ID, len(t.Columns))})
	}
	for _, v := range c.Views {
		out = append(out, flow.RelationVersion{Name: v.Name, Hash: v.Hash})
	}
	return out, nil
}
