package change_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"laaster/app"
	"laaster/internal/change"
)

var update = flag.Bool("update", false, "write the kept samples of the current format version anew")

// sampleLayout is the table of the samples.
func sampleLayout() *change.Layout {
	return change.NewLayout([]app.Type{app.UUID, app.Text, app.Int8, app.Bool, app.Timestamptz})
}

func sampleRow(l *change.Layout, text string, n int64) change.Row {
	return l.Append(nil, []change.Value{change.Bytes([]byte("0123456789abcdef")), change.Bytes([]byte(text)), change.Int(n), change.Bool(true), change.Null()})
}

// sampleEntries has every operation and both kinds.
func sampleEntries() []change.Entry {
	rules := change.Rules{Using: []byte("using"), Insert: []byte("insert")}
	l := sampleLayout()
	insert := change.AppendRecord(nil, change.OpInsert, &change.Record{ServerID: true, Row: sampleRow(l, "A", 1)})
	insert = change.AppendRecord(insert, change.OpInsert, &change.Record{Row: sampleRow(l, "", -1)})
	return []change.Entry{
		{Kind: change.EntryWrite, Op: change.OpInsert, Last: true, Table: 3, Version: 2, Count: 2, BodyHash: 0x0123456789abcdef,
			Subject: []byte("alice"), Role: []byte("voter"), Request: []byte("r-1"), Key: []byte("key-1"),
			Trace: []byte("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), Body: insert},
		{Kind: change.EntryWrite, Op: change.OpMerge, Atomic: true, First: 1000, Table: 3, Version: 2, Count: 1, Role: []byte("anon"),
			Body: change.AppendRecord(nil, change.OpMerge, &change.Record{Row: sampleRow(l, "B", 7), Given: []byte{0b101}})},
		{Kind: change.EntryWrite, Op: change.OpIgnore, Table: 3, Version: 2, Count: 1,
			Body: change.AppendRecord(nil, change.OpIgnore, &change.Record{Row: sampleRow(l, "C", 8)})},
		{Kind: change.EntryWrite, Op: change.OpUpdate, Last: true, Table: 3, Version: 2, Count: 1,
			Body: change.AppendRecord(nil, change.OpUpdate, &change.Record{Row: sampleRow(l, "D", 9), Given: []byte{2}, Filter: []byte("n=gt.3")})},
		{Kind: change.EntryWrite, Op: change.OpDelete, Last: true, Table: 3, Version: 2, Count: 1,
			Body: change.AppendRecord(nil, change.OpDelete, &change.Record{Filter: []byte("id=eq.x")})},
		{Kind: change.EntryDefinition, Body: []byte(`{"source":"CREATE TABLE …"}`)},
		{Kind: change.EntryWrite, Op: change.OpDelete, Last: true, Table: 3, Version: 2, Count: 1, Rules: rules.Append(nil),
			Body: change.AppendRecord(nil, change.OpDelete, &change.Record{Filter: []byte("id=eq.x")})},
	}
}

func sampleBatch(t testing.TB) change.Batch {
	t.Helper()
	var b change.Builder
	for _, e := range sampleEntries() {
		if err := b.Add(&e); err != nil {
			t.Fatal(err)
		}
	}
	h := change.Header{Log: change.LogID([]byte("abcdefghij234567")), Shard: 5, Seq: 42, Stamp: 1700000000000001}
	for i := range h.Prev {
		h.Prev[i] = byte(i)
	}
	return b.Seal(h)
}

// dump writes a batch as text, one line for each field that is not empty.
func dump(b *change.Batch) (string, error) {
	var s strings.Builder
	h := b.Header()
	fmt.Fprintf(&s, "log %s shard %d seq %d stamp %d entries %d records %d\nprev %x\n", h.Log, h.Shard, h.Seq, h.Stamp, h.Entries, h.Records, h.Prev)
	l := sampleLayout()
	for it, e := b.Entries(), (change.Entry{}); it.Next(&e); {
		fmt.Fprintf(&s, "entry kind %d op %d atomic %t last %t first %d table %d version %d count %d hash %x\n",
			e.Kind, e.Op, e.Atomic, e.Last, e.First, e.Table, e.Version, e.Count, e.BodyHash)
		fmt.Fprintf(&s, "  subject %q role %q request %q key %q trace %q\n", e.Subject, e.Role, e.Request, e.Key, e.Trace)
		if len(e.Rules) > 0 {
			r, err := change.ReadRules(e.Rules)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&s, "  rules %q %q %q\n", r.Using, r.Check, r.Insert)
		}
		if e.Kind == change.EntryDefinition {
			fmt.Fprintf(&s, "  body %q\n", e.Body)
		}
		records, r := e.Records(), change.Record{}
		for records.Next(&r) {
			fmt.Fprintf(&s, "  record server-id %t given %b filter %q row", r.ServerID, r.Given, r.Filter)
			if err := l.Valid(r.Row); len(r.Row) > 0 && err != nil {
				return "", err
			}
			for i := range l.Columns() {
				if len(r.Row) > 0 {
					v := l.Get(r.Row, i)
					fmt.Fprintf(&s, " %d/%q/%t", v.N, v.B, v.Null)
				}
			}
			s.WriteByte('\n')
		}
		if err := records.Err(); err != nil {
			return "", err
		}
	}
	return s.String(), nil
}

// TestSamples opens the batches that earlier programs wrote. A sample is written once, when its version is new, and never
// again.
func TestSamples(t *testing.T) {
	current := filepath.Join("testdata", fmt.Sprintf("batch-v%d.bin", change.FormatVersion))
	if *update {
		b := sampleBatch(t)
		text, err := dump(&b)
		if err = errors.Join(err, os.WriteFile(current, b.Raw(), 0o644), os.WriteFile(strings.TrimSuffix(current, "bin")+"txt", []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(filepath.Join("testdata", "batch-v*.bin"))
	if err != nil || len(files) != change.FormatVersion {
		t.Fatalf("want a sample of each version: %v, %v", files, err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(strings.TrimSuffix(file, "bin") + "txt")
		if err != nil {
			t.Fatal(err)
		}
		b, err := change.ParseBatch(raw)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if got, err := dump(&b); got != string(want) || err != nil {
			t.Errorf("%s: got\n%s%v, want\n%s", file, got, err, want)
		}
		if file == current {
			if b := sampleBatch(t); !bytes.Equal(b.Raw(), raw) {
				t.Errorf("%s: the same batch is other bytes now: a new format needs a new version", file)
			}
		}
	}
}

// reseal puts a right checksum on changed bytes.
func reseal(raw []byte) []byte {
	binary.LittleEndian.PutUint32(raw[4:], crc32.Checksum(raw[8:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}

func TestParseRefuses(t *testing.T) {
	good := sampleBatch(t)
	check := func(what string, want error, f func(raw []byte) []byte) {
		t.Helper()
		_, err := change.ParseBatch(f(bytes.Clone(good.Raw())))
		if err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", what, err, want)
		}
	}
	check("empty", change.ErrMagic, func(raw []byte) []byte { return nil })
	check("other bytes", change.ErrMagic, func(raw []byte) []byte { return []byte("not a batch at all") })
	check("cut", change.ErrChecksum, func(raw []byte) []byte { return raw[:len(raw)-1] })
	check("longer", change.ErrChecksum, func(raw []byte) []byte { return append(raw, 0) })
	check("cut with a right checksum", change.ErrBatch, func(raw []byte) []byte { return reseal(raw[:len(raw)-1]) })
	check("longer with a right checksum", change.ErrBatch, func(raw []byte) []byte { return reseal(append(raw, 0)) })
	check("shorter than a header", change.ErrBatch, func(raw []byte) []byte { return reseal(raw[:50]) })
	check("flags", change.ErrBatch, func(raw []byte) []byte { raw[10] = 1; return reseal(raw) })
	check("reserved", change.ErrBatch, func(raw []byte) []byte { raw[92] = 1; return reseal(raw) })
	check("count of entries", change.ErrBatch, func(raw []byte) []byte { raw[80]++; return reseal(raw) })
	check("count of records", change.ErrBatch, func(raw []byte) []byte { raw[84]++; return reseal(raw) })
	check("length of an entry", change.ErrBatch, func(raw []byte) []byte { raw[98] = 0xff; return reseal(raw) })
	check("entry kind", change.ErrBatch, func(raw []byte) []byte { raw[100] = 9; return reseal(raw) })
	check("entry operation", change.ErrBatch, func(raw []byte) []byte { raw[101] = 9; return reseal(raw) })
	check("entry flags", change.ErrBatch, func(raw []byte) []byte { raw[102] = 0x80; return reseal(raw) })
	check("an older version", change.ErrBatch, func(raw []byte) []byte { raw[8] = 1; return reseal(raw) })
	check("rules beyond the entry", change.ErrBatch, func(raw []byte) []byte {
		raw[bytes.LastIndex(raw, []byte("\x05using"))-4] = 0xff
		return reseal(raw)
	})
	check("entry field", change.ErrBatch, func(raw []byte) []byte { raw[100+29] = 0xff; return reseal(raw) })

	newer := bytes.Clone(good.Raw())
	newer[8] = change.FormatVersion + 1
	var e *change.NewerError
	if _, err := change.ParseBatch(reseal(newer)); !errors.As(err, &e) || e.Version != change.FormatVersion+1 {
		t.Errorf("newer version: got %v", err)
	}
	newer[8]++ // a changed version byte is damage, not a newer version
	if _, err := change.ParseBatch(newer); !errors.Is(err, change.ErrChecksum) {
		t.Errorf("changed version byte: got %v", err)
	}
}

// TestEveryBitMatters flips each bit of a batch.
func TestEveryBitMatters(t *testing.T) {
	good := sampleBatch(t)
	raw := bytes.Clone(good.Raw())
	for i := range len(raw) * 8 {
		raw[i/8] ^= 1 << (i % 8)
		if _, err := change.ParseBatch(raw); err == nil {
			t.Errorf("bit %d of byte %d flipped unseen", i%8, i/8)
		}
		raw[i/8] ^= 1 << (i % 8)
	}
}

func TestRecordsRefuse(t *testing.T) {
	body := change.AppendRecord(nil, change.OpUpdate, &change.Record{Row: []byte("row"), Given: []byte{1}, Filter: []byte("a=eq.1")})
	check := func(what string, count uint32, body []byte) {
		t.Helper()
		e := change.Entry{Kind: change.EntryWrite, Op: change.OpUpdate, Count: count, Body: body}
		it, r, n := e.Records(), change.Record{}, 0
		for it.Next(&r) {
			n++
		}
		if !errors.Is(it.Err(), change.ErrRecord) {
			t.Errorf("%s: %d records, error %v", what, n, it.Err())
		}
	}
	check("too few", 2, body)
	check("too many", 0, body)
	for n := range len(body) {
		check(fmt.Sprintf("cut to %d bytes", n), 1, body[:n])
	}
	check("a length of ten bytes", 1, bytes.Repeat([]byte{0xff}, 10))
	check("a length in a longer form", 1, []byte{0x80, 0x00, 0, 0})
}

func TestBuilderBounds(t *testing.T) {
	var b change.Builder
	e := change.Entry{Kind: change.EntryWrite, Op: change.OpInsert, Body: make([]byte, change.MaxBody+1)}
	if err := b.Add(&e); err == nil {
		t.Error("an entry larger than a batch was taken")
	}
	e.Body = e.Body[1:]
	if err := b.Add(&e); err != nil || b.Len() != change.MaxBatch {
		t.Errorf("an entry that fills a batch: %v, %d bytes", err, b.Len())
	}
	e.Body = nil
	if err := b.Add(&e); err == nil || b.Entries() != 1 {
		t.Error("a full batch took an entry")
	}
	b.Reset()
	e.Key = make([]byte, change.MaxField+1)
	if err := b.Add(&e); err == nil || b.Len() != change.HeaderSize {
		t.Error("a field that is too long was taken")
	}
	if err := b.Add(&change.Entry{Kind: change.EntryAudit, Rules: []byte{1}}); err == nil {
		t.Error("rules of something that is no write were taken")
	}
	empty := b.Seal(change.Header{Seq: 1, Stamp: 2})
	if got, err := change.ParseBatch(empty.Raw()); err != nil || *got.Header() != *empty.Header() {
		t.Errorf("a batch without entries: %v", err)
	}
}

// TestAllocations holds the codec to none in the steady state.
func TestAllocations(t *testing.T) {
	var b change.Builder
	entries := sampleEntries()
	build := func() {
		b.Reset()
		for i := range entries {
			if err := b.Add(&entries[i]); err != nil {
				t.Fatal(err)
			}
		}
		b.Seal(change.Header{Seq: 1})
	}
	build()
	if n := testing.AllocsPerRun(100, build); n != 0 {
		t.Errorf("building allocates %v times", n)
	}
	good := sampleBatch(t)
	raw, records := good.Raw(), 0
	if n := testing.AllocsPerRun(100, func() { records += walk(raw) }); n != 0 {
		t.Errorf("reading allocates %v times", n)
	}
}

// walk parses a batch and returns its number of records, -1 when it is not valid.
func walk(raw []byte) int {
	b, err := change.ParseBatch(raw)
	if err != nil {
		return -1
	}
	n := 0
	for it, e := b.Entries(), (change.Entry{}); it.Next(&e); {
		records, r := e.Records(), change.Record{}
		for records.Next(&r) {
			n++
		}
		if records.Err() != nil {
			return -1
		}
	}
	return n
}

func TestLogID(t *testing.T) {
	const id = "abcdefghij234567"
	got, err := change.ParseLogID(id)
	if err != nil || got.String() != id {
		t.Errorf("got %q, %v", got, err)
	}
	for _, bad := range []string{"", "abc", "ABCDEFGHIJ234567", "abcdefghij234561", id + "a"} {
		if _, err := change.ParseLogID(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// TestRules: rules read back as they were, and nothing else does.
func TestRules(t *testing.T) {
	for _, r := range []change.Rules{{}, {Using: []byte("a")}, {Check: bytes.Repeat([]byte("b"), 300)}, {Using: []byte("a"), Check: []byte("b"), Insert: []byte("c")}} {
		b := r.Append(nil)
		got, err := change.ReadRules(b)
		if err != nil || !bytes.Equal(got.Using, r.Using) || !bytes.Equal(got.Check, r.Check) || !bytes.Equal(got.Insert, r.Insert) || r.Empty() != (len(b) == 0) {
			t.Errorf("%v became %v, %v", r, got, err)
		}
		for n := 1; n < len(b); n++ {
			if _, err := change.ReadRules(b[:n]); err == nil {
				t.Errorf("%v cut to %d bytes is read", r, n)
			}
		}
	}
	if _, err := change.ReadRules([]byte{0, 0, 0, 0}); err == nil {
		t.Error("something behind the rules is read")
	}
}

// TestRefusedRecords: rows that were refused are records with a reason in place of a row, which ask for version 2 of the batch, and stand in writes of rows only.
func TestRefusedRecords(t *testing.T) {
	l := sampleLayout()
	why := change.Reject{Code: "forbidden", Field: "room", Detail: "not this row"}
	reason := change.AppendReject(nil, &why)
	for _, op := range []change.Op{change.OpInsert, change.OpMerge, change.OpIgnore} {
		e := change.Entry{Kind: change.EntryWrite, Op: op, Last: true, Refused: true, Count: 4}
		for i := range 2 {
			e.Body = change.AppendRecord(e.Body, op, &change.Record{Refused: reason})
			e.Body = change.AppendRecord(e.Body, op, &change.Record{Row: sampleRow(l, "A", int64(i)), ServerID: true})
		}
		var b change.Builder
		if err := b.Add(&e); err != nil {
			t.Fatal(err)
		}
		sealed := b.Seal(change.Header{})
		read, err := change.ParseBatch(sealed.Raw())
		if err != nil || read.Raw()[8] != 2 {
			t.Fatalf("version %d, %v", sealed.Raw()[8], err)
		}
		entries, got := read.Entries(), change.Entry{}
		if !entries.Next(&got) || !got.Refused || got.Rows() != 2 {
			t.Fatalf("%+v", got)
		}
		it, r, n := got.Records(), change.Record{}, 0
		for ; it.Next(&r); n++ {
			if n%2 == 1 {
				if len(r.Refused) > 0 || l.Valid(r.Row) != nil {
					t.Errorf("record %d: %+v", n, r)
				}
				continue
			}
			back, err := change.ReadReject(r.Refused)
			if err != nil || *back != why || len(r.Row) > 0 {
				t.Errorf("record %d: %+v, %+v, %v", n, r, back, err)
			}
		}
		if n != 4 || it.Err() != nil {
			t.Errorf("%d records, %v", n, it.Err())
		}
		checkRecords(t, &got)
		raw := bytes.Clone(read.Raw())
		raw[8] = 1
		if _, err := change.ParseBatch(reseal(raw)); err == nil {
			t.Error("refused rows in a batch of version 1 are read")
		}
	}
	for n := range reason {
		if _, err := change.ReadReject(reason[:n]); err == nil {
			t.Errorf("the first %d bytes of a reason are read", n)
		}
	}
	for _, e := range []change.Entry{{Kind: change.EntryWrite, Op: change.OpDelete, Refused: true}, {Kind: change.EntryDefinition, Refused: true}} {
		if err := new(change.Builder).Add(&e); err == nil {
			t.Errorf("operation %d has refused rows", e.Op)
		}
	}
	e := change.Entry{Kind: change.EntryWrite, Op: change.OpInsert, Refused: true, Count: 1, Body: []byte{0, 0}}
	if it, r := e.Records(), (change.Record{}); it.Next(&r) || it.Err() == nil {
		t.Errorf("no reason: %+v", r)
	}
}
