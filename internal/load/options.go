package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"laaster/internal/kit/run"
)

// Options of a run. URL and Profile are needed; what is zero has the profile's default, see [Defaults].
type Options struct {
	Profile string
	URL     string // the server's public listener
	PID     int    // the server's process, when it is on this machine; 0: nothing is said of its processor time and memory
	Version string // of the program that measures, for the report

	Clients  int           // live connections
	Slow     int           // of the profile slow: those that read slowly, beside Clients
	LineRate int           // bytes a second that a slow one reads
	Rows     int           // rows of the view
	Changing int           // of the profile channels: so many of the rows change, and the clients of the others must see nothing; 0: all
	RowBytes int           // size of a row as JSON
	Rate     float64       // changes a second (of ingest: rows)
	Rates    []float64     // of the profile ingest: one after the other, in place of Rate
	To       float64       // ramps up to this rate; 0: no ramp
	Burst    Bursts        // zero: none
	Trace    []Arrival     // in place of rates
	Batch    int           // changes in one request
	Conns    int           // connections that write
	Over     string        // OverHTTP or OverWS: how changes are written
	Watch    string        // OverWS or OverEvents: how clients follow
	Length   time.Duration // of the load
	Warm     time.Duration // at the beginning of it, not counted
	Saturate bool          // of the profile fanout: as fast as answers come, every change delivered
	Every    bool          // clients ask for every change: nothing is merged
	Rounds   int           // of the profiles storm and slow
	Missed   int           // of the profile storm: changes that pass while the clients are cut
	Loops    int           // event loops of the clients
	Window   int           // clients that connect at one time

	// Token returns what a client brings: writers have the id -1. With it the app is that of [RulesSQL]. Default: nobody brings a token.
	Token func(id int) string
	// TLS is used towards an https:// server. Default: the system's authorities are trusted.
	TLS *tls.Config

	Clock run.Clock // default run.System
	// Schedule is told when requests are due and how many changes each has, before the first one leaves. Default: nobody is told.
	Schedule func(s Schedule, rows int) error
	// Counting is called when the warm-up is over, for as long as is counted; the run waits until it returns. Default: nothing.
	Counting func(ctx context.Context, length time.Duration) error
	Progress func(Progress) // called about four times a second; default: nobody is told
}

// Bursts are times as many changes for On of each Every.
type Bursts struct {
	Times     float64
	On, Every time.Duration
}

// Progress is where a run is.
type Progress struct {
	Phase          string
	Elapsed, Whole time.Duration // Whole 0: not known
	Live           int64
	Sent           float64 // changes a second
	Delivered      float64 // changes on screens a second
	P99            float64 // ms
	CPU            float64 // of the server, cores
}

// maxRate bounds the changes of a second.
const maxRate = 10_000_000

// Profiles returns the names of the profiles, in the order in which a help lists them.
func Profiles() []string {
	return []string{"idle", "fanout", "channels", "storm", "slow", "ingest"}
}

