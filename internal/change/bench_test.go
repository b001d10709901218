package change_test

import (
	"fmt"
	"testing"

	"laaster/app"
	"laaster/internal/change"
)

// benchEntries returns requests of 500 rows of about 100 bytes in all, as the load of a busy server has them.
func benchEntries(requests int) []change.Entry {
	l := change.NewLayout([]app.Type{app.UUID, app.Text, app.Text, app.Timestamptz, app.Int8})
	entries := make([]change.Entry, requests)
	for i := range entries {
		e := change.Entry{Kind: change.EntryWrite, Op: change.OpInsert, Last: true, Table: 1, Version: 1, Role: []byte("anon"),
			Request: []byte("request-0001"), Trace: []byte("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")}
		var row change.Row
		for n := range 500 / requests {
			row = l.Append(row[:0], []change.Value{change.Bytes([]byte("0123456789abcdef")), change.Bytes([]byte("Ukraine")),
				change.Bytes(fmt.Appendf(nil, "voter %d of a show that many people watch", n)), change.Int(1), change.Int(int64(n))})
			e.Body = change.AppendRecord(e.Body, e.Op, &change.Record{Row: row})
			e.Count++
		}
		entries[i] = e
	}
	return entries
}

func BenchmarkBuild(b *testing.B) {
	for _, requests := range []int{1, 500} {
		b.Run(fmt.Sprintf("500rows/%drequests", requests), func(b *testing.B) {
			entries := benchEntries(requests)
			var bu change.Builder
			b.ReportAllocs()
			for b.Loop() {
				bu.Reset()
				for i := range entries {
					if err := bu.Add(&entries[i]); err != nil {
						b.Fatal(err)
					}
				}
				batch := bu.Seal(change.Header{Seq: 1})
				b.SetBytes(int64(len(batch.Raw())))
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for _, requests := range []int{1, 500} {
		b.Run(fmt.Sprintf("500rows/%drequests", requests), func(b *testing.B) {
			var bu change.Builder
			entries := benchEntries(requests)
			for i := range entries {
				if err := bu.Add(&entries[i]); err != nil {
					b.Fatal(err)
				}
			}
			batch := bu.Seal(change.Header{Seq: 1})
			raw := batch.Raw()
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if walk(raw) != 500 {
					b.Fatal("lost records")
				}
			}
		})
	}
}

func BenchmarkDigest(b *testing.B) {
	var bu change.Builder
	entries := benchEntries(1)
	if err := bu.Add(&entries[0]); err != nil {
		b.Fatal(err)
	}
	batch := bu.Seal(change.Header{Seq: 1})
	b.SetBytes(int64(len(batch.Raw())))
	for b.Loop() {
		batch.Digest()
	}
}
