package jetstream

import (
	"testing"

	"github.com/minio/highwayhash"
)

// FuzzRecord: a record that passes lies within its bytes.
func FuzzRecord(f *testing.F) {
	f.Add(make([]byte, 64))
	f.Add([]byte{40, 0, 0, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9, 2, 0, 'a', 'b', 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
	f.Fuzz(func(t *testing.T, b []byte) {
		sum, err := highwayhash.NewDigest64(make([]byte, 32))
		if err != nil {
			t.Fatal(err)
		}
		size, _, ok := record(b, sum)
		if ok && (size < recordHeader+recordSum || size > len(b)) {
			t.Fatalf("a record of %d bytes in %d", size, len(b))
		}
	})
}
