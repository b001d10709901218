package oracle

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"laaster/internal/kit/testkit"
	"laaster/internal/sql"
)

// tokens splits SQL so that its parts can be changed one by one.
func tokens(src string) []string {
	return regexp.MustCompile(`[A-Za-z_]+|\d+|'[^']*'|\s+|.`).FindAllString(src, -1)
}

// mutated changes one to three places of a definition: parts go, come from pool, change places or are repeated; numbers become extreme.
func mutated(r *rand.Rand, src string, pool []string) string {
	t := tokens(src)
	for range 1 + r.IntN(3) {
		i, j := r.IntN(len(t)), r.IntN(len(t))
		switch r.IntN(6) {
		case 0:
			t[i] = pool[r.IntN(len(pool))]
		case 1:
			t = append(t[:i:i], t[min(len(t), i+1+r.IntN(3)):]...)
		case 2:
			t[i], t[j] = t[j], t[i]
		case 3:
			j = min(len(t), i+r.IntN(12))
			t = append(t[:j:j], append(append([]string{}, t[i:j]...), t[j:]...)...)
		default:
			extremeNumber(r, t, i)
		}
		if len(t) == 0 {
			return ""
		}
	}
	return strings.Join(t, "")
}

// extremeNumber replaces the first number from i on.
func extremeNumber(r *rand.Rand, t []string, i int) {
	for k := range t {
		k = (k + i) % len(t)
		if t[k][0] >= '0' && t[k][0] <= '9' {
			t[k] = []string{"0", "1", "9223372036854775807", "2147483647", "100000", "1e300", "0.001"}[r.IntN(7)]
			return
		}
	}
}

// mutant compiles a random app that was changed at random and runs rows through it. Whatever is accepted runs: no panic, no engine that
// gives up, no view that stops but for a limit.
func mutant(seed, change uint64) (accepted bool, err error) {
	r := newCase(nil, nil, randomChoices(seed), map[string]int{})
	other := newCase(nil, nil, randomChoices(change), map[string]int{})
	if r == nil || other == nil {
		return false, nil
	}
	src := mutated(rand.New(rand.NewPCG(seed, change)), r.app(r.views), tokens(other.app(other.views)))
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, src)
		}
	}()
	defer caught(&err)
	began := time.Now()
	p, _ := sql.Compile("app.sql", []byte(src), nil)
	if p != nil {
		d, err := newRows(p, change)
		if err == nil {
			err = d.play(4)
		}
		if err != nil {
			return true, err
		}
	}
	if took := time.Since(began); took > 20*time.Second {
		return p != nil, fmt.Errorf("it takes %s", took)
	}
	return p != nil, nil
}

func TestMutants(t *testing.T) {
	n := 1000
	if testing.Short() || testkit.Race() {
		n = 300
	}
	accepted := 0
	for i := range uint64(n) {
		ok, err := mutant(i/8, i)
		if err != nil {
			t.Fatalf("seed %d: %v", i, err)
		}
		if ok {
			accepted++
		}
	}
	if accepted < n/30 {
		t.Errorf("%d of %d accepted", accepted, n)
	}
}

// FuzzQuery is TestMutants without an end.
func FuzzQuery(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, seed, change uint64) {
		if _, err := mutant(seed, change); err != nil {
			t.Fatal(err)
		}
	})
}
