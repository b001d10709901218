package ledger

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"laaster/internal/kit/run"
)

// LoadOptions says how much is written.
type LoadOptions struct {
	Seed  uint64
	Each  int           // producers of each kind; 0 is 1
	Pace  time.Duration // pause of a producer between two requests; 0: none
	Rows  int           // most rows of a request; 0 is 8
	Kinds []string      // of the producers; nil: all
}

// Load is the producers. They write until they are told to rest, through any death of the server.
type Load struct {
	o      LoadOptions
	target *Target
	book   *Book
	time   atomic.Int64 // of events: a step for each request
	gate   gate
}

// eventTime is where the time of events begins; stepSeconds how far it moves with a request.
const stepSeconds = 10

// NewLoad starts the producers in g, at rest: see Go.
func NewLoad(g *run.Group, target *Target, book *Book, o LoadOptions) *Load {
	o.Each, o.Rows = max(o.Each, 1), max(o.Rows, 1)
	if o.Rows == 1 {
		o.Rows = 8
	}
	l := &Load{o: o, target: target, book: book}
	l.gate.init()
	number := 0
	for _, k := range kinds() {
		if !l.wanted(k.name) {
			continue
		}
		for range o.Each {
			p := &producer{load: l, n: number, kind: k, rng: rand.New(rand.NewPCG(o.Seed, uint64(number)+100)),
				client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2}, Timeout: requestPatience}}
			number++
			l.gate.n++
			g.Go("producer "+k.name, p.run)
		}
	}
	return l
}

func (l *Load) wanted(kind string) bool {
	for _, k := range l.o.Kinds {
		if k == kind {
			return true
		}
	}
	return l.o.Kinds == nil
}

// Go lets the producers write.
func (l *Load) Go() { l.gate.open() }

// Rest has each producer settle what it has under way and then wait. The server must be up. An error says that they did not within a minute.
func (l *Load) Rest(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := l.gate.close(ctx); err != nil {
		return fmt.Errorf("the producers do not come to rest: %w", err)
	}
	return nil
}

// now returns the event time of the next request.
func (l *Load) now() string {
	at := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(l.time.Add(stepSeconds)) * time.Second)
	return at.Format("2006-01-02T15:04:05.000000Z")
}

// gate is where producers wait while they are to rest.
type gate struct {
	n  int // producers
	mu struct {
		sync.Mutex
		resting bool
		idle    int
		changed chan struct{}
	}
}

func (g *gate) init() { g.mu.changed, g.mu.resting = make(chan struct{}), true }

func (g *gate) change() {
	close(g.mu.changed)
	g.mu.changed = make(chan struct{})
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.resting = false
	g.change()
}

// resting reports whether producers are to rest.
func (g *gate) resting() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.resting
}

// pass waits until producers may write.
func (g *gate) pass(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.mu.resting {
		return nil
	}
	g.mu.idle++
	g.change()
	defer func() { g.mu.idle-- }()
	for g.mu.resting {
		if err := g.await(ctx); err != nil {
			return err
		}
	}
	return nil
}

// close has producers rest and waits until all do.
func (g *gate) close(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.resting = true
	for g.mu.idle < g.n {
		if err := g.await(ctx); err != nil {
			return fmt.Errorf("%d of %d rest: %w", g.mu.idle, g.n, err)
		}
	}
	return nil
}

// await waits for a change, with the lock given up meanwhile.
func (g *gate) await(ctx context.Context) error {
	changed := g.mu.changed
	g.mu.Unlock()
	defer g.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
