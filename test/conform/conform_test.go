package conform

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2/toxics"

	"laaster/internal/kit/testkit"
)

func TestMain(m *testing.M) {
	toxics.Register("laaster_gate", new(gateToxic))
	code := m.Run()
	_ = os.RemoveAll(scratch()) // what is left of failed plays
	os.Exit(code)
}

// scratch is the folder of the servers of this process.
var scratch = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "laaster-conform-")
	if err != nil {
		panic(err)
	}
	return dir
})

func newDir() (string, error) { return os.MkdirTemp(scratch(), "server-") }

// seeds is how long the long forms are: LAASTER_SEEDS, or 0 for the short form.
func seeds() int {
	n, _ := strconv.Atoi(os.Getenv("LAASTER_SEEDS"))
	return n
}

// drivers starts those that this machine has. Node is the only one that may be missing.
func drivers(t *testing.T) map[string]*driver {
	t.Helper()
	out := map[string]*driver{"raw": goDriver("raw", serveRaw), "go": goDriver("go", serveGo)}
	if node, err := exec.LookPath("node"); err == nil {
		d, err := nodeDriver(node, filepath.Join("..", "..", "sdk", "js", "dist", "laaster.js"))
		if err != nil {
			t.Fatal(err)
		}
		out["ts"] = d
	} else if os.Getenv("LAASTER_REQUIRE") == "all" {
		testkit.Missing(t, "node is not installed")
	} else {
		t.Log("skipped for the TypeScript SDK: node is not installed")
	}
	all := maps.Clone(out)
	if only := os.Getenv("LAASTER_DRIVERS"); only != "" { // such as raw,go
		maps.DeleteFunc(out, func(name string, _ *driver) bool { return !slices.Contains(strings.Split(only, ","), name) })
	}
	t.Cleanup(func() {
		for name, d := range all {
			d.end()
			for _, text := range d.problems() {
				t.Errorf("%s: %s", name, text)
			}
		}
	})
	return out
}

// faults are what lies between. The short form takes one of them for every second scenario, client and transport.
func faults() []string { return []string{"trickle", "delay", "cuts", "cuts-up"} }

// plays returns what is to be played: each scenario by each client over each transport without faults, and with them.
func plays(scripts []*script, names []string, full bool) []*play {
	var out []*play
	for _, s := range scripts {
		for _, name := range names {
			for _, transport := range []string{"ws", "sse"} {
				if len(s.only) > 0 && !slices.Contains(s.only, name) && !slices.Contains(s.only, transport) {
					continue
				}
				some := faults()
				if s.calm {
					some = some[:2]
				}
				if !full { // one of them, for every second
					h := fnv.New32a()
					fmt.Fprint(h, s.name, name, transport)
					i := h.Sum32() % uint32(2*len(some))
					some = some[min(i, uint32(len(some))):][:min(1, max(0, len(some)-int(i)))]
				}
				ways := append([]string{"none"}, some...)
				if !full && testkit.Race() { // several times slower: a faulty way where there is one, and the rest is played without the detector
					ways = ways[len(ways)-1:]
				}
				for _, f := range ways {
					l := lane{name, transport, f}
					out = append(out, &play{lane: l, script: s, id: s.name + "/" + l.String()})
				}
			}
		}
	}
	return out
}

// TestScenarios plays every scenario of scenarios/ on every lane. LAASTER_PLAY=<part of a name> plays some.
func TestScenarios(t *testing.T) {
	scripts, err := readScripts()
	if err != nil {
		t.Fatal(err)
	}
	ds := drivers(t)
	var names []string
	for name := range ds {
		names = append(names, name)
	}
	slices.Sort(names)
	all := plays(scripts, names, seeds() > 0)
	if only := os.Getenv("LAASTER_PLAY"); only != "" {
		all = slices.DeleteFunc(all, func(p *play) bool { return !strings.Contains(p.id, only) })
	}
	results := make(chan func(*testing.T), len(all))
	queue := make(chan *play, len(all))
	for _, p := range all {
		p.drivers = ds
		queue <- p
	}
	close(queue)
	var group sync.WaitGroup
	for range 8 { // most of the time they wait
		group.Go(func() {
			for p := range queue {
				began := time.Now()
				err := p.run()
				p.took = time.Since(began)
				results <- func(t *testing.T) {
					t.Run(p.id, func(t *testing.T) {
						if err != nil {
							t.Error(err)
						} else if os.Getenv("LAASTER_STORY") != "" {
							t.Log(p.story())
						}
					})
				}
			}
		})
	}
	group.Wait()
	close(results)
	for report := range results {
		report(t)
	}
	slices.SortFunc(all, func(a, b *play) int { return cmp.Compare(b.took, a.took) })
	for _, p := range all[:min(5, len(all))] {
		t.Logf("%v for %s", p.took.Round(time.Millisecond), p.id)
	}
	claims, cuts := 0, map[string]int{}
	for _, p := range all {
		claims += p.counted
		for _, c := range p.cuts {
			cuts[strings.Join(strings.Fields(c)[:1], "")+" "+c[strings.LastIndex(c, " ")+1:]]++
		}
	}
	t.Logf("%d plays of %d scenarios: %d states compared with the model, cut inside of %v", len(all), len(scripts), claims, cuts)
	if len(all) > 50 && claims < 1000 {
		t.Errorf("only %d states were compared", claims)
	}
}
