package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"laaster/app"
	"laaster/internal/backbone"
	"laaster/internal/backbone/jetstream"
	"laaster/internal/backbone/memory"
	"laaster/internal/change"
	"laaster/internal/flow"
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
	_, found := sql.Compile(file, src, nil)
	return append(settings, found...), nil
}

// Explain prints the operators of the views of the app in dir, or of the one that is named.
func Explain(dir, name string) (string, error) {
	file, src, err := readApp(dir)
	if err != nil {
		return "", err
	}
	p, found := sql.Compile(file, src, nil)
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
	program, found := sql.Compile(file, src, prev)
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
	o := backbone.Options{Clock: n.opt.Clock, Log: n.opt.Logger}
	var err error
	switch where := n.opt.Settings.Backbone; where {
	case "memory":
		o.Driver = memory.NewStore(int64(n.opt.Settings.Limits.MemoryLog)).Open()
	default:
		if n.folder, err = backbone.OpenFolder(n.opt.Settings.Data); err != nil {
			return err
		}
		o.Dir = n.folder.Path()
		js := jetstream.Options{Dir: n.folder.Store(), Log: n.opt.Logger}
		if js.Acknowledged, err = backbone.Acknowledged(n.folder.Path(), 0); err != nil {
			return fmt.Errorf("open the log: %w", err)
		}
		if where != "embedded" {
			js = jetstream.Options{URL: where, Name: n.opt.Settings.Stream, Log: n.opt.Logger}
		}
		if o.Driver, err = jetstream.Open(ctx, js); err != nil {
			return fmt.Errorf("open the log: %w", err)
		}
	}
	if n.shard, err = backbone.Open(ctx, o); err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	return nil
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
			return refusedChange(differences)
		}
		n.opt.Logger.Info("app.sql changed: the new definition is appended and its views are built by replay", "changes", len(differences))
	}
	var b change.Builder
	if err := b.Add(&change.Entry{Kind: change.EntryDefinition, Last: true, Body: n.program.Load().Catalog}); err != nil {
		return fmt.Errorf("the definition of the app: %w", err)
	}
	if _, err := n.shard.Append(ctx, &b); err != nil {
		return fmt.Errorf("append the definition: %w", err)
	}
	return nil
}

func refusedChange(differences []sql.Difference) error {
	var b strings.Builder
	b.WriteString("app.sql differs from the definition in the log in a way that yesterday's rows would not survive:\n")
	for i := range differences {
		b.WriteString("  " + differences[i].String() + "\n")
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
	n.slots = make([]int, len(program.Relations))
	for i := range n.slots {
		n.slots[i] = i
	}
	n.store = view.New(program.Relations, view.Options{RingBytes: int(n.opt.Settings.Limits.Ring)})
	n.rules.Use(program.Definition)
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
		p.at(b.Header().Seq)
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

func (n *Node) engineOptions() flow.Options {
	l := &n.opt.Settings.Limits
	began := n.opt.Clock.Now()
	return flow.Options{Definition: definition, Window: time.Duration(l.DedupeWindow),
		MaxViewBytes: int64(l.ViewState), MaxBytes: int64(l.State), MaxJoinRows: int64(l.JoinRows),
		Clock: func() int64 { return n.opt.Clock.Now().Sub(began).Nanoseconds() }}
}

// position returns the text of a position of this node's shard.
func (n *Node) position(seq uint64) string {
	return change.Position{Log: n.shard.ID(), Shard: n.shard.Number(), Seq: seq}.String()
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
