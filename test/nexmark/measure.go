package nexmark

import (
	"fmt"
	"syscall"
	"time"

	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// Result is what one measurement found.
type Result struct {
	Events  int
	Changes int           // rows that the view changed by
	Bytes   int           // that they take as JSON
	CPU     time.Duration // of the process, collector included
	State   int           // bytes that the engine held at the end
}

// PerSecond returns events per second of CPU time.
func (r Result) PerSecond() float64 { return float64(r.Events) / r.CPU.Seconds() }

// Measure runs a program made from [App] in this process over so many events at 10,000 events per second of event time, in batches of
// so many rows, after the engine has seen as many events to warm up as warm says. What goes in are the log's binary rows; what comes out is
// encoded as the JSON that screens get, and counted. Making the events is not counted.
func Measure(p *flow.Program, warm, events, batch int) (Result, error) {
	e, err := flow.New(p, flow.Options{})
	if err != nil {
		return Result{}, err
	}
	enc, gen := NewEncoder(p), New(Options{Seed: 1})
	s := newSink(p.Relations[p.Views[0].Relation])
	for _, b := range []change.Batch{enc.Definition(p), enc.Side()} {
		if _, err := e.Apply(&b); err != nil {
			return Result{}, err
		}
	}
	const chunk = 200_000 // events that are made ahead
	var res Result
	var ev Event
	for n := 0; n < warm+events; {
		var made []change.Batch
		first := n
		end := min(n+chunk, warm+events)
		if n < warm {
			end = min(end, warm)
		}
		for n < end {
			for range min(batch, end-n) {
				gen.Event(uint64(n), &ev)
				enc.Add(&ev, ev.Time)
				n++
			}
			made = append(made, enc.Batch(ev.Time))
		}
		start := cpu()
		for i := range made {
			epoch, err := e.Apply(&made[i])
			if err != nil {
				return res, fmt.Errorf("event %d: %w", first, err)
			}
			s.take(epoch)
		}
		if first >= warm {
			res.CPU += cpu() - start
			res.Events += n - first
		} else {
			s.changes, s.bytes = 0, 0
		}
	}
	res.Changes, res.Bytes, res.State = s.changes, s.bytes, e.Stats().Bytes
	return res, nil
}

// sink encodes what a view changes by and counts it.
type sink struct {
	rel            *expr.Relation
	names          []string // of the columns, each with what stands before it and the colon
	buf            []byte
	changes, bytes int
}

func newSink(rel *expr.Relation) *sink {
	s := &sink{rel: rel}
	for i, c := range rel.Columns {
		s.names = append(s.names, string(",{"[max(0, 1-i)])+`"`+c.Name+`":`)
	}
	return s
}

func (s *sink) take(e *change.Epoch) {
	for i := range e.Deltas {
		if e.Deltas[i].Relation != s.rel.ID {
			continue
		}
		for _, c := range e.Deltas[i].Changes {
			row := c.New
			if row == nil {
				row = c.Old
			}
			s.buf = s.buf[:0]
			for j, name := range s.names {
				s.buf = expr.AppendJSON(append(s.buf, name...), s.rel.Columns[j].Type, s.rel.Layout.Get(row, j), false)
			}
			s.buf = append(s.buf, '}')
			s.changes++
			s.bytes += len(s.buf)
		}
	}
}

// cpu is what the process has used, on all processors: the figure to trust on a machine that does other things too.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
