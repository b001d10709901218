package view

import (
	"context"
	"testing"

	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/kit/run"
)

// TestRedefine: relations keep their rows and places, come with rows of another store or of this one, and go.
func TestRedefine(t *testing.T) {
	put := func(seq uint64, rel int, key, row string) *change.Epoch {
		return &change.Epoch{Seq: seq, Deltas: []change.Delta{{Relation: rel, Changes: []change.RowChange{{Key: []byte(key), New: change.Row(row)}}}}}
	}
	s, beside := newStore(0), newStore(0)
	s.Apply(put(1, 0, "k", "a"))
	s.Apply(put(2, 1, "k", "b"))
	beside.Apply(put(2, 1, "k", "c"))
	before := s.Snapshot(0, 1)
	out := s.Redefine([]Added{{Relation: &expr.Relation{ID: 1, Name: "b"}, From: beside, Index: 1, Birth: 3}, {Relation: &expr.Relation{ID: 2, Name: "alias"}, From: s, Index: 0, Birth: 3},
		{Relation: &expr.Relation{ID: 3, Name: "empty"}, Birth: 3}})
	if len(out) != 3 || out[0].ID != 2 || out[1].ID != 3 || out[2].ID != 4 || len(s.Relations()) != 5 || s.Relations()[3].Name != "alias" {
		t.Fatalf("%+v", out)
	}
	if row, _ := s.Snapshot(1).Get(1, []byte("k")); string(row) != "b" {
		t.Errorf("the old rows are gone before they are dropped: %q", row)
	}
	g := run.New(t.Context())
	waits := make(chan error, 1)
	g.Go("waiter", func(ctx context.Context) error { waits <- s.AwaitChange(ctx, 1, 3, nil); return nil })
	for s.Waiting() == 0 {
		// it is on its way
	}
	s.Drop([]int{1})
	if err := <-waits; err != nil {
		t.Errorf("the wait for a relation that is gone: %v", err)
	}
	e := put(3, 0, "k", "z")
	e.Deltas = append(e.Deltas, change.Delta{Relation: 1, Changes: []change.RowChange{{Key: []byte("l"), New: change.Row("y")}}})
	Translate(e, []int{0, 2})
	s.Apply(e)
	now := s.Snapshot(0, 1, 2, 3, 4)
	for rel, want := range []string{"z", "", "c", "a", ""} {
		if row, _ := now.Get(rel, []byte("k")); string(row) != want {
			t.Errorf("relation %d has %q, want %q", rel, row, want)
		}
	}
	if row, _ := now.Get(2, []byte("l")); string(row) != "y" || now.LastChange(3) != 3 || now.LastChange(4) != 3 || beside.Snapshot(1).Len(1) != 0 {
		t.Errorf("%q, %d", row, now.LastChange(3))
	}
	if row, _ := before.Get(1, []byte("k")); string(row) != "b" {
		t.Errorf("a snapshot from before has %q", row)
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}
