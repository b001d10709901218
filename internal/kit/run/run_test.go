package run

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestFailureStopsTheGroup(t *testing.T) {
	g := New(t.Context())
	broken := errors.New("broken")
	g.Go("waits", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	g.Go("fails", func(context.Context) error { return broken })
	err := g.Wait()
	if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "fails: ") {
		t.Fatalf("got %v, want the failure under the goroutine's name", err)
	}
	if len(g.Running()) != 0 {
		t.Errorf("still running: %v", g.Running())
	}
}

func TestPanicIsAnError(t *testing.T) {
	g := New(t.Context())
	g.Go("falls", func(context.Context) error { panic("over") })
	if err := g.Wait(); err == nil || !strings.Contains(err.Error(), "falls: panic: over") || !strings.Contains(err.Error(), "run_test.go") {
		t.Fatalf("got %v, want the panic with its stack", err)
	}
}

func TestStopIsNoFailure(t *testing.T) {
	g := New(t.Context())
	g.Go("waits", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	if n := g.Running()["waits"]; n != 1 {
		t.Errorf("the census counts %d", n)
	}
	g.Stop()
	g.Stop()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestManualClock(t *testing.T) {
	start := time.UnixMicro(0)
	c := NewManual(start)
	late, soon, now := c.After(time.Minute), c.After(time.Second), c.After(0)
	<-now
	c.AwaitSleepers(2)
	c.Advance(2 * time.Second)
	if at := <-soon; !at.Equal(start.Add(2 * time.Second)) {
		t.Errorf("woken at %v", at)
	}
	select {
	case <-late:
		t.Error("a sleeper woke before its time")
	default:
	}
	c.Advance(time.Minute)
	<-late
	if !c.Now().Equal(start.Add(62 * time.Second)) {
		t.Errorf("the clock stands at %v", c.Now())
	}
}
