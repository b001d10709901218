package change

import (
	"encoding/binary"
	"errors"
)

// Canary is what the body of an EntryCanary says: an engine of the identity Plan had Fingerprint after batch Seq of Log. A replay by
// an engine of the same identity compares; of another one, or in a log that was made from this one by a repair, it says nothing.
type Canary struct {
	Log         LogID
	Seq         uint64
	Plan        [16]byte // see flow.Engine.Identity
	Fingerprint [16]byte
}

const canarySize = 16 + 8 + 16 + 16

// Append appends the canary's encoding to dst.
func (c *Canary) Append(dst []byte) []byte {
	dst = append(dst, c.Log[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, c.Seq)
	dst = append(dst, c.Plan[:]...)
	return append(dst, c.Fingerprint[:]...)
}

// ParseCanary reads what Append wrote.
func ParseCanary(b []byte) (c Canary, err error) {
	if len(b) != canarySize {
		return c, errors.New("a canary of another size")
	}
	copy(c.Log[:], b)
	c.Seq = binary.LittleEndian.Uint64(b[16:])
	copy(c.Plan[:], b[24:])
	copy(c.Fingerprint[:], b[40:])
	return c, nil
}
