package change_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"laaster/app"
	"laaster/internal/change"
)

var pairTypes = []app.Type{app.Bool, app.Int4, app.Int8, app.Float8, app.Text, app.UUID, app.Timestamptz, app.JSONB, app.Numeric,
	app.Timestamp, app.Date, app.Array(app.Int8), app.Interval}

func randomCells(rnd *rand.Rand, n int) (types []app.Type, vals []change.Value) {
	for range n {
		t := pairTypes[rnd.IntN(len(pairTypes))]
		v := change.Int(int64(rnd.IntN(2)))
		switch t {
		case app.UUID, app.Interval:
			v = change.Bytes(bytes.Repeat([]byte{byte(rnd.IntN(256))}, 16))
		case app.Text, app.JSONB, app.Numeric, app.Array(app.Int8):
			v = change.Bytes(bytes.Repeat([]byte{'a'}, rnd.IntN(9)))
		}
		if rnd.IntN(3) == 0 {
			v = change.Null()
		}
		types, vals = append(types, t), append(vals, v)
	}
	return types, vals
}

// TestPair holds the joined row against the encoding of all values together, byte for byte.
func TestPair(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 20_000 {
		lt, lv := randomCells(rnd, rnd.IntN(20))
		rt, rv := randomCells(rnd, rnd.IntN(20))
		l, r := change.NewLayout(lt), change.NewLayout(rt)
		p := change.NewPair(l, r)
		want := p.Layout().Append([]byte("x"), append(append([]change.Value{}, lv...), rv...))
		if got := p.Append([]byte("x"), l.Append(nil, lv), r.Append(nil, rv)); !bytes.Equal(got, want) {
			t.Fatalf("%v and %v: %x, want %x", lt, rt, got, want)
		}
	}
}

func TestNullRow(t *testing.T) {
	l := change.NewLayout(pairTypes)
	row := l.Null()
	for i := range pairTypes {
		if !l.Get(row, i).Null {
			t.Errorf("column %d is not NULL", i)
		}
	}
}

func BenchmarkPair(b *testing.B) {
	types := []app.Type{app.Int8, app.Int8, app.Text, app.Timestamptz, app.Text}
	l := change.NewLayout(types)
	row := l.Append(nil, []change.Value{change.Int(1), change.Int(2), change.Bytes(bytes.Repeat([]byte("a"), 30)), change.Int(3),
		change.Bytes(bytes.Repeat([]byte("b"), 60))})
	p := change.NewPair(l, l)
	buf := make([]byte, 0, 1024)
	for b.Loop() {
		buf = p.Append(buf[:0], row, row)
	}
}
