package backbone

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"laaster/internal/change"
)

func sampleBase() *base {
	b := &base{Log: change.LogID([]byte("abcdefghijklmnop")), Shard: 3, First: 1000, Stamp: 1_700_000_000_000_000}
	for i := range b.Digest {
		b.Digest[i] = byte(i)
	}
	return b
}

// TestBaseFile reads back what was written and refuses every change of it.
func TestBaseFile(t *testing.T) {
	dir, want := t.TempDir(), sampleBase()
	if got, err := readBase(dir, 3); got != nil || err != nil {
		t.Errorf("without a file: %v, %v", got, err)
	}
	if err := writeBase(dir, want); err != nil {
		t.Fatal(err)
	}
	if got, err := readBase(dir, 3); err != nil || *got != *want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if first, err := Begins(dir, 3); first != 1000 || err != nil {
		t.Errorf("begins at %d, %v", first, err)
	}
	raw := encodeBase(want)
	for i := range raw {
		for bit := range 8 {
			raw[i] ^= 1 << bit
			if _, err := decodeBase(raw); err == nil {
				t.Errorf("byte %d bit %d flipped: no error", i, bit)
			}
			raw[i] ^= 1 << bit
		}
	}
	for n := range raw {
		if err := os.WriteFile(basePath(dir, 3), raw[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		var e *BaseError
		if _, err := readBase(dir, 3); !errors.As(err, &e) || !strings.Contains(err.Error(), "laaster repair") {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
}

func FuzzBase(f *testing.F) {
	f.Add(encodeBase(sampleBase()))
	f.Add(encodeBase(&base{First: 1}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if b, err := decodeBase(raw); err == nil && !bytes.Equal(encodeBase(b), raw) {
			t.Errorf("%x reads as %+v, which is written otherwise", raw, b)
		}
	})
}
