package flow

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// A root of two leaves has one key, whose bytes are all shared: when the leaves share their entries evenly, that key is replaced.
func TestTreeWithLongSharedKeys(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(9, seed))
		tr := newTree()
		model := map[string]int64{}
		for i := range 4000 {
			key := []byte("more bytes than the head of a node holds")
			if key = binary.BigEndian.AppendUint32(key, uint32(rnd.IntN(70))); rnd.IntN(20) == 0 {
				key = key[:len(key)-rnd.IntN(8)]
			}
			w := int64(1)
			if model[string(key)] > 0 {
				w = -1
			}
			if i/300%2 == 0 && w < 0 && rnd.IntN(3) > 0 {
				continue
			}
			tr.add(key, key, w)
			if model[string(key)] += w; model[string(key)] == 0 {
				delete(model, string(key))
			}
			if i%50 == 0 {
				compareTree(t, rnd, &tr, model)
			}
		}
	}
}
