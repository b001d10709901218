package backbone

import (
	"bytes"
	"os"
	"reflect"
	"testing"
)

func sampleLineage() *Lineage {
	return &Lineage{Log: "aaaaaaaaaaaaaaaa", Parent: "bbbbbbbbbbbbbbbb", Branch: 41, First: 1, Lost: []Range{{42, 50}, {60, 60}}, Reason: "repair",
		At: "2026-11-22T07:00:00Z", Ancestors: []Ancestor{{"cccccccccccccccc", 7, "restore", "2026-11-21T07:00:00Z"}}}
}

// TestLineage reads back what was written and refuses every change of it.
func TestLineage(t *testing.T) {
	dir := t.TempDir()
	if l, err := ReadLineage(dir); l != nil || err != nil {
		t.Errorf("without a file: %v, %v", l, err)
	}
	want := sampleLineage()
	check(t, WriteLineage(dir, want))
	if got, err := ReadLineage(dir); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	raw, err := os.ReadFile(lineagePath(dir))
	check(t, err)
	for i := range raw {
		for _, bit := range []byte{1, 128} {
			raw[i] ^= bit
			if l, err := parseLineage(raw); err == nil {
				t.Fatalf("byte %d flipped: %+v", i, l)
			}
			raw[i] ^= bit
		}
		if l, err := parseLineage(raw[:i]); err == nil {
			t.Fatalf("cut at %d: %+v", i, l)
		}
	}
	next := &Lineage{Log: "dddddddddddddddd", Parent: want.Log, Ancestors: want.Descend()}
	if a := next.Ancestors; len(a) != 2 || a[0].Log != want.Parent || a[0].Branch != 41 || a[1].Log != "cccccccccccccccc" {
		t.Errorf("ancestors: %+v", a)
	}
}

func FuzzLineage(f *testing.F) {
	raw, err := encodeLineage(sampleLineage())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(lineagePrefix + "1\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := parseLineage(raw)
		if err != nil {
			return
		}
		if again, err := encodeLineage(l); err != nil || !bytes.HasPrefix(again, []byte(lineagePrefix)) {
			t.Errorf("%v", err)
		}
	})
}
