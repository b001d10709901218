package ledger

import (
	"context"
	"sync"
)

// Target is where the server is to be found now. Safe for concurrent use.
type Target struct {
	mu struct {
		sync.Mutex
		life    int
		url     string // empty: it is down
		changed chan struct{}
	}
}

// NewTarget returns the target of a server that is not up yet.
func NewTarget() *Target {
	t := &Target{}
	t.mu.changed = make(chan struct{})
	return t
}

// Up says that a new life of the server has begun, at url.
func (t *Target) Up(url string) { t.set(url, 1) }

// Down says that the server is dead until the next Up.
func (t *Target) Down() { t.set("", 0) }

func (t *Target) set(url string, more int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.url, t.mu.life = url, t.mu.life+more
	close(t.mu.changed)
	t.mu.changed = make(chan struct{})
}

// Life returns how many lives the server has had, the present one included.
func (t *Target) Life() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.life
}

// Get waits until the server is up and returns where, and which life that is.
func (t *Target) Get(ctx context.Context) (url string, life int, err error) {
	for {
		t.mu.Lock()
		url, life, changed := t.mu.url, t.mu.life, t.mu.changed
		t.mu.Unlock()
		if url != "" {
			return url, life, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", 0, ctx.Err()
		}
	}
}
