//go:build crashpoints

package fault

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// points is what the environment asks for and what was met so far. It is read at the first point that is met.
var points = sync.OnceValue(func() *plan {
	p := &plan{hits: map[string]int{}, out: os.Getenv("LAASTER_CRASH_HITS")}
	name, n, _ := strings.Cut(os.Getenv("LAASTER_CRASH"), ":")
	p.name = name
	p.nth, _ = strconv.Atoi(n)
	p.nth = max(p.nth, 1)
	return p
})

type plan struct {
	mu   sync.Mutex
	hits map[string]int // by name
	all  int
	name string // where to die, "*" anywhere
	nth  int
	out  string // the file of the names met
}

// Point is a place at which a test may kill the process. Names are "<room>.<what has just happened>".
func Point(name string) { points().hit(name) }

func (p *plan) hit(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hits[name]++
	p.all++
	if p.hits[name] == 1 && p.out != "" {
		if f, err := os.OpenFile(p.out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
			_, _ = f.WriteString(name + "\n")
			_ = f.Close()
		}
	}
	if p.name == name && p.hits[name] == p.nth || p.name == "*" && p.all == p.nth {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}
