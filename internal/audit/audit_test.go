package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"laaster/internal/audit"
	"laaster/internal/change"
)

// batch returns a batch with these bodies as audit entries, and a canary in front.
func batch(t *testing.T, log change.LogID, seq uint64, bodies ...string) *change.Batch {
	t.Helper()
	var b change.Builder
	entries := []change.Entry{{Kind: change.EntryCanary, Last: true, Body: (&change.Canary{}).Append(nil)}}
	for _, body := range bodies {
		entries = append(entries, change.Entry{Kind: change.EntryAudit, Last: true, Body: []byte(body)})
	}
	for i := range entries {
		if err := b.Add(&entries[i]); err != nil {
			t.Fatal(err)
		}
	}
	out := b.Seal(change.Header{Log: log, Seq: seq, Stamp: int64(1000 * seq)})
	return &out
}

var logA = change.LogID([]byte("aaaaaaaaaaaaaaaa"))

func body(i int) string {
	return string(audit.Act{At: int64(i), Subject: "operator", Act: "deploy", Object: fmt.Sprintf("app %d", i), Outcome: "done"}.Encode())
}

// open opens a trail; the test's end does not close it.
func open(t *testing.T, dir, witness string) *audit.Trail {
	t.Helper()
	trail, err := audit.Open(dir, witness, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return trail
}

// fill writes 40 batches with two records each, sealing every ten, and returns the batches.
func fill(t *testing.T, dir, witness string) []*change.Batch {
	t.Helper()
	trail := open(t, dir, witness)
	var all []*change.Batch
	for i := range 40 {
		b := batch(t, logA, uint64(i+1), body(2*i), body(2*i+1))
		all = append(all, b)
		if err := trail.Applied(b); err != nil {
			t.Fatal(err)
		}
		if i%10 == 9 {
			if err := trail.Seal(b.Header().Stamp); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := trail.Close(1); err != nil {
		t.Fatal(err)
	}
	return all
}

func source(batches []*change.Batch) audit.Source {
	return func(fn func(*change.Batch) error) error {
		for _, b := range batches {
			if err := fn(b); err != nil {
				return err
			}
		}
		return nil
	}
}

func verify(t *testing.T, dir string, o audit.VerifyOptions) *audit.Report {
	t.Helper()
	r, err := audit.Verify(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTrail(t *testing.T) {
	dir, witness := t.TempDir(), filepath.Join(t.TempDir(), "witness")
	all := fill(t, dir, witness)
	r := verify(t, dir, audit.VerifyOptions{Witness: witness, Log: source(all)})
	if len(r.Problems) > 0 || r.Records != 80 || r.Sealed != 80 || r.Seals != 4 || r.Witness != 4 || r.Logged != 80 {
		t.Fatalf("%+v", r)
	}
	// A replay brings everything again, and then something new.
	trail := open(t, dir, witness)
	for _, b := range append(all, batch(t, logA, 41, "not JSON \xff")) {
		if err := trail.Applied(b); err != nil {
			t.Fatal(err)
		}
	}
	if trail.Number() != 81 {
		t.Fatalf("%d records", trail.Number())
	}
	if err := trail.Close(1); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, dir, audit.VerifyOptions{Witness: witness}); len(r.Problems) > 0 || r.Records != 81 {
		t.Fatalf("%+v", r)
	}
}

// TestTorn cuts the trail at every byte behind the last seal, as a crash may: the next start goes on, and the replay fills it up.
func TestTorn(t *testing.T) {
	dir := t.TempDir()
	all := fill(t, dir, "")
	more := batch(t, logA, 41, body(100), body(101))
	sealed := read(t, dir, "trail")
	trail := open(t, dir, "")
	if err := trail.Applied(more); err != nil {
		t.Fatal(err)
	}
	whole := read(t, dir, "trail")
	if err := trail.Close(1); err != nil {
		t.Fatal(err)
	}
	seals := read(t, dir, "seals")
	for n := len(sealed); n <= len(whole); n++ {
		write(t, dir, "trail", whole[:n])
		write(t, dir, "seals", seals[:len(seals)-len(lastLine(seals))])
		trail := open(t, dir, "")
		for _, b := range append(all, more) {
			if err := trail.Applied(b); err != nil {
				t.Fatal(err)
			}
		}
		if err := trail.Close(1); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(read(t, dir, "trail"), whole) {
			t.Fatalf("cut at byte %d: the trail is another one", n)
		}
	}
}

// TestTampering changes the files in every way that the issue names, each many times: nothing goes unseen.
func TestTampering(t *testing.T) {
	from, witness := t.TempDir(), filepath.Join(t.TempDir(), "witness")
	all := fill(t, from, witness)
	files := map[string][]byte{"trail": read(t, from, "trail"), "seals": read(t, from, "seals"), "key.pub": read(t, from, "key.pub")}
	half := t.TempDir() // an older state of the same trail
	older := func(dir string, lines int) {
		write(t, dir, "trail", firstLines(files["trail"], lines))
		write(t, dir, "seals", firstLines(files["seals"], lines/20))
	}
	older(half, 40)
	rng := rand.New(rand.NewPCG(1, 2))
	tamper := map[string]func(dir string){
		"flip a bit of the trail": func(dir string) { write(t, dir, "trail", flip(rng, files["trail"])) },
		"flip a bit of the seals": func(dir string) { write(t, dir, "seals", flip(rng, files["seals"])) },
		"drop a record": func(dir string) {
			lines := bytes.SplitAfter(files["trail"], []byte{'\n'})
			i := rng.IntN(80)
			write(t, dir, "trail", bytes.Join(append(append([][]byte{}, lines[:i]...), lines[i+1:]...), nil))
		},
		"swap two records": func(dir string) {
			lines := bytes.SplitAfter(files["trail"], []byte{'\n'})
			i := rng.IntN(79)
			lines[i], lines[i+1] = lines[i+1], lines[i]
			write(t, dir, "trail", bytes.Join(lines, nil))
		},
		"repeat a record": func(dir string) {
			lines := bytes.SplitAfter(files["trail"], []byte{'\n'})
			i := rng.IntN(80)
			write(t, dir, "trail", bytes.Join(append(append(append([][]byte{}, lines[:i]...), lines[i]), lines[i:]...), nil))
		},
		"cut the trail":           func(dir string) { write(t, dir, "trail", files["trail"][:rng.IntN(len(files["trail"]))]) },
		"cut the seals":           func(dir string) { write(t, dir, "seals", files["seals"][:rng.IntN(len(files["seals"]))]) },
		"put back an older state": func(dir string) { older(dir, 20*(1+rng.IntN(3))) },
		"another key":             func(dir string) { write(t, dir, "key.pub", []byte(strings.Repeat("ab", 32)+"\n")) },
	}
	pub := strings.TrimSpace(string(files["key.pub"]))
	for name, f := range tamper {
		for i := range 60 {
			dir := t.TempDir()
			for file, b := range files {
				write(t, dir, file, b)
			}
			f(dir)
			r, err := audit.Verify(dir, audit.VerifyOptions{Witness: witness, Key: pub, Log: source(all)})
			if err == nil && len(r.Problems) == 0 {
				t.Errorf("%s, try %d: unseen: %+v", name, i, r)
			}
		}
	}
	// Without a witness the log shows what was cut.
	older(half, 60)
	write(t, half, "key.pub", files["key.pub"])
	if r := verify(t, half, audit.VerifyOptions{Log: source(all)}); len(r.Problems) == 0 {
		t.Error("an older state beside the log went unseen")
	}
	if r := verify(t, half, audit.VerifyOptions{Witness: witness}); len(r.Problems) == 0 {
		t.Error("an older state beside the witness went unseen")
	}
}

// TestBroken: a trail that does not fit is not appended to.
func TestBroken(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, "")
	whole := read(t, dir, "trail")
	for name, b := range map[string][]byte{"changed": bytes.Replace(whole, []byte("app 7"), []byte("app 8"), 1), "cut below the seal": firstLines(whole, 79)} {
		write(t, dir, "trail", b)
		_, err := audit.Open(dir, "", nil, nil)
		if broken := (*audit.Broken)(nil); !errors.As(err, &broken) {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(read(t, dir, "trail"), b) {
			t.Errorf("%s: the evidence was changed", name)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add([]byte("00 {}\n"), []byte("laaster-audit-1 a 1 b c 2 3 d\n"))
	f.Fuzz(func(t *testing.T, trail, seals []byte) {
		dir := t.TempDir()
		write(t, dir, "trail", trail)
		write(t, dir, "seals", seals)
		write(t, dir, "key.pub", []byte(strings.Repeat("ab", 32)))
		r, err := audit.Verify(dir, audit.VerifyOptions{Log: source([]*change.Batch{batch(t, logA, 1, body(1))})})
		if err == nil && len(r.Problems) == 0 {
			t.Fatalf("a made-up trail was believed: %+v", r)
		}
	})
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func firstLines(b []byte, n int) []byte {
	return bytes.Join(bytes.SplitAfter(b, []byte{'\n'})[:n], nil)
}

func lastLine(b []byte) []byte {
	lines := bytes.SplitAfter(b, []byte{'\n'})
	return lines[len(lines)-2]
}

func flip(rng *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
	return b
}
