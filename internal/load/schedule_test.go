package load

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// within counts the requests that are due in [from, to).
func within(s Schedule, from, to time.Duration) (n int) {
	for _, t := range s {
		if t >= from && t < to {
			n++
		}
	}
	return n
}

func near(t *testing.T, what string, got int, want float64) {
	t.Helper()
	if math.Abs(float64(got)-want) > 1.5 {
		t.Errorf("%s: %d requests, want %.1f", what, got, want)
	}
}

// TestSchedules: as many requests as the rate says in every tenth of the time, ascending, and none at or behind the end.
func TestSchedules(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		length := time.Duration(1+rng.IntN(20)) * time.Second
		from, to := float64(rng.IntN(200)), float64(1+rng.IntN(200))
		check := func(kind string, s Schedule, err error, rate func(at float64) float64) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			if !slices.IsSorted(s) || s[0] < 0 || s.Length() > length {
				t.Fatalf("%s: not ascending within %s", kind, length)
			}
			for i := range 10 {
				a, b := length/10*time.Duration(i), length/10*time.Duration(i+1)
				want, steps := 0.0, 1000
				for k := range steps {
					want += rate(a.Seconds()+(b-a).Seconds()*(float64(k)+0.5)/float64(steps)) * (b - a).Seconds() / float64(steps)
				}
				near(t, kind, within(s, a, b), want)
			}
		}
		s, err := Constant(to, length)
		check("constant", s, err, func(float64) float64 { return to })
		s, err = Ramp(from, to, length)
		check("ramp", s, err, func(at float64) float64 { return from + (to-from)*at/length.Seconds() })
		s, err = Ramp(to, from, length)
		check("ramp down", s, err, func(at float64) float64 { return to + (from-to)*at/length.Seconds() })
		s, err = Burst(to, 4, time.Second, 5*time.Second, length)
		check("burst", s, err, func(at float64) float64 {
			if math.Mod(at, 5) < 1 {
				return 4 * to
			}
			return to
		})
	}
}

func TestRefusedSchedules(t *testing.T) {
	for name, f := range map[string]func() (Schedule, error){
		"a ramp":      func() (Schedule, error) { return Ramp(0, 0, time.Second) },
		"not both 0":  func() (Schedule, error) { return Ramp(-1, 5, time.Second) },
		"length":      func() (Schedule, error) { return Constant(5, 0) },
		"more than":   func() (Schedule, error) { return Constant(1e9, time.Hour) },
		"and the":     func() (Schedule, error) { return Burst(5, 2, time.Second, time.Second, time.Minute) },
		"bursts of":   func() (Schedule, error) { return Burst(math.NaN(), 2, time.Second, time.Minute, time.Minute) },
		"rows within": func() (Schedule, error) { return Replay([]Arrival{{0, 1}}, 2, time.Millisecond/2) },
	} {
		s, err := f()
		if name == "rows within" && err == nil && len(s) == 1 {
			continue // what is left at the end goes out
		}
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTrace: what was recorded comes at the same moments.
func TestTrace(t *testing.T) {
	s, err := Burst(100, 10, 200*time.Millisecond, time.Second, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := WriteTrace(&b, s, 3); err != nil {
		t.Fatal(err)
	}
	trace, err := ReadTrace(&b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Replay(trace, 3, time.Minute)
	if err != nil || len(again) != len(s) {
		t.Fatalf("%d requests of %d: %v", len(again), len(s), err)
	}
	for i := range s {
		if d := again[i] - s[i]; d > time.Microsecond || d < -time.Microsecond {
			t.Fatalf("request %d is due at %s, was at %s", i, again[i], s[i])
		}
	}
	if again, err = Replay([]Arrival{{0, 1}, {10, 1}, {20, 5}, {30, 1}}, 2, time.Minute); err != nil {
		t.Fatal(err)
	}
	if want := (Schedule{10e6, 20e6, 20e6, 30e6}); !slices.Equal(again, want) {
		t.Errorf("due at %v, want %v", again, want)
	}
}

func TestBadTraces(t *testing.T) {
	for text, part := range map[string]string{
		"":                                "empty",
		"\n\n":                            "empty",
		"{\"at_ms\":1}\nx":                "line 2",
		"{\"at_ms\":2}\n{\"at_ms\":1}":    "not before the line above (2)",
		`{"at_ms":-1}`:                    "from 0",
		`{"at_ms":1,"rows":0}`:            "from 1 to 10000",
		`{"at_ms":1,"rows":10001}`:        "from 1 to 10000",
		`{"at_ms":1e300}`:                 "to a day",
		strings.Repeat(" ", 100_000):      "cannot be read",
		"{\"at_ms\":1}\n{\"at_ms\":\"\"}": "line 2",
	} {
		if _, err := ReadTrace(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%.40q: %v, want %q", text, err, part)
		}
	}
}

func FuzzReadTrace(f *testing.F) {
	f.Add([]byte("{\"at_ms\":1}\n{\"at_ms\":2.5,\"rows\":3}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		trace, err := ReadTrace(bytes.NewReader(text))
		if err != nil {
			return
		}
		s, err := Replay(trace, 2, time.Minute)
		if err == nil && !slices.IsSorted(s) {
			t.Errorf("not ascending: %v", s)
		}
	})
}

func TestParseBursts(t *testing.T) {
	b, err := ParseBursts("10,1s,5s")
	if err != nil || b != (Bursts{10, time.Second, 5 * time.Second}) {
		t.Error(b, err)
	}
	for _, bad := range []string{"", "10", "10,1s", "x,1s,5s", "10,1,5s", "10,5s,1s", "0.5,1s,5s", "NaN,1s,5s", "10,1s,5s,6s", "10,-1s,5s"} {
		if _, err := ParseBursts(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
