package load

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// TestPlan: whatever its sizes, the changes of each row are numbered without a hole in the order in which its connection sends them, no request changes a
// row twice, and a number tells its request.
func TestPlan(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		rows := 1 + rng.IntN(50)
		changing := 1 + rng.IntN(rows)
		p := newPlan(rows, changing, 1+rng.IntN(10), 1+rng.IntN(changing), 60)
		last, conn := make([]int, rows), make([]int, rows)
		for i := range 200 {
			in := map[int]bool{}
			for j := range p.batch {
				row, n := p.change(i, j)
				if row >= changing {
					t.Fatalf("%+v: request %d changes row %d", p, i, row)
				}
				if in[row] {
					t.Fatalf("%+v: request %d changes row %d twice", p, i, row)
				}
				in[row] = true
				if n != last[row]+1 {
					t.Fatalf("%+v: request %d: number %d of row %d follows %d", p, i, n, row, last[row])
				}
				if n > 1 && conn[row] != i%p.conns {
					t.Fatalf("%+v: row %d has two connections", p, row)
				}
				last[row], conn[row] = n, i%p.conns
				if got := p.request(row, n); got != i {
					t.Fatalf("%+v: number %d of row %d is in request %d, not %d", p, n, row, got, i)
				}
			}
		}
	}
}

func TestRows(t *testing.T) {
	p := newPlan(30, 30, 3, 4, 100)
	frame := `{"type":"epoch","position":"x.0-5","changes":{"1":{"put":` + string(p.body(nil, 7)) + `}}}`
	var got [][2]int
	if err := rowsOf([]byte(frame), p.tail(), func(row, n int) { got = append(got, [2]int{row, n}) }); err != nil {
		t.Fatal(err)
	}
	for j := range p.batch {
		row, n := p.change(7, j)
		if got[j] != [2]int{row, n} {
			t.Errorf("row %d is %v, want %d, %d", j, got[j], row, n)
		}
	}
	for _, bad := range []string{strings.Replace(frame, "xx", "xy", 1), strings.Replace(frame, `"n":`, `"n":"`, 1), strings.Replace(frame, `{"id":`,
		`{"id":-`, 1), frame[:len(frame)-60]} {
		if err := rowsOf([]byte(bad), p.tail(), func(int, int) {}); err == nil {
			t.Errorf("taken: %.120s", bad)
		}
	}
}

func FuzzRows(f *testing.F) {
	p := newPlan(30, 30, 3, 4, 60)
	f.Add(p.body(nil, 3))
	f.Fuzz(func(t *testing.T, frame []byte) {
		_ = rowsOf(frame, p.tail(), func(row, n int) {
			if row < 0 || n < 0 {
				t.Errorf("row %d, number %d", row, n)
			}
		})
	})
}
