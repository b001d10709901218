package node

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"laaster/app"
	"laaster/internal/auth"
	"laaster/internal/push"
	"laaster/internal/signal"
	"laaster/internal/wire"
)

// signalBounds bounds channels: everybody who may be connected can be in one presence, and those who just left with them.
func signalBounds(connections int) signal.Options {
	return signal.Options{MaxRows: max(20_000, 2*connections)}
}

// maySignal says whether p may set rows of a channel.
func (n *Node) maySignal(p auth.Principal, channel string) *wire.Problem {
	return n.rules.Allow(p, channel, app.Insert)
}

// signalsOr answers requests to channels, and has writes to tables answered by writes.
func (n *Node) signalsOr(writes http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if n.hub.Channel(q.PathValue("table")) {
			n.hub.ServeSignals(w, q)
			return
		}
		writes.ServeHTTP(w, q)
	})
}

// signalCollector reports what is in channels when metrics are scraped.
type signalCollector struct {
	hub                *push.Hub
	rows, bytes, feeds *prometheus.Desc
	senders, outcomes  *prometheus.Desc
}

func newSignalCollector(hub *push.Hub) *signalCollector {
	return &signalCollector{hub: hub,
		rows:     prometheus.NewDesc("laaster_signal_rows", "Rows of channels and presence.", nil, nil),
		bytes:    prometheus.NewDesc("laaster_signal_bytes", "Memory of channels and presence and of what is kept for those who follow them.", nil, nil),
		feeds:    prometheus.NewDesc("laaster_signal_feeds", "Different queries of channels that are followed.", nil, nil),
		senders:  prometheus.NewDesc("laaster_signal_senders", "Connections that have sent signals.", nil, nil),
		outcomes: prometheus.NewDesc("laaster_signals_total", "Signals by outcome: set; cleared, also with their connection; expired; held back beyond the rate; merged of those, replaced by a newer one; evicted by a change of the app.", []string{"outcome"}, nil)}
}

// Describe implements prometheus.Collector.
func (c *signalCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.rows, c.bytes, c.feeds, c.senders, c.outcomes} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *signalCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.hub.Signals()
	for _, g := range []struct {
		desc  *prometheus.Desc
		value int
	}{{c.rows, s.Rows}, {c.bytes, s.Bytes}, {c.feeds, s.Feeds}, {c.senders, s.Senders}} {
		ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, float64(g.value))
	}
	for outcome, n := range map[string]int64{"set": s.Set, "cleared": s.Cleared, "expired": s.Expired, "held": s.Held, "merged": s.Merged, "evicted": s.Evicted} {
		ch <- prometheus.MustNewConstMetric(c.outcomes, prometheus.CounterValue, float64(n), outcome)
	}
}
