package change

import "encoding/binary"

// BatchLen returns how many bytes the batch takes that raw begins with, as its header says, which is not verified; 0 when raw does not begin with a batch
// that could be whole.
func BatchLen(raw []byte) int {
	if len(raw) < HeaderSize || binary.LittleEndian.Uint32(raw[atMagic:]) != magic {
		return 0
	}
	n := uint64(HeaderSize) + uint64(binary.LittleEndian.Uint32(raw[atBytes:]))
	if n > MaxBatch || n > uint64(len(raw)) {
		return 0
	}
	return int(n)
}
