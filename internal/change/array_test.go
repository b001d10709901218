package change_test

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"laaster/app"
	"laaster/internal/change"
)

func equalValue(a, b change.Value) bool {
	return a.Null == b.Null && (a.Null || a.N == b.N && bytes.Equal(a.B, b.B))
}

// An array holds what was put into it, however it was built, and has one encoding.
func TestArraysHoldTheirElements(t *testing.T) {
	for _, elem := range everyType() {
		if elem.IsArray() {
			continue
		}
		t.Run(elem.String(), rapid.MakeCheck(func(t *rapid.T) {
			vals := make([]change.Value, rapid.IntRange(0, 40).Draw(t, "length"))
			var built change.ArrayBuilder
			built.Reset(elem)
			for i := range vals {
				vals[i] = change.Null()
				if rapid.IntRange(0, 9).Draw(t, "null") > 0 {
					vals[i] = anyValue(t, elem)
				}
				built.Add(vals[i])
			}
			b := change.AppendArray(nil, elem, vals)
			if again := built.Append(nil); !bytes.Equal(again, b) || built.Len() != len(vals) || built.Size() < len(b) {
				t.Fatalf("built %x (%d, %d), appended %x", again, built.Len(), built.Size(), b)
			}
			if err := change.ValidArray(b, elem); err != nil {
				t.Fatal(err)
			}
			if n := change.ArrayLen(b); n != len(vals) {
				t.Fatalf("length %d, want %d", n, len(vals))
			}
			it := change.IterateArray(b, elem)
			for i, want := range vals {
				v, ok := it.Next()
				if !ok || !equalValue(v, want) || !equalValue(change.ArrayElem(b, elem, int64(i)+1), want) {
					t.Fatalf("element %d is %v, want %v", i, v, want)
				}
			}
			if _, ok := it.Next(); ok {
				t.Fatal("more elements than there are")
			}
			if !change.ArrayElem(b, elem, 0).Null || !change.ArrayElem(b, elem, int64(len(vals))+1).Null {
				t.Fatal("an element outside of the array")
			}
		}))
	}
}

// Building and reading arrays allocates nothing in the steady state.
func TestArrayAllocations(t *testing.T) {
	var built change.ArrayBuilder
	var buf []byte
	text := change.Bytes([]byte("some text"))
	sum := 0
	run := func() {
		built.Reset(app.Text)
		for range 20 {
			built.Add(text)
			built.Add(change.Null())
		}
		buf = built.Append(buf[:0])
		it := change.IterateArray(buf, app.Text)
		for v, ok := it.Next(); ok; v, ok = it.Next() {
			sum += len(v.B)
		}
	}
	run()
	if n := testing.AllocsPerRun(100, run); n != 0 || sum == 0 {
		t.Errorf("allocates %v times", n)
	}
}

// FuzzArray: what is valid is canonical; of what is not, reading ends without a panic.
func FuzzArray(f *testing.F) {
	types := everyType()
	for i, elem := range types {
		if !elem.IsArray() {
			f.Add(byte(i), change.AppendArray(nil, elem, []change.Value{change.Null()}))
		}
	}
	f.Add(byte(5), change.AppendArray(nil, app.Text, []change.Value{change.Bytes([]byte("a")), change.Null(), change.Bytes(nil)}))
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		elem := types[int(kind)%len(types)].Elem()
		var vals []change.Value
		it := change.IterateArray(b, elem)
		for v, ok := it.Next(); ok && len(vals) < 1<<16; v, ok = it.Next() {
			vals = append(vals, v)
		}
		_ = change.ArrayElem(b, elem, 3)
		if change.ValidArray(b, elem) != nil {
			return
		}
		if again := change.AppendArray(nil, elem, vals); !bytes.Equal(again, b) {
			t.Fatalf("%x became %x", b, again)
		}
	})
}
