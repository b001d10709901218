package backbonetest

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"laaster/internal/backbone"
	"laaster/internal/seal"
)

// Keys returns a ring of keys, made from their ids; the first one seals.
func Keys(t testing.TB, ids ...string) *seal.Ring {
	t.Helper()
	var text []byte
	for _, id := range ids {
		secret := make([]byte, 32)
		for i := range secret {
			secret[i] = byte(i) ^ id[i%len(id)]
		}
		text = fmt.Appendf(text, "%s %x\n", id, secret)
	}
	r, err := seal.Parse("the test's keys", text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// openErr opens the log and returns the error, if there is one, of opening or reading it.
func (r *rig) openErr(t *testing.T, keys *seal.Ring) error {
	t.Helper()
	s, err := backbone.Open(t.Context(), backbone.Options{Driver: r.store.Open(t), Dir: r.dir, Clock: r.clock, Keys: keys})
	if err != nil {
		return err
	}
	defer closeShard(t, s)
	_, err = Replayed(t.Context(), s, 1)
	return err
}

// testShardSealed switches encryption on in the middle of a log, changes the key, and opens it with other keys and with none.
func testShardSealed(t *testing.T, r *rig) {
	const secret = "request 1" // begins what each of the batches holds
	var one, two, both = Keys(t, "one"), Keys(t, "two"), Keys(t, "two", "one")
	step := func(keys *seal.Ring, n int) {
		t.Helper()
		r.keys = keys
		s := r.open(t)
		AppendN(t, s, 10)
		wantReplay(t, s, 1, n)
		wantReplay(t, s, n-4, n)
		closeShard(t, s)
	}
	step(nil, 10)
	step(one, 20)
	step(both, 30)

	want := func(keys *seal.Ring, kind backbone.Kind, from uint64) {
		t.Helper()
		var d *backbone.Damage
		if err := r.openErr(t, keys); !errors.As(err, &d) || d.Kind != kind || d.From != from || d.Remedy == "" {
			t.Errorf("got %v\nwant %s at %d", err, kind, from)
		}
	}
	want(nil, backbone.Locked, 11)
	want(one, backbone.Locked, 21)
	want(two, backbone.Locked, 11)
	want(Keys(t, "three"), backbone.Locked, 11)
	if err := r.openErr(t, both); err != nil {
		t.Error(err)
	}
	if err := r.openErr(t, Keys(t, "three", "one", "two")); err != nil {
		t.Error(err)
	}

	d := r.store.Open(t)
	defer closeDriver(t, d)
	err := d.Read(t.Context(), 1, func(seq uint64, data []byte) error {
		if clear := bytes.Contains(data, []byte(secret)); clear != (seq == 1 || seq == 10) {
			return fmt.Errorf("batch %d: in clear %t: %x", seq, clear, data)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
