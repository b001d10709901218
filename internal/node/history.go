package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"laaster/internal/backbone"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/kit/run"
	"laaster/internal/push"
)

// How the log is read for clients that come back late. The store answers one request after the other, 256 KiB at most, so an append waits for two of
// these at worst; half of what a backup may take keeps that rare.
const (
	historyRate    = 32 << 20  // bytes of the log a second, for all of them
	historyReaders = 2         // at one time
	historyPage    = 256 << 10 // bytes of the log that one read takes, or one batch
)

// logHistory is the log for clients that come back when the ring has gone on.
type logHistory struct {
	shard   *backbone.Shard
	tables  func() []*expr.Relation // as they are now
	clock   run.Clock
	readers chan struct{}
	mu      struct {
		sync.Mutex
		due time.Time // when the next byte may be read
	}
}

// newHistory returns the history of the node's log.
func (n *Node) newHistory() push.History {
	h := &logHistory{shard: n.shard, clock: n.opt.Clock, readers: make(chan struct{}, historyReaders)}
	h.tables = func() []*expr.Relation { return n.program.Load().Relations }
	return h
}

// First implements push.History.
func (h *logHistory) First() uint64 { return h.shard.First() - 1 }

// errLogPage ends a read that has what it wants.
var errLogPage = errors.New("enough")

// Read implements push.History.
func (h *logHistory) Read(ctx context.Context, rels []*expr.Relation, from, to uint64, row func(rel int, key []byte)) (at uint64, stamp int64, err error) {
	select {
	case h.readers <- struct{}{}:
		defer func() { <-h.readers }()
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	}
	if err := h.pace(ctx); err != nil {
		return 0, 0, err
	}
	read := 0
	r := keyReader{rels: rels, row: row}
	if err := r.bind(h.tables()); err != nil {
		return 0, 0, err
	}
	err = h.shard.Replay(ctx, from+1, func(b *change.Batch) error {
		read += len(b.Raw())
		if err := r.batch(b); err != nil {
			return fmt.Errorf("batch %d: %w", b.Header().Seq, err)
		}
		at, stamp = b.Header().Seq, b.Header().Stamp
		if at >= to || read >= historyPage {
			return errLogPage
		}
		return ctx.Err()
	})
	h.took(read)
	switch {
	case err != nil && !errors.Is(err, errLogPage):
		return 0, 0, err
	case at == 0:
		return 0, 0, fmt.Errorf("the log ends at %d", from)
	}
	return at, stamp, nil
}

// pace waits until the rate allows another read.
func (h *logHistory) pace(ctx context.Context) error {
	h.mu.Lock()
	wait := h.mu.due.Sub(h.clock.Now())
	h.mu.Unlock()
	if wait <= 0 {
		return nil
	}
	select {
	case <-h.clock.After(wait):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// took counts bytes that were read.
func (h *logHistory) took(bytes int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := h.clock.Now(); h.mu.due.Before(now) {
		h.mu.due = now
	}
	h.mu.due = h.mu.due.Add(time.Duration(bytes) * time.Second / historyRate)
}

// keyReader finds the keys that batches write, of relations with a trace.
type keyReader struct {
	rels   []*expr.Relation
	row    func(rel int, key []byte)
	tables map[uint32]*expr.TableRules // that the relations are of
	key    []byte
}

// bind finds the tables of the relations.
func (r *keyReader) bind(relations []*expr.Relation) error {
	r.tables = map[uint32]*expr.TableRules{}
	for _, rel := range r.rels {
		i := slices.IndexFunc(relations, func(t *expr.Relation) bool { return t.Table != nil && t.Table.Catalog == rel.Trace.Table })
		if i < 0 {
			return fmt.Errorf("%s is of a table that is gone", rel.Name)
		}
		r.tables[rel.Trace.Table] = relations[i].Table
	}
	return nil
}

func (r *keyReader) batch(b *change.Batch) error {
	it, e := b.Entries(), change.Entry{}
	for it.Next(&e) {
		switch e.Kind {
		case change.EntryLost:
			return errors.New("what was in it is lost")
		case change.EntryWrite:
			rules := r.tables[e.Table]
			if rules == nil {
				continue
			}
			if err := r.entry(rules, &e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *keyReader) entry(rules *expr.TableRules, e *change.Entry) error {
	i := slices.IndexFunc(rules.Versions, func(v expr.TableVersion) bool { return v.Version == e.Version })
	if i < 0 {
		return fmt.Errorf("table %s has no version %d", rules.Table.Name, e.Version)
	}
	if e.Op != change.OpInsert && e.Op != change.OpIgnore && e.Op != change.OpMerge {
		return nil
	}
	v := &rules.Versions[i]
	it, rec := e.Records(), change.Record{}
	for it.Next(&rec) {
		if len(rec.Refused) > 0 {
			continue
		}
		if err := v.Layout.Valid(rec.Row); err != nil {
			return err
		}
		for k, rel := range r.rels {
			if rel.Trace.Table != e.Table {
				continue
			}
			r.key = r.key[:0]
			for _, col := range rel.Trace.Key {
				value := rules.Fill[col]
				if col < v.Columns {
					value = v.Layout.Get(rec.Row, col)
				}
				r.key = change.AppendKey(r.key, rules.Layout.Type(col), value, false, false)
			}
			r.row(k, r.key)
		}
	}
	return it.Err()
}
