package flow

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"laaster/app"
	"laaster/internal/change"
)

// The last key that is not above another, against a sorted list, while the tree grows and shrinks.
func TestTreeFloor(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 1))
	tr := newTree()
	var keys []uint32
	key := func(k uint32) []byte { return binary.BigEndian.AppendUint32(nil, k) }
	for i := range 20_000 {
		k := rnd.Uint32N(3000)
		at, there := slices.BinarySearch(keys, k)
		switch {
		case !there && (i/4000)%2 == 0:
			keys = slices.Insert(keys, at, k)
			tr.add(key(k), nil, 1)
		case there && (i/4000)%2 == 1:
			keys = slices.Delete(keys, at, at+1)
			tr.add(key(k), nil, -1)
		}
		k = rnd.Uint32N(3000)
		at, there = slices.BinarySearch(keys, k)
		if !there {
			at--
		}
		c := tr.floor(key(k))
		if c.valid() != (at >= 0) || at >= 0 && binary.BigEndian.Uint32(c.key()) != keys[at] {
			t.Fatalf("step %d: the floor of %d is not entry %d of %d", i, k, at, len(keys))
		}
		if at >= 0 { // the cursor goes on from there
			c.next()
			if c.valid() != (at+1 < len(keys)) || c.valid() && binary.BigEndian.Uint32(c.key()) != keys[at+1] {
				t.Fatalf("step %d: what follows %d is wrong", i, keys[at])
			}
		}
	}
}

// Rows that are picked are what Layout.AppendColumns makes, whatever the columns and NULLs.
func TestPicker(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 2))
	kinds := []app.Type{app.Bool, app.Int4, app.Int8, app.Float8, app.Text, app.UUID, app.Timestamptz, app.JSONB, app.Interval, app.Numeric}
	for range 3000 {
		types := make([]app.Type, 1+rnd.IntN(12))
		vals := make([]change.Value, len(types))
		for i := range types {
			types[i] = kinds[rnd.IntN(len(kinds))]
			switch b := []byte("0123456789abcdef"); {
			case rnd.IntN(5) == 0:
				vals[i] = change.Null()
			case types[i] == app.UUID || types[i] == app.Interval:
				vals[i] = change.Bytes(b)
			case fixedSize(types[i]) == 0:
				vals[i] = change.Bytes(b[:rnd.IntN(16)])
			default:
				vals[i] = change.Int(rnd.Int64N(2))
			}
		}
		cols := make([]int, rnd.IntN(8))
		out := []app.Type{}
		for i := range cols {
			cols[i] = rnd.IntN(len(types))
			out = append(out, types[cols[i]])
		}
		from, to := change.NewLayout(types), change.NewLayout(append(out, app.Timestamp, app.Timestamp))
		row := from.Append(nil, vals)
		p := newPicker(from, to, cols)
		if got, want := p.pick([]byte{7}, row), from.AppendColumns([]byte{7}, to, row, cols); !slices.Equal(got, want) {
			t.Fatalf("columns %v of %v\n%x\n%x", cols, types, got, want)
		}
	}
}

// Rows come out of a queue as they went in, and its memory is used again.
func TestRowQueue(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 3))
	var q rowQueue
	var want []string
	for i := range 200_000 {
		if rnd.IntN(100) < 50+i/4000%2*2-1 || len(want) == 0 {
			row := fmt.Sprintf("%d%s", i, make([]byte, rnd.IntN(300)))
			q.push(change.Row(row), int64(i/10))
			want = append(want, row)
			continue
		}
		if got := string(q.pop()); got != want[0] {
			t.Fatalf("%q instead of %q", got, want[0])
		}
		want = want[1:]
		if q.n != int64(len(want)) || q.due(int64(i/10)) != (len(want) > 0) {
			t.Fatalf("%d rows, want %d", q.n, len(want))
		}
	}
	for range want {
		q.pop()
	}
	if q.sum != (sum128{}) || q.first() != never || q.bytes() > 4*pageBytes {
		t.Errorf("an empty queue holds %d bytes and has the sum %v", q.bytes(), q.sum)
	}
}

// While a table is quiet its mark goes on with the log. A row that is the newest so far and behind that mark is late.
func TestNewestRowBehindAQuietMark(t *testing.T) {
	l := change.NewLayout([]app.Type{app.Timestamptz})
	row := func(us int64) change.Row { return l.Append(nil, []change.Value{change.Int(us)}) }
	const second = 1_000_000
	w := newWatermark(l, 0, 5*second, 0)
	w.begin(0)
	w.arrive(row(0), 0, 0)
	w.begin(20 * second)
	if w.mark != 5*second {
		t.Fatalf("the mark is %d", w.mark)
	}
	w.arrive(row(3*second), 0, 20*second)
	if w.rows != 1 || len(w.late) != 1 || w.late[0].mark != 5*second || w.max != 3*second {
		t.Errorf("late %d, %+v, newest %d", w.rows, w.late, w.max)
	}
}
