// Package observe holds the instruments: metrics on every hop and the structured log. It may drop, it never blocks, and no
// label takes a value that a caller chose (a bounded set of series).
//
// The latency budget is five stamps on the way of an event: received (the request is read and checked), logged (durable),
// applied (every view has it), sent (the first frame that carries it is written) and shown (a screen reports it). Each is a
// histogram of seconds since the request arrived, observed once per batch with the oldest request in it; shown counts from
// the log's time, on a clock that the client aligned.
package observe

import (
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Stamp is a place on the way of an event.
type Stamp int

// The stamps, in the order of the way.
const (
	Received Stamp = iota
	Logged
	Applied
	Sent
	Shown
	stamps
)

// Metrics is every instrument of one node. Create with NewMetrics; safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	stamp    [stamps]prometheus.Observer

	Requests    *prometheus.CounterVec // writes by table and outcome (accepted, duplicate, rejected), counted in rows
	Refused     *prometheus.CounterVec // problems answered, by code
	Shunned     prometheus.Counter     // seconds in which an address had no answer to new connections
	Batches     prometheus.Counter     // record batches appended
	BatchBytes  prometheus.Counter     // their bytes
	BatchRows   prometheus.Histogram   // records per batch
	AppendTime  prometheus.Histogram   // seconds of one append
	ApplyTime   prometheus.Histogram   // seconds of one batch in the engine
	Frames      prometheus.Counter     // frames written to clients
	FrameBytes  prometheus.Counter     // their bytes
	Conflated   prometheus.Counter     // runs of epochs merged for a client that was behind
	Gaps        prometheus.Counter     // clients that were told that history is gone
	SlowClients prometheus.Counter     // clients closed because they never read
	Lowered     prometheus.Counter     // times that a client was given fewer frames, since its line did not carry all
}

// NewMetrics returns instruments on a registry of their own, with Go's and the process's collectors.
func NewMetrics() *Metrics {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m := &Metrics{
		registry: r,
		Requests: counterVec("laaster_rows_total", "Rows written, by table and outcome.", "table", "outcome"),
		Refused:  counterVec("laaster_refused_total", "Requests and frames answered with a problem, by code.", "code"),
		Shunned:  counter("laaster_shunned_total", "Times that an address had no answer to new connections for a second, since it opened too many."),
		Batches:  counter("laaster_log_batches_total", "Record batches appended to the log."),
		BatchBytes: counter("laaster_log_bytes_total",
			"Bytes of the record batches appended to the log."),
		BatchRows: histogram("laaster_log_batch_rows", "Records per batch.", prometheus.ExponentialBuckets(1, 4, 9)),
		AppendTime: histogram("laaster_log_append_seconds",
			"Time of one append, until the log acknowledged it.", latencyBuckets()),
		ApplyTime:  histogram("laaster_engine_apply_seconds", "Time of one batch in the engine.", latencyBuckets()),
		Frames:     counter("laaster_push_frames_total", "Frames written to live clients."),
		FrameBytes: counter("laaster_push_bytes_total", "Bytes of the frames written to live clients."),
		Conflated: counter("laaster_push_conflated_total",
			"Times that a client behind was given the merged changes instead of each run."),
		Gaps:        counter("laaster_push_gaps_total", "Resumes answered with gap: the history asked for is gone."),
		SlowClients: counter("laaster_push_slow_closed_total", "Clients closed because they did not read."),
		Lowered:     counter("laaster_push_lowered_total", "Times that a client was given fewer frames, since its line did not carry all."),
	}
	r.MustRegister(m.Requests, m.Refused, m.Shunned, m.Batches, m.BatchBytes, m.BatchRows, m.AppendTime, m.ApplyTime, m.Frames, m.FrameBytes,
		m.Conflated, m.Gaps, m.SlowClients, m.Lowered)
	delay := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "laaster_delay_seconds",
		Help: "Time since the request arrived until its events were received, logged, applied, sent, shown.", Buckets: latencyBuckets()},
		[]string{"stamp"})
	r.MustRegister(delay)
	for i, name := range []string{"received", "logged", "applied", "sent", "shown"} {
		m.stamp[i] = delay.WithLabelValues(name)
	}
	return m
}

// Stamp observes that an event reached s after so many seconds.
func (m *Metrics) Stamp(s Stamp, seconds float64) { m.stamp[s].Observe(seconds) }

// Appended observes one batch that the log acknowledged: its records and bytes, the time of the append, and the time since its
// oldest request arrived.
func (m *Metrics) Appended(records uint32, bytes int, took, since time.Duration) {
	m.Batches.Inc()
	m.BatchBytes.Add(float64(bytes))
	m.BatchRows.Observe(float64(records))
	m.AppendTime.Observe(took.Seconds())
	m.Stamp(Logged, since.Seconds())
}

// Gauge registers a gauge that is read when metrics are scraped. f must be safe for concurrent use and quick.
func (m *Metrics) Gauge(name, help string, f func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
}

// Collect registers another collector: a room that has a family with labels of its own.
func (m *Metrics) Collect(c prometheus.Collector) { m.registry.MustRegister(c) }

// Handler serves /metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

func counterVec(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func histogram(name, help string, buckets []float64) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
}

// latencyBuckets runs from 50 µs to 13 s in steps of two: fine where the product's promise lies.
func latencyBuckets() []float64 { return prometheus.ExponentialBuckets(50e-6, 2, 19) }

// NewLogger returns the structured log: JSON lines on w, from level up.
func NewLogger(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
}
