package seal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func ring(t testing.TB, ids ...string) *Ring {
	t.Helper()
	var text strings.Builder
	for _, id := range ids {
		text.WriteString(testLine(id))
	}
	r, err := Parse("test", []byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// testLine returns a key line that is the same each time.
func testLine(id string) string {
	rng := rand.New(rand.NewPCG(uint64(len(id)), uint64(id[0])))
	b := make([]byte, 32)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return id + " " + hex.EncodeToString(b) + "\n"
}

func TestSealOpen(t *testing.T) {
	r := ring(t, "new", "old")
	for _, n := range []int{0, 1, 100, 16 << 10} {
		plain := bytes.Repeat([]byte{7}, n)
		sealed := r.Seal([]byte("head"), plain, []byte("place"))
		if len(sealed) != 4+n+Overhead || string(sealed[:4]) != "head" {
			t.Fatalf("%d bytes became %d", n, len(sealed))
		}
		if n > 8 && bytes.Contains(sealed, plain[:8]) {
			t.Error("the plain text can be read")
		}
		out, err := r.Open([]byte("x"), sealed[4:], []byte("place"))
		if err != nil || string(out) != "x"+string(plain) {
			t.Fatalf("opened: %q, %v", out, err)
		}
		if out, err := r.OpenInPlace(bytes.Clone(sealed[4:]), []byte("place")); err != nil || !bytes.Equal(out, plain) {
			t.Fatalf("opened in place: %q, %v", out, err)
		}
		if again := r.Seal(nil, plain, []byte("place")); bytes.Equal(again, sealed[4:]) {
			t.Error("sealing twice gave the same bytes")
		}
		if _, err := r.Open(nil, sealed[4:], []byte("other place")); !errors.Is(err, ErrForged) {
			t.Errorf("opened elsewhere: %v", err)
		}
	}
}

func TestEveryBitCounts(t *testing.T) {
	r := ring(t, "a", "b")
	sealed := r.Seal(nil, []byte("a page of state"), []byte("aad"))
	for i := range len(sealed) * 8 {
		bad := bytes.Clone(sealed)
		bad[i/8] ^= 1 << (i % 8)
		out, err := r.Open(nil, bad, []byte("aad"))
		if unknown := (*UnknownKeyError)(nil); err == nil || len(out) != 0 || !errors.Is(err, ErrForged) && !errors.As(err, &unknown) {
			t.Fatalf("bit %d: %q, %v", i, out, err)
		}
	}
	for n := range sealed {
		if _, err := r.Open(nil, sealed[:n], []byte("aad")); !errors.Is(err, ErrForged) {
			t.Fatalf("cut to %d: %v", n, err)
		}
	}
}

func TestRotation(t *testing.T) {
	before, both, after := ring(t, "old"), ring(t, "new", "old"), ring(t, "new")
	old := before.Seal(nil, []byte("x"), nil)
	if _, err := both.Open(nil, old, nil); err != nil {
		t.Errorf("the old key does not open: %v", err)
	}
	fresh := both.Seal(nil, []byte("x"), nil)
	if _, err := after.Open(nil, fresh, nil); err != nil {
		t.Errorf("the new line on top does not seal: %v", err)
	}
	_, err := after.Open(nil, old, nil)
	unknown := (*UnknownKeyError)(nil)
	if !errors.As(err, &unknown) || unknown.Key != NameOf("old") || !strings.Contains(err.Error(), "new") {
		t.Errorf("a missing key: %v", err)
	}
	var none *Ring
	if _, err := none.Open(nil, old, nil); !errors.As(err, &unknown) || !strings.Contains(err.Error(), "encryption.keys") {
		t.Errorf("no keys at all: %v", err)
	}
	if none.Has(NameOf("old")) || !both.Has(NameOf("old")) || both.Sealing() != NameOf("new") || none.IDs() != nil {
		t.Error("what the ring has")
	}
	defer func() {
		if recover() == nil {
			t.Error("no keys, and yet it sealed")
		}
	}()
	none.Seal(nil, nil, nil)
}

func TestAnotherKeyUnderTheSameID(t *testing.T) {
	sealed := ring(t, "k").Seal(nil, []byte("x"), nil)
	line, err := NewLine("k")
	if err != nil {
		t.Fatal(err)
	}
	r, err := Parse("test", []byte(line))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Open(nil, sealed, nil); !errors.Is(err, ErrForged) {
		t.Errorf("got %v", err)
	}
}

func TestParse(t *testing.T) {
	a, b := testLine("a"), testLine("bb")
	digits := strings.Fields(a)[1]
	for _, c := range []struct{ text, want string }{
		{a, ""},
		{"# keys\n\n  " + b + "\r\n" + a, ""},
		{strings.TrimSuffix(a, "\n"), ""},
		{"", "no key"},
		{"# nothing\n", "no key"},
		{digits + "\n", "line 1: it is not an id"},
		{"a b " + digits, "line 1: it is not an id"},
		{"\n" + digits + " a\n", "line 2: it is not an id"},
		{"a " + digits[:62], "it is not an id"},
		{"a " + digits + "00", "it is not an id"},
		{"a/b " + digits, "it is not an id"},
		{strings.Repeat("a", 65) + " " + digits, "it is not an id"},
		{"a x" + digits[1:], "hexadecimal"},
		{"a " + strings.Repeat("0", 64), "repeated"},
		{a + a, "line 2: the id \"a\""},
		{strings.Repeat(" ", maxKeyFile+1), "larger"},
	} {
		_, err := Parse("keys.txt", []byte(c.text))
		if c.want == "" {
			if err != nil {
				t.Errorf("%q: %v", c.text, err)
			}
			continue
		}
		bad := (*KeyError)(nil)
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "keys.txt") {
			t.Errorf("%q: %v, want %q", c.text, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), digits[1:20]) {
			t.Errorf("the error tells the key: %v", err)
		}
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte(testLine("a")), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Load(path)
	if err != nil || len(r.IDs()) != 1 || r.IDs()[0] != "a" {
		t.Fatalf("%v, %v", r.IDs(), err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that the group may read: %v", err)
	}
	if _, err := Load(path + "-none"); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "laaster key") {
		t.Errorf("no file: %v", err)
	}
	t.Setenv("LAASTER_TEST_KEYS", testLine("a"))
	if _, err := Load("env:LAASTER_TEST_KEYS"); err != nil {
		t.Error(err)
	}
	if _, err := Load("env:LAASTER_TEST_NO_KEYS"); err == nil || !strings.Contains(err.Error(), "not set") {
		t.Errorf("no variable: %v", err)
	}
}

func TestNewLine(t *testing.T) {
	for _, id := range []string{"", "2026-11"} {
		line, err := NewLine(id)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := Parse("test", []byte(line)); err != nil || id != "" && r.IDs()[0] != id {
			t.Errorf("%v, %v", r.IDs(), err)
		}
	}
	if _, err := NewLine("a b"); err == nil {
		t.Error("an id with a space")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(testLine("a") + "# x\n" + testLine("bb")))
	f.Add([]byte("a 00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := Parse("fuzz", text)
		if err != nil {
			if len(text) >= 64 && len(err.Error()) > 300 {
				t.Errorf("a long error: %v", err)
			}
			return
		}
		if len(r.IDs()) == 0 {
			t.Fatal("a ring without keys")
		}
		if out, err := r.Open(nil, r.Seal(nil, text, nil), nil); err != nil || !bytes.Equal(out, text) {
			t.Fatal(err)
		}
	})
}

func FuzzOpen(f *testing.F) {
	r := ring(f, "a", "bb")
	f.Add(r.Seal(nil, []byte("plain"), bytes.Repeat([]byte("long"), 20)), []byte("other"))
	name := NameOf("a")
	f.Add(append(name[:], make([]byte, 40)...), []byte{})
	f.Fuzz(func(t *testing.T, sealed, aad []byte) {
		if out, err := r.Open(nil, sealed, aad); err == nil || out != nil { // a fuzzer does not guess a tag
			t.Fatalf("opened: %q", out)
		}
	})
}

func BenchmarkSeal16K(b *testing.B) {
	r := ring(b, "a")
	plain, dst := make([]byte, 16<<10), make([]byte, 0, 17<<10)
	b.SetBytes(int64(len(plain)))
	for b.Loop() {
		dst = r.Seal(dst[:0], plain, nil)
	}
}

func BenchmarkOpen16K(b *testing.B) {
	r := ring(b, "a")
	sealed, dst := r.Seal(nil, make([]byte, 16<<10), nil), make([]byte, 0, 17<<10)
	b.SetBytes(16 << 10)
	for b.Loop() {
		if _, err := r.Open(dst[:0], sealed, nil); err != nil {
			b.Fatal(err)
		}
	}
}