// Defaults fills what is zero with the defaults of the profile, and refuses what cannot be.
func Defaults(o *Options) error {
	d, ok := map[string]Options{
		"idle":     {Clients: 10_000, Rows: 10, Length: time.Minute, Rate: 0, Window: 256},
		"fanout":   {Clients: 1000, Rows: 64, Rate: 50, Batch: 1, Conns: 8, Length: 20 * time.Second, Warm: 2 * time.Second},
		"channels": {Clients: 1000, Rate: 20_000, Batch: 100, Conns: 8, Length: 20 * time.Second, Warm: 2 * time.Second},
		"storm":    {Clients: 5000, Rows: 64, Rate: 10, Batch: 1, Conns: 4, Length: 3 * time.Second, Rounds: 3, Missed: 20, Window: 512},
		"slow": {Clients: 1000, Slow: 100, LineRate: 2048, Rows: 10, Rate: 50, Batch: 1, Conns: 5, Length: 12 * time.Second,
			Warm: 2 * time.Second, Rounds: 5},
		"ingest": {Clients: 10, Rows: 1000, Rates: []float64{10_000, 50_000, 100_000, 200_000}, Batch: 500, Conns: 32, Length: 10 * time.Second,
			Warm: 2 * time.Second},
	}[o.Profile]
	if !ok {
		return fmt.Errorf("there is no profile %q: profiles are %v", o.Profile, Profiles())
	}
	if err := o.fits(); err != nil {
		return err
	}
	if o.Saturate {
		d.Batch, d.Conns, o.Every = 1, 32, true
	}
	if o.Profile == "channels" && o.Clients > 0 { // a row each, and a request changes a row once
		d.Batch = min(d.Batch, o.Clients)
	}
	if o.Changing > 0 {
		d.Batch = min(d.Batch, o.Changing)
	}
	for _, f := range []struct{ to, from *int }{{&o.Clients, &d.Clients}, {&o.Slow, &d.Slow}, {&o.LineRate, &d.LineRate}, {&o.Rows, &d.Rows},
		{&o.Batch, &d.Batch},
		{&o.Conns, &d.Conns}, {&o.Rounds, &d.Rounds}, {&o.Missed, &d.Missed}, {&o.Window, &d.Window}} {
		if *f.to == 0 {
			*f.to = *f.from
		}
	}
	for _, f := range []struct{ to, from *time.Duration }{{&o.Length, &d.Length}, {&o.Warm, &d.Warm}} {
		if *f.to == 0 {
			*f.to = *f.from
		}
	}
	if o.Rate == 0 {
		o.Rate = d.Rate
	}
	if len(o.Rates) == 0 && o.Rate == 0 {
		o.Rates = d.Rates
	}
	for _, r := range o.Rates {
		if !(r > 0) || r > maxRate {
			return fmt.Errorf("one of rates is %v: it must be above 0 and at most %d", r, maxRate)
		}
	}
	if o.Counting == nil {
		o.Counting = func(context.Context, time.Duration) error { return nil }
	}
	if o.Rows == 0 { // channels: a row each
		o.Rows = o.Clients
	}
	if o.RowBytes == 0 {
		o.RowBytes = 200
	}
	if o.Over == "" {
		o.Over = OverHTTP
	}
	if o.Watch == "" {
		o.Watch = OverWS
	}
	if o.Clock == nil {
		o.Clock = run.System{}
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	o.Warm = min(o.Warm, o.Length/2)
	return o.validate()
}

// fits refuses what the profile would not look at.
func (o *Options) fits() error {
	scheduled, busy := []string{"fanout", "channels", "ingest"}, []string{"fanout", "channels", "storm", "slow", "ingest"}
	for _, f := range []struct {
		given bool
		name  string
		of    []string
	}{
		{o.Saturate, "saturate", []string{"fanout"}}, {o.Slow != 0, "slow", []string{"slow"}}, {o.Changing != 0, "changing", []string{"channels"}}, {o.LineRate != 0, "line-rate",
			[]string{"slow"}}, {len(o.Rates) > 0, "rates", []string{"ingest"}},
		{o.Rounds != 0, "rounds", []string{"storm", "slow"}}, {o.Missed != 0, "missed", []string{"storm"}}, {o.To != 0, "to",
			scheduled}, {o.Burst != Bursts{}, "burst", scheduled},
		{len(o.Trace) > 0, "trace", scheduled}, {o.Schedule != nil, "record", scheduled}, {o.Every, "every", []string{"fanout", "channels", "storm", "slow"}},
		{o.Rows != 0, "rows", []string{"idle", "fanout", "channels", "storm", "slow"}}, {o.RowBytes != 0, "row-bytes", []string{"idle", "fanout", "channels",
			"storm", "slow"}},
		{o.Batch != 0, "batch", busy}, {o.Conns != 0, "conns", busy}, {o.Over != "", "over", busy}, {o.Watch != "", "watch", []string{"idle",
			"fanout", "channels", "storm", "slow"}}, {o.Warm != 0, "warm", []string{"fanout", "channels", "slow", "ingest"}},
		{o.Rate != 0, "rate", busy},
	} {
		if f.given && !slices.Contains(f.of, o.Profile) {
			return fmt.Errorf("%s has no meaning for the profile %s: it belongs to %s", f.name, o.Profile, strings.Join(f.of, ", "))
		}
	}
	ways := 0
	for _, given := range []bool{o.Saturate, o.To != 0, o.Burst != Bursts{}, len(o.Trace) > 0} {
		if given {
			ways++
		}
	}
	if ways > 1 {
		return errors.New("saturate, to, burst and trace each say when changes come: give one of them")
	}
	if len(o.Rates) > 0 && o.Rate != 0 {
		return errors.New("rate is one rate and rates are several: give one of them")
	}
	return nil
}

func (o *Options) validate() error {
	for _, f := range []struct {
		name     string
		value    int
		from, to int
	}{{"clients", o.Clients, 1, 1_000_000}, {"slow", o.Slow, 0, 100_000}, {"rows", o.Rows, 1, 1_000_000}, {"batch", o.Batch, 0, 10_000}, {"conns",
		o.Conns, 0, 1000},
		{"row-bytes", o.RowBytes, 40, 200_000}, {"rounds", o.Rounds, 0, 1000}, {"line-rate", o.LineRate, 0, 1 << 30}} {
		if f.value < f.from || f.value > f.to {
			return fmt.Errorf("%s is %d: it must be from %d to %d", f.name, f.value, f.from, f.to)
		}
	}
	for name, v := range map[string]float64{"rate": o.Rate, "to": o.To} {
		if !(v >= 0) || v > maxRate {
			return fmt.Errorf("%s is %v: it must be from 0 to %d changes a second", name, v, maxRate)
		}
	}
	if o.Length <= 0 || o.Length > 24*time.Hour {
		return fmt.Errorf("time is %s: it must be above 0 and at most 24h", o.Length)
	}
	if o.Changing < 0 || o.Changing > o.Rows {
		return fmt.Errorf("changing is %d: it must be from 1 to the %d rows, one for each client", o.Changing, o.Rows)
	}
	if o.Batch > o.changing() && o.Profile != "ingest" {
		return fmt.Errorf("batch is %d, rows that change are %d: a request changes a row once, so it cannot have more changes than there are such rows", o.Batch, o.changing())
	}
	if o.Over != OverHTTP && o.Over != OverWS {
		return fmt.Errorf("over is %q: it must be %s or %s", o.Over, OverHTTP, OverWS)
	}
	if o.Watch != OverEvents && o.Watch != OverWS {
		return fmt.Errorf("watch is %q: it must be %s or %s", o.Watch, OverWS, OverEvents)
	}
	return nil
}

// changing returns how many rows change.
func (o *Options) changing() int {
	if o.Changing == 0 {
		return o.Rows
	}
	return o.Changing
}
