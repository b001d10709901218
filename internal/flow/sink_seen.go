package flow

import "crypto/sha256"

// seenRows counts how often each row of a relation is there: all that numbering copies needs when rows with equal keys are equal bytes. A
// row is named by its key, or by a digest of it when that is shorter. A join of wide rows took 3 KB of state for each row that it shows
// when its sink kept the rows, and half of the time.
type seenRows struct {
	t table // the name → how often, 8 bytes
}

// seenName is how many bytes of a SHA-256 name a row. No shorter key is as long as a digest, so the two never meet; nobody finds two rows
// with one digest.
const seenName = 20

func newSeenRows() *seenRows { return &seenRows{newTable()} }

// add counts n more (or fewer) rows with a key and returns how many there were.
func (s *seenRows) add(key []byte, n int64) int64 {
	if len(key) >= seenName {
		digest := sha256.Sum256(key)
		key = digest[:seenName]
	}
	h := s.t.hash(key)
	r := s.t.find(h, key)
	if r == 0 {
		r = s.t.insert(h, key, 8)
		putInt(s.t.edit(r), n)
		return 0
	}
	before := getInt(s.t.value(r))
	if before+n == 0 {
		s.t.remove(h, r)
	} else {
		putInt(s.t.edit(r), before+n)
	}
	return before
}
