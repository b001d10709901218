package backbone

import (
	"bytes"
	"testing"

	"laaster/internal/change"
)

// FuzzHighWater: whatever reads as a mark is written back as the same bytes.
func FuzzHighWater(f *testing.F) {
	slot := make([]byte, 2*slotSize)
	encodeMark(slot, &mark{Log: change.LogID([]byte("abcdefghij234567")), Shard: 1, Seq: 42})
	f.Add(slot)
	f.Add(slot[:slotUsed])
	f.Fuzz(func(t *testing.T, b []byte) {
		m, at, err := newestMark(b)
		if err != nil {
			return
		}
		again := make([]byte, slotUsed)
		encodeMark(again, &m)
		if got, err := decodeMark(again); err != nil || got != m {
			t.Fatalf("%+v became %+v, %v", m, got, err)
		}
		if read := b[at*slotSize:]; !bytes.Equal(again[12:72], read[12:72]) {
			t.Fatalf("not canonical:\n%x\n%x", read[:slotUsed], again)
		}
	})
}
