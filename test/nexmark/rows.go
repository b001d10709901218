package nexmark

import (
	"bytes"
	"fmt"

	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// SideRows is how many rows the side input of q13 has.
const SideRows = 10_000

// Encoder turns events into batches for an app made by [App]. Not safe for concurrent use.
type Encoder struct {
	tables [3]*expr.TableRules // by Kind
	side   *expr.TableRules
	body   [3][]byte
	count  [3]uint32
	vals   []change.Value
	row    []byte
	b      change.Builder
	seq    uint64
	stamp  int64
}

// NewEncoder returns an encoder for a program compiled from [App].
func NewEncoder(p *flow.Program) *Encoder {
	e := &Encoder{}
	for _, r := range p.Relations {
		switch r.Name {
		case "person":
			e.tables[Person] = r.Table
		case "auction":
			e.tables[Auction] = r.Table
		case "bid":
			e.tables[Bid] = r.Table
		case "side_input":
			e.side = r.Table
		}
	}
	return e
}

// Definition returns the first batch of the log.
func (e *Encoder) Definition(p *flow.Program) change.Batch {
	return e.seal(1_000_000, change.Entry{Kind: change.EntryDefinition, Last: true, Body: p.Catalog})
}

// Side returns the rows of the side input: (i, i as text).
func (e *Encoder) Side() change.Batch {
	var body []byte
	for i := range int64(SideRows) {
		row := e.side.Layout.Append(nil, []change.Value{change.Int(i), change.Bytes(fmt.Appendf(nil, "%d", i))})
		body = change.AppendRecord(body, change.OpInsert, &change.Record{Row: row})
	}
	return e.seal(2_000_000, change.Entry{Kind: change.EntryWrite, Op: change.OpInsert, Last: true, Table: e.side.Catalog, Version: e.side.Version,
		Count: SideRows, Body: body})
}

// Add puts an event into the open batch. stamp is when the log takes it: ingest_time.
func (e *Encoder) Add(ev *Event, stamp int64) {
	t := e.tables[ev.Kind]
	v := e.vals[:0]
	n, s := &ev.Numbers, &ev.Texts
	switch ev.Kind {
	case Person:
		v = append(v, change.Int(n[0]), change.Bytes(s[0]), change.Bytes(s[1]), change.Bytes(s[2]), change.Bytes(s[3]), change.Bytes(s[4]),
			change.Int(ev.Time), change.Bytes(s[5]))
	case Auction:
		v = append(v, change.Int(n[0]), change.Bytes(s[0]), change.Bytes(s[1]), change.Int(n[1]), change.Int(n[2]), change.Int(ev.Time),
			change.Int(ev.Expires), change.Int(n[3]), change.Int(n[4]), change.Bytes(s[2]))
	case Bid:
		v = append(v, change.Int(n[0]), change.Int(n[1]), change.Int(n[2]), change.Bytes(s[0]), change.Bytes(s[1]), change.Int(ev.Time),
			change.Bytes(s[2]))
		if t.Layout.Columns() > len(v) {
			v = append(v, change.Int(stamp))
		}
	}
	e.vals = v
	e.row = t.Layout.Append(e.row[:0], v)
	e.body[ev.Kind] = change.AppendRecord(e.body[ev.Kind], change.OpInsert, &change.Record{Row: e.row})
	e.count[ev.Kind]++
}

// Entries returns what was added since the last call or batch, an entry for each stream. They are the caller's.
func (e *Encoder) Entries() []change.Entry {
	entries := e.entries()
	for i := range entries {
		entries[i].Body = bytes.Clone(entries[i].Body)
	}
	e.forget()
	return entries
}

// Seal makes a batch of entries with this stamp, which may be that of the batch before.
func (e *Encoder) Seal(stamp int64, entries ...change.Entry) change.Batch {
	e.stamp = min(e.stamp, stamp-1)
	return e.seal(stamp, entries...)
}

// Batch seals what was added since the last batch.
func (e *Encoder) Batch(stamp int64) change.Batch {
	b := e.seal(stamp, e.entries()...)
	e.forget()
	return b
}

func (e *Encoder) entries() []change.Entry {
	entries := make([]change.Entry, 0, 3)
	for k, t := range e.tables {
		if e.count[k] > 0 {
			entries = append(entries, change.Entry{Kind: change.EntryWrite, Op: change.OpInsert, Last: true, Table: t.Catalog, Version: t.Version,
				Count: e.count[k], Body: e.body[k]})
		}
	}
	return entries
}

func (e *Encoder) forget() {
	for k := range e.body {
		e.body[k], e.count[k] = e.body[k][:0], 0
	}
}

func (e *Encoder) seal(stamp int64, entries ...change.Entry) change.Batch {
	e.b.Reset()
	for i := range entries {
		if err := e.b.Add(&entries[i]); err != nil {
			panic(err)
		}
	}
	e.seq++
	e.stamp = max(stamp, e.stamp+1)
	b := e.b.Seal(change.Header{Seq: e.seq, Stamp: e.stamp})
	return b.Clone()
}
