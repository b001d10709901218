package change_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"laaster/app"
	"laaster/internal/change"
)

// FuzzParseBatch: whatever parses is canonical, that is, building it again gives the same bytes; nothing panics. The fuzzer
// is let past the checksum.
func FuzzParseBatch(f *testing.F) {
	good := sampleBatch(f)
	f.Add(good.Raw())
	var b change.Builder
	empty := b.Seal(change.Header{Seq: 1})
	f.Add(bytes.Clone(empty.Raw()))
	f.Add([]byte("LAAB"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 8 {
			raw = reseal(bytes.Clone(raw))
		}
		checkBatch(t, raw)
	})
}

// FuzzEntries is FuzzParseBatch with a header that fits what follows it.
func FuzzEntries(f *testing.F) {
	good := sampleBatch(f)
	f.Add(good.Raw()[change.HeaderSize:])
	f.Fuzz(func(t *testing.T, area []byte) {
		var b change.Builder
		head := b.Seal(change.Header{Seq: 1})
		raw := append(bytes.Clone(head.Raw()), area...)
		le := binary.LittleEndian
		le.PutUint32(raw[88:], uint32(len(area)))
		entries, records := uint32(0), uint32(0)
		for rest := area; len(rest) >= 24; entries++ { // as the drawing in docs/formats.md has it
			records += le.Uint32(rest[20:])
			rest = rest[min(uint64(len(rest)), 4+uint64(le.Uint32(rest))):]
		}
		le.PutUint32(raw[80:], entries)
		le.PutUint32(raw[84:], records)
		checkBatch(t, reseal(raw))
		raw[8] = change.FormatVersion // with rules
		checkBatch(t, reseal(raw))
	})
}

// checkBatch builds a batch that parses again, and wants the same bytes.
func checkBatch(t *testing.T, raw []byte) {
	parsed, err := change.ParseBatch(raw)
	if err != nil {
		return
	}
	var b change.Builder
	for it, e := parsed.Entries(), (change.Entry{}); it.Next(&e); {
		checkRecords(t, &e)
		if err := b.Add(&e); err != nil {
			t.Fatal(err)
		}
	}
	again := b.Seal(*parsed.Header())
	if !bytes.Equal(again.Raw(), raw) || *again.Header() != *parsed.Header() {
		t.Fatalf("not canonical:\n%x\n%x", raw, again.Raw())
	}
}

// checkRecords walks the records of an entry; when they are valid they encode to the same bytes.
func checkRecords(t *testing.T, e *change.Entry) {
	it, r, again := e.Records(), change.Record{}, []byte(nil)
	for it.Next(&r) {
		again = change.AppendRecord(again, e.Op, &r)
	}
	if it.Err() == nil && e.Kind == change.EntryWrite && !bytes.Equal(again, e.Body) {
		t.Fatalf("records not canonical:\n%x\n%x", e.Body, again)
	}
}

// FuzzRecords walks arbitrary bytes as the records of each operation.
func FuzzRecords(f *testing.F) {
	for _, e := range sampleEntries() {
		f.Add(uint8(e.Op), e.Count, e.Body)
	}
	f.Fuzz(func(t *testing.T, op uint8, count uint32, body []byte) {
		e := change.Entry{Kind: change.EntryWrite, Op: change.Op(op%5 + 1), Count: count, Body: body}
		checkRecords(t, &e)
		e.Refused = e.Op <= change.OpIgnore
		checkRecords(t, &e)
	})
}

// FuzzRow: a row that is Valid can be read in every column, and rows of equal values are equal bytes.
func FuzzRow(f *testing.F) {
	l := change.NewLayout([]app.Type{app.UUID, app.Text, app.Int8, app.Bool, app.Timestamptz, app.JSONB, app.Int4, app.Float8, app.Numeric,
		app.Date, app.Timestamp, app.Array(app.Text), app.Array(app.Date), app.Interval})
	vals := make([]change.Value, l.Columns())
	for i := range vals {
		vals[i] = change.Null()
	}
	f.Add([]byte(l.Append(nil, vals)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if l.Valid(raw) != nil {
			return
		}
		for i := range vals {
			vals[i] = l.Get(raw, i)
		}
		once := l.Append(nil, vals)
		if err := l.Valid(once); err != nil {
			t.Fatal(err)
		}
		for i := range vals {
			if got, want := l.Get(once, i), vals[i]; got.Null != want.Null || !got.Null && (got.N != want.N || !bytes.Equal(got.B, want.B)) {
				t.Fatalf("column %d: %v became %v", i, want, got)
			}
		}
	})
}

// FuzzPosition: what parses prints as itself or as a shorter form that parses to the same.
func FuzzPosition(f *testing.F) {
	f.Add("abcdefghij234567.0-42")
	f.Add("abcdefghij234567.0-42,abcdefghij234567.1-7")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := change.ParsePosition(s)
		if err != nil {
			return
		}
		if again, err := change.ParsePosition(p.String()); err != nil || again != p {
			t.Fatalf("%q became %q", s, p)
		}
	})
}
