package push

import (
	"bytes"
	"slices"
	"sort"

	"laaster/internal/change"
)

// history is epochs in order without a hole. It is immutable and keeps its epochs alive.
type history []*change.Epoch

// span is the part of a history after the cursor from, up to and including to, with the net changes of its relations. It
// merges on demand and is not safe for concurrent use.
type span struct {
	from, to uint64
	epochs   history
	merged   map[int][]change.RowChange
}

// span cuts (from, to] out of h, which must reach back to from.
func (h history) span(from, to uint64) *span {
	start := sort.Search(len(h), func(i int) bool { return h[i].Seq > from })
	end := sort.Search(len(h), func(i int) bool { return h[i].Seq > to })
	return &span{from: from, to: to, epochs: h[start:max(start, end)]}
}

// stamp returns the time of the last epoch, or none when the span is empty.
func (s *span) stamp(none int64) int64 {
	if len(s.epochs) == 0 {
		return none
	}
	return s.epochs[len(s.epochs)-1].Stamp
}

// touched calls fn for each relation that has changes before merging, once.
func (s *span) touched(fn func(rel int)) {
	if len(s.epochs) == 1 {
		for i := range s.epochs[0].Deltas {
			fn(s.epochs[0].Deltas[i].Relation)
		}
		return
	}
	seen := map[int]bool{}
	for _, e := range s.epochs {
		for i := range e.Deltas {
			if rel := e.Deltas[i].Relation; !seen[rel] {
				seen[rel] = true
				fn(rel)
			}
		}
	}
}

// changes returns the net changes of rel, ordered by key: the row before the span and the row after it, without those
// that end as they began.
func (s *span) changes(rel int) []change.RowChange {
	if m, ok := s.merged[rel]; ok {
		return m
	}
	var runs [][]change.RowChange
	for _, e := range s.epochs {
		i := sort.Search(len(e.Deltas), func(i int) bool { return e.Deltas[i].Relation >= rel })
		if i < len(e.Deltas) && e.Deltas[i].Relation == rel && len(e.Deltas[i].Changes) > 0 {
			runs = append(runs, e.Deltas[i].Changes)
		}
	}
	m := mergeAll(runs)
	if s.merged == nil {
		s.merged = map[int][]change.RowChange{}
	}
	s.merged[rel] = m
	return m
}

// mergeAll joins runs of changes, in their order, each ordered by key.
func mergeAll(runs [][]change.RowChange) []change.RowChange {
	if len(runs) > 2 {
		runs = foldRuns(runs)
	}
	for len(runs) > 1 {
		next := runs[:0:0]
		for i := 0; i+1 < len(runs); i += 2 {
			next = append(next, mergeRuns(runs[i], runs[i+1]))
		}
		if len(runs)%2 == 1 {
			next = append(next, runs[len(runs)-1])
		}
		runs = next
	}
	if len(runs) == 0 {
		return nil
	}
	return runs[0]
}

// foldRuns joins neighbouring runs until each has about foldMost changes. Thousands of epochs that change a few rows each, which is what a client has missed that was
// away for a while, would be thousands of small merges: ten milliseconds in which its goroutine has a processor for itself.
func foldRuns(runs [][]change.RowChange) [][]change.RowChange {
	var out [][]change.RowChange
	var acc []change.RowChange
	for _, run := range runs {
		if len(acc)+len(run) > foldMost {
			if len(acc) > 0 {
				out = append(out, slices.Clone(acc))
			}
			if acc = acc[:0]; len(run) > foldMost {
				out = append(out, run)
				continue
			}
		}
		for i := range run {
			acc = fold(acc, &run[i])
		}
	}
	if len(acc) > 0 {
		out = append(out, acc)
	}
	return out
}

// foldMost is how many changes foldRuns looks through for each further one.
const foldMost = 32

// fold adds one more change to changes ordered by key.
func fold(acc []change.RowChange, c *change.RowChange) []change.RowChange {
	i, found := slices.BinarySearchFunc(acc, c.Key, func(a change.RowChange, key []byte) int { return bytes.Compare(a.Key, key) })
	switch {
	case !found:
		return slices.Insert(acc, i, *c)
	case same(acc[i].Old, c.New):
		return slices.Delete(acc, i, i+1)
	}
	acc[i].New = c.New
	return acc
}

// mergeRuns joins two runs of changes, a before b, both ordered by key.
func mergeRuns(a, b []change.RowChange) []change.RowChange {
	out := make([]change.RowChange, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch c := bytes.Compare(a[0].Key, b[0].Key); {
		case c < 0:
			out, a = append(out, a[0]), a[1:]
		case c > 0:
			out, b = append(out, b[0]), b[1:]
		default:
			both := change.RowChange{Key: a[0].Key, Old: a[0].Old, New: b[0].New}
			if !same(both.Old, both.New) {
				out = append(out, both)
			}
			a, b = a[1:], b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// same tells nil, no row, from a row, and compares rows.
func same(a, b change.Row) bool {
	return (a == nil) == (b == nil) && bytes.Equal(a, b)
}
