package door

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"laaster/internal/kit/run"
	"laaster/internal/kit/testkit"
)

// attack is what somebody does to a server. A round is bounded, and an error when the server answers otherwise than it should.
type attack struct {
	name    string
	workers int           // that attack at one time
	rounds  int           // of each, when nothing is measured
	pause   time.Duration // between two rounds of one worker
	prepare func(x *victim) error
	round   func(x *victim) error
}

// mostMemory is how much more memory than before a server may have during an attack, in MiB.
const mostMemory = 64

// settling is how long good clients alone make a server's memory what it is.
const settling = 500 * time.Millisecond

// pairs is how many pairs of a calm and an attacked time are to be measured; 0: nothing is.
func pairs() int {
	n, _ := strconv.Atoi(os.Getenv("LAASTER_DOOR_PAIRS"))
	return n
}

// span is how long each of a pair is: five seconds, in which good clients write 500 times and read 700 times, so that a p99 is the sixth slowest. LAASTER_DOOR_SPAN is another.
func span(t testing.TB) time.Duration {
	text := cmp.Or(os.Getenv("LAASTER_DOOR_SPAN"), "5s")
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second || d > time.Minute {
		t.Fatalf("LAASTER_DOOR_SPAN %q: want 1s to 1m", text)
	}
	return d
}

// under attacks a server, with good clients beside.
func under(t *testing.T, x *victim, attacks []attack) {
	for i, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			x.t, x.from = t, fmt.Sprintf("127.0.0.%d", attackers+i)
			if a.prepare != nil {
				if err := a.prepare(x); err != nil {
					t.Fatal(err)
				}
			}
			if n := pairs(); n > 0 {
				x.measure(a, n)
				return
			}
			g := x.behave()
			x.suffer(a)
			g.end()
		})
	}
}

// suffer has every worker do its rounds, and checks that the good clients were served meanwhile and that memory stayed.
func (x *victim) suffer(a attack) {
	x.t.Helper()
	wait(settling)
	idle := x.memory("VmRSS")
	x.forget()
	x.good.take()
	x.felt.Store(0)
	group := run.New(x.t.Context())
	for range a.workers {
		group.Go("attack", func(context.Context) error {
			for range a.rounds {
				if err := a.round(x); err != nil {
					return err
				}
				wait(a.pause)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		x.t.Error(err)
	}
	for end := time.Now().Add(30 * time.Second); x.good.count("shown") == 0 && x.good.group.Err() == nil && time.Now().Before(end); {
		wait(10 * time.Millisecond) // the attack was shorter than a good client's pause
	}
	most := mostMemory
	if testkit.Race() {
		most *= 4
	}
	above := (x.memory("VmHWM") - idle) >> 10
	served := x.good.take()
	x.t.Logf("%d answers to the attack; good clients: %d writes, %d shown, %d reads, %d times busy; %d MiB above idle", x.felt.Load(), len(served["write"]), len(served["shown"]), len(served["read"]), x.good.busy.Load(), above)
	if above > most {
		x.t.Errorf("%d MiB above idle at the highest, want at most %d", above, most)
	}
	if len(served["shown"]) == 0 || len(served["read"]) == 0 {
		x.t.Error("good clients were not served during the attack")
	}
	if x.felt.Load() == 0 {
		x.t.Error("the attack had no answer at all")
	}
}

// measure prints by how much the good clients, in a process of their own, wait longer.
func (x *victim) measure(a attack, pairs int) {
	x.t.Helper()
	good := x.apart()
	defer good.end()
	defer yield(x.t)()
	span := span(x.t)
	wait(settling)
	idle, above := x.memory("VmRSS"), 0
	x.forget()
	ratios := map[string][]float64{}
	var seen string // the p99 of each pair
	var refused atomic.Int64
	for range pairs {
		good.take()
		wait(span)
		calm := good.take()
		stop := make(chan struct{})
		group := run.New(x.t.Context())
		for range a.workers {
			group.Go("attack", func(context.Context) error {
				for {
					select {
					case <-stop:
						return nil
					default:
					}
					if err := a.round(x); err != nil {
						refused.Add(1) // by the limits: that everything is answered well is tested without them
					}
					wait(a.pause)
				}
			})
		}
		wait(span / 10)
		good.take()
		wait(span)
		bad := good.take()
		above = max(above, (x.memory("VmHWM")-idle)>>10)
		close(stop)
		if err := group.Wait(); err != nil {
			x.t.Error(err)
		}
		for _, kind := range []string{"write", "shown", "read"} {
			ratios[kind] = append(ratios[kind], float64(p99(bad[kind]))/float64(max(1, p99(calm[kind]))))
			seen += fmt.Sprintf(" %s %v/%v", kind, p99(bad[kind]).Round(10*time.Microsecond), p99(calm[kind]).Round(10*time.Microsecond))
		}
		seen += ";"
		wait(span / 5) // what the attack left ends
	}
	x.t.Logf("RATIO %-28s write %.2f shown %.2f read %.2f (median of %d pairs of %v); memory %d MiB above idle; %d answers to the attack, %d rounds refused; p99 of each pair%s", a.name, median(ratios["write"]), median(ratios["shown"]),
		median(ratios["read"]), pairs, span, above, x.felt.Swap(0), refused.Load(), seen)
	if above > mostMemory {
		x.t.Errorf("%d MiB above idle at the highest, want at most %d", above, mostMemory)
	}
}

func p99(sorted []time.Duration) time.Duration {
	if len(sorted) == 0 {
		return time.Hour // nobody was served: no ratio hides that
	}
	return sorted[len(sorted)*99/100]
}

func median[T cmp.Ordered](all []T) T {
	slices.Sort(all)
	return all[len(all)/2]
}
