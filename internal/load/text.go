package load

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
	"time"
)

// String is one line for a terminal.
func (p Progress) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s", p.Phase, p.Elapsed.Round(time.Second))
	if p.Whole > 0 {
		fmt.Fprintf(&b, " of %s", p.Whole)
	}
	if p.Live > 0 {
		fmt.Fprintf(&b, "  %d live", p.Live)
	}
	if p.Sent > 0 {
		fmt.Fprintf(&b, "  %.0f changes/s", p.Sent)
	}
	if p.Delivered > 0 {
		fmt.Fprintf(&b, "  %.0f delivered/s", p.Delivered)
	}
	if p.P99 > 0 {
		fmt.Fprintf(&b, "  p99 %.1f ms", p.P99)
	}
	if p.CPU > 0 {
		fmt.Fprintf(&b, "  server %.0f %%", 100*p.CPU)
	}
	return b.String()
}

// ParseBursts reads TIMES,ON,EVERY, such as 10,1s,5s.
func ParseBursts(s string) (Bursts, error) {
	var b Bursts
	part := strings.Split(s, ",")
	if len(part) != 3 {
		return b, fmt.Errorf("burst is %q: it must be TIMES,ON,EVERY, such as 10,1s,5s", s)
	}
	var err [3]error
	_, err[0] = fmt.Sscanf(part[0], "%g", &b.Times)
	b.On, err[1] = time.ParseDuration(strings.TrimSpace(part[1]))
	b.Every, err[2] = time.ParseDuration(strings.TrimSpace(part[2]))
	for i, e := range err {
		if e != nil {
			return b, fmt.Errorf("burst is %q: %q is no %s: %w", s, part[i], [...]string{"number", "length of time", "length of time"}[i], e)
		}
	}
	if !(b.Times >= 1) || math.IsInf(b.Times, 0) || b.On <= 0 || b.Every <= b.On {
		return b, fmt.Errorf("burst is %q: TIMES must be from 1, ON above 0 and shorter than EVERY", s)
	}
	return b, nil
}

// Text writes the report for a terminal.
func (r *Report) Text(w io.Writer) error {
	fmt.Fprintf(w, "%s: %s\n", r.Profile, r.Summary)
	fmt.Fprintf(w, "%d cores, %s, laaster %s, %s; load and server on the same machine compete for them\n", r.Machine.Cores, r.Machine.OS, r.Version,
		r.Machine.Go)
	if r.Interrupted {
		fmt.Fprintf(w, "ended early, after %.1f s\n", r.Seconds)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t)
	for _, f := range r.Figures {
		note := f.Note
		if f.Target > 0 {
			note = strings.TrimSuffix(map[bool]string{true: "ok", false: "MISSED"}[f.Met()]+", at most "+digits(f.Target)+"; "+note, "; ")
		}
		bare := ""
		if r.compared {
			bare = "\t"
			if f.Bare != 0 {
				bare = "bare " + digits(f.Bare) + "\t"
			}
		}
		fmt.Fprintf(t, "  %s\t%s %s\t%s%s\n", f.Name, digits(f.Value), f.Unit, bare, note)
	}
	for _, x := range r.Tables {
		fmt.Fprintf(t, "\n  %s\n  %s\n", x.Name, strings.Join(x.Columns, "\t"))
		for _, row := range x.Rows {
			for i, v := range row {
				fmt.Fprint(t, map[bool]string{true: "  ", false: "\t"}[i == 0], digits(v))
			}
			fmt.Fprintln(t)
		}
	}
	fmt.Fprintln(t)
	for _, c := range r.Checks {
		fmt.Fprintf(t, "  %s\t%s\t%s\n", c.Name, map[bool]string{true: "ok", false: "FAILED"}[c.OK], c.Detail)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "\n  %s", n)
	}
	for _, e := range r.Errors {
		fmt.Fprintf(w, "\n  error: %s", e)
	}
	if len(r.Notes)+len(r.Errors) > 0 {
		fmt.Fprintln(w)
	}
	return nil
}

// digits prints a number with three digits that matter, and whole from a thousand on.
func digits(v float64) string {
	switch a := math.Abs(v); {
	case v == math.Trunc(v) && a < 1e15, a >= 1000:
		return fmt.Sprintf("%.0f", v)
	case a >= 100:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}
