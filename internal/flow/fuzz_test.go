package flow_test

import (
	"testing"

	"laaster/internal/change"
	"laaster/internal/flow"
)

// FuzzApply gives an engine entries whose records are any bytes, correctly sealed: an error or an epoch, never a panic.
func FuzzApply(f *testing.F) {
	p := everything()
	l := p.Relations[0].Layout
	for _, text := range []string{"1|2|3|4.50|5.5|true|abc", "2|NULL|NULL|NULL|NULL|NULL|NULL", "3|-1|9223372036854775807|NaN|-0|f|"} {
		for op := change.OpInsert; op <= change.OpDelete; op++ {
			rec := change.Record{Row: row(f, l, text), Given: []byte{0xff}, Filter: []byte("g=gt.1&s=like.a*")}
			f.Add(uint8(op), uint32(1), change.AppendRecord(change.AppendRecord(nil, op, &rec), op, &rec))
		}
	}
	refused := change.Record{Refused: change.AppendReject(nil, &change.Reject{Code: "forbidden"})}
	f.Add(uint8(50), uint32(1), change.AppendRecord(change.AppendRecord(nil, change.OpInsert, &refused), change.OpInsert, &refused)) // an insert under a key
	f.Fuzz(func(t *testing.T, op uint8, version uint32, body []byte) {
		e, err := flow.New(p, flow.Options{})
		if err != nil {
			t.Fatal(err)
		}
		en := change.Entry{Kind: change.EntryWrite, Op: change.Op(op%5 + 1), Atomic: op&64 != 0, Last: true, Table: 1, Version: version, Count: 2, Body: body}
		if op&32 != 0 {
			en.Key, en.BodyHash = []byte("key"), uint64(op)
		}
		en.Refused = op&16 != 0 && en.Op <= change.OpIgnore
		for seq := range uint64(3) {
			var b change.Builder
			if err := b.Add(&en); err != nil {
				return
			}
			batch := b.Seal(change.Header{Seq: seq + 1, Stamp: int64(seq)})
			if _, err := e.Apply(&batch); err != nil {
				return
			}
			en.Op = change.Op((int(en.Op)+1)%3 + 1)
		}
	})
}
