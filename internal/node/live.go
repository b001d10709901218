package node

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/flow"
	"laaster/internal/ingest"
	"laaster/internal/observe"
	"laaster/internal/push"
	"laaster/internal/wire"
)

// mergeWindow is how long a busy hub collects epochs for one frame. The protocol promises that nothing waits longer than 10 ms; the
// rest of that is for encoding the frame and writing it to everybody.
const mergeWindow = 8 * time.Millisecond

// mergeFactor bounds what writing to screens may cost: a pass over all of them is at most one part in seventeen of the hub's time, and
// a few screens do not wait for a window that many would need.
const mergeFactor = 16

// openHub makes the read half of the public surface.
func (n *Node) openHub() error {
	limits := &n.opt.Settings.Limits
	n.watch(n.program.Load().Definition)
	opening := limits.AddressSockets
	if n.opt.Settings.PlainHTTP { // the address is a proxy's
		opening = 0
	}
	var err error
	n.hub, err = push.NewHub(context.WithoutCancel(n.group.Context()), push.Options{
		Store: n.store, Log: n.shard.ID(), Shard: n.shard.Number(), Clock: n.opt.Clock, Floor: n.floor, Metrics: n.metrics, Logger: n.opt.Logger,
		Rules: rulesOf(n.program.Load()), Access: n.accessed, Recorded: func(relation string) bool { return (*n.watched.Load())[relation] },
		Limiter: n.limits, Channels: n.program.Load().Channels, Signal: n.maySignal, Signals: signalBounds(limits.Connections),
		Principal: n.principal, Identify: n.bearer, Ended: n.callers.verifier.Ended, Revised: n.callers.verifier.Revocations.Revised, Again: n.callers.verifier.Again, RequestID: requestID, Answer: n.problems.answer, Writer: liveWriter{n}, Sent: n.sent, History: n.newHistory(),
		MaxConnections: limits.Connections, EachOpening: opening, Merge: mergeWindow, MergeFactor: mergeFactor,
		ReadTime: time.Duration(limits.ReadTime), SortEach: int(limits.ReadMemory), SortBytes: max(64<<20, int(limits.ReadMemory)),
		Limits: wire.Limits{FrameBytes: int(limits.Frame), Subscriptions: limits.Subscriptions, RowBytes: int(limits.Row),
			DedupeSeconds: int(time.Duration(limits.DedupeWindow).Seconds())},
	})
	return err
}

// sent observes the stamp of the epochs that were just written to the screens that are current.
func (n *Node) sent(from, to uint64) {
	if at, ok := n.received.oldest(from, to); ok {
		n.metrics.Stamp(observe.Sent, n.opt.Clock.Now().Sub(at).Seconds())
	}
}

// routeReads adds the reads and the live connections to the public routes.
func (n *Node) routeReads(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/views/{view}", n.ticketed(n.hub.ServeView))
	mux.HandleFunc("GET /v1/live", n.hub.ServeLive)
	mux.HandleFunc("GET /errors/{code}", n.explain)
}

// explain says in words what the type of a problem means, so that the link in an answer leads somewhere.
func (n *Node) explain(w http.ResponseWriter, q *http.Request) {
	for _, c := range wire.Codes() {
		if string(c.Code) == q.PathValue("code") {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			fmt.Fprintf(w, "%s: %s\nHTTP status %d, retry: %s\n", c.Code, c.Title, c.Status, c.Retry)
			return
		}
	}
	n.problems.answer(w, q, wire.NewProblem(wire.NotFound, "there is no error code "+q.PathValue("code")))
}

// liveWriter turns write frames into writes at the door.
type liveWriter struct{ n *Node }

// Write implements push.Writer.
func (w liveWriter) Write(ctx context.Context, p auth.Principal, f *wire.WriteFrame) (*wire.WriteResult, *wire.Problem) {
	r := &ingest.Request{Table: f.Table, Rows: f.Rows, Filter: f.Filter, Key: f.Key, Producer: f.Producer, Sequence: f.Sequence, Atomic: f.Atomic, ID: newID(),
		Received: w.n.opt.Clock.Now()}
	switch {
	case f.Delete:
		r.Op = change.OpDelete
	case f.Patch != nil:
		r.Op, r.Rows = change.OpUpdate, f.Patch
	default:
		switch f.OnConflict {
		case "":
			r.Op = change.OpInsert
		case "merge":
			r.Op = change.OpMerge
		case "ignore":
			r.Op = change.OpIgnore
		default:
			return nil, wire.NewProblem(wire.InvalidRequest, "on_conflict is not known").WithField("on_conflict", "it is merge or ignore")
		}
	}
	switch f.Ack {
	case "", "applied":
	case "logged":
		r.Early = true
	default:
		return nil, wire.NewProblem(wire.InvalidRequest, "ack is not known").WithField("ack", "it is applied or logged")
	}
	return w.n.door.Write(ctx, p, r)
}

