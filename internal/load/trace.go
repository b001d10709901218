package load

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Arrival is one line of a trace: so many changes came at a moment.
type Arrival struct {
	AtMS float64 `json:"at_ms"` // milliseconds since the beginning, ascending, from 0
	Rows int     `json:"rows"`  // how many, from 1 to 10,000; left out: 1
}

// maxArrivals bounds a trace.
const maxArrivals = 5_000_000

// ReadTrace reads a trace: one JSON object a line. An error names the line.
func ReadTrace(r io.Reader) ([]Arrival, error) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, 64<<10)
	var out []Arrival
	last := 0.0
	for line := 1; in.Scan(); line++ {
		if len(in.Bytes()) == 0 {
			continue
		}
		a := Arrival{Rows: 1}
		if err := json.Unmarshal(in.Bytes(), &a); err != nil {
			return nil, fmt.Errorf(`line %d of the trace is not as {"at_ms":12.5,"rows":3}: %w`, line, err)
		}
		switch {
		case !(a.AtMS >= last) || a.AtMS > 24*3600e3:
			return nil, fmt.Errorf("line %d of the trace: at_ms is %v: it must be from 0 to a day and not before the line above (%v)", line, a.AtMS, last)
		case a.Rows < 1 || a.Rows > 10_000:
			return nil, fmt.Errorf("line %d of the trace: rows is %d: it must be from 1 to 10000", line, a.Rows)
		case len(out) == maxArrivals:
			return nil, fmt.Errorf("the trace has more than %d lines: cut it", maxArrivals)
		}
		last = a.AtMS
		out = append(out, a)
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("the trace cannot be read: %w", err)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf(`the trace is empty: it has a line such as {"at_ms":12.5,"rows":3} for each arrival`)
	}
	return out, nil
}

// WriteTrace writes a schedule of requests with so many rows each as a trace.
func WriteTrace(w io.Writer, s Schedule, rows int) error {
	out := bufio.NewWriter(w)
	for _, t := range s {
		fmt.Fprintf(out, `{"at_ms":%g,"rows":%d}`+"\n", float64(t.Microseconds())/1000, rows)
	}
	return out.Flush()
}

// Replay is the schedule of a trace in requests of batch rows, within length: what is left of a request waits for the next arrival, at the last for
// its own.
func Replay(trace []Arrival, batch int, length time.Duration) (Schedule, error) {
	var s Schedule
	rows := 0
	for i, a := range trace {
		at := time.Duration(a.AtMS * float64(time.Millisecond))
		if at >= length {
			break
		}
		for rows += a.Rows; rows >= batch || rows > 0 && i == len(trace)-1; rows -= batch {
			if len(s) == maxRequests {
				return nil, fmt.Errorf("the trace makes more than %d requests: raise the batch", maxRequests)
			}
			s = append(s, at)
		}
	}
	if len(s) == 0 {
		return nil, fmt.Errorf("the trace has no %d rows within %s: lower the batch or lengthen the time", batch, length)
	}
	return s, nil
}