// gauges registers what is read when metrics are scraped.
func (n *Node) gauges() {
	n.metrics.Gauge("laaster_pending_bytes", "Bytes of writes that wait for the log or the engine.", func() float64 { return float64(n.writer.Held()) })
	n.metrics.Gauge("laaster_log_position", "Sequence of the last durable batch.", func() float64 { return float64(n.shard.Head()) })
	n.metrics.Gauge("laaster_applied_position", "Sequence that every view has reached.", func() float64 { return float64(n.applied.Load()) })
	n.metrics.Gauge("laaster_lag_batches", "Durable batches that the engine has not applied yet.", func() float64 {
		return float64(n.shard.Head()) - float64(min(n.applied.Load(), n.shard.Head()))
	})
	n.metrics.Gauge("laaster_remembered_bytes", "Bytes held to recognise repeated ids and idempotency keys.", func() float64 {
		return float64(n.remembered.Load())
	})
	n.metrics.Gauge("laaster_log_first_position", "Sequence of the oldest batch that is kept.", func() float64 { return float64(n.shard.First()) })
	n.metrics.Gauge("laaster_checkpoint_position", "Sequence of the newest checkpoint; 0: there is none.", func() float64 { return float64(n.kept.seq.Load()) })
	n.metrics.Gauge("laaster_checkpoint_pause_seconds", "How long the engine stood still for the newest checkpoint.", func() float64 {
		return time.Duration(n.kept.pause.Load()).Seconds()
	})
	n.metrics.Gauge("laaster_checkpoint_seconds", "How long the newest checkpoint took to write.", func() float64 {
		return time.Duration(n.kept.took.Load()).Seconds()
	})
	n.metrics.Gauge("laaster_checkpoint_failures", "Checkpoints that could not be written since the start.", func() float64 { return float64(n.kept.failed.Load()) })
	n.metrics.Gauge("laaster_checkpoint_copy_position", "Sequence of the second copy; 0: none was made since the start.", func() float64 {
		return float64(n.kept.copied.Load())
	})
	n.metrics.Gauge("laaster_resident_bytes", "Bytes of state and rows in memory, as of the newest checkpoint.", func() float64 { return float64(n.resident.Load()) })
	n.metrics.Gauge("laaster_degraded", "How many things do not work as they should; /readyz names them.", func() float64 { return float64(len(n.degraded.list())) })
	if n.guard != nil {
		n.metrics.Gauge("laaster_disk_free_bytes", "Free space of the disk that holds the data folder.", func() float64 { _, free := n.guard.Check(); return float64(free) })
	}
	n.metrics.Collect(newEngineCollector(n))
	n.metrics.Collect(newSignalCollector(n.hub))
	total := func(name, help string, f func() int64) {
		n.metrics.Collect(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(f()) }))
	}
	total("laaster_log_resumes_total", "Subscriptions that the log began to bring up, beyond the ring.", func() int64 { begun, _ := n.hub.Resumes(); return begun })
	total("laaster_log_resumes_failed_total", "Of these: ended with a gap.", func() int64 { _, failed := n.hub.Resumes(); return failed })
	n.metrics.Gauge("laaster_revocations", "Revocations of tokens that hold.", func() float64 { return float64(n.callers.verifier.Revocations.Len()) })
	n.metrics.Gauge("laaster_connections", "Live connections, WebSocket and SSE.", func() float64 { return float64(n.hub.Connections()) })
}

// engineCollector reports each view's rows, state and failing rows when metrics are scraped. The engine loop answers it
// between two batches; when that takes longer than a second, the scrape goes without.
type engineCollector struct {
	n                            *Node
	rows, bytes, errors, stopped *prometheus.Desc
	late, tableLate              *prometheus.Desc
}

func newEngineCollector(n *Node) *engineCollector {
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, []string{"view"}, nil) }
	return &engineCollector{n: n, rows: desc("laaster_view_rows", "Rows of a view."),
		bytes:     desc("laaster_view_state_bytes", "Memory of a view's operators in the engine."),
		errors:    desc("laaster_view_errors", "Rows and groups missing from a view because an expression fails on them."),
		stopped:   desc("laaster_view_stopped", "1 when a view has stopped at a limit: its rows stay as they are."),
		late:      desc("laaster_view_late_rows", "Rows missing from a view because they came behind the watermark."),
		tableLate: prometheus.NewDesc("laaster_table_late_rows", "Rows of a table that were behind its watermark when they came.", []string{"table"}, nil)}
}

// Describe implements prometheus.Collector.
func (c *engineCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.rows, c.bytes, c.errors, c.stopped, c.late, c.tableLate} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *engineCollector) Collect(ch chan<- prometheus.Metric) {
	reply, late := make(chan flow.Stats, 1), c.n.opt.Clock.After(time.Second)
	select {
	case c.n.ask <- func() { reply <- c.n.engine.Stats() }:
	case <-c.n.ended:
		return
	case <-late:
		return
	}
	s := <-reply
	for _, v := range s.Views {
		ch <- prometheus.MustNewConstMetric(c.rows, prometheus.GaugeValue, float64(v.Rows), v.Name)
		ch <- prometheus.MustNewConstMetric(c.bytes, prometheus.GaugeValue, float64(v.Bytes), v.Name)
		ch <- prometheus.MustNewConstMetric(c.errors, prometheus.GaugeValue, float64(v.Errors), v.Name)
		ch <- prometheus.MustNewConstMetric(c.late, prometheus.GaugeValue, float64(v.Late), v.Name)
		stopped := 0.0
		if v.Stopped != "" {
			stopped = 1
		}
		ch <- prometheus.MustNewConstMetric(c.stopped, prometheus.GaugeValue, stopped, v.Name)
	}
	for _, t := range s.Tables {
		ch <- prometheus.MustNewConstMetric(c.tableLate, prometheus.GaugeValue, float64(t.Late), t.Name)
	}
}
