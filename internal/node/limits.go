package node

import (
	"context"
	"encoding/json"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"laaster/internal/auth"
	"laaster/internal/limit"
	"laaster/internal/wire"
)

// openLimits makes what bounds callers. Tables' own rates come with the definition.
func (n *Node) openLimits() {
	s := &n.opt.Settings
	n.limits = limit.New(limit.Options{Clock: n.opt.Clock, Rates: s.Limits.Rates, Abuse: s.Limits.Abuse, Exempt: s.Exempted(), Cut: n.cut, Slowed: n.slowed})
	n.metrics.Collect(limitCollector{n.limits, limitDescs()})
}

// cut records that a caller is not answered for a while.
func (n *Node) cut(p auth.Principal, fault limit.Fault, until time.Time, skipped int) {
	n.opt.Logger.Warn("a caller is cut for a while", "caller", limit.Describe(p), "fault", fault.String(), "until", until, "others_not_told", skipped)
	record := n.act(p.Subject, p.Role, "cut", limit.Describe(p), "done")
	record.Details, _ = json.Marshal(map[string]any{"fault": fault.String(), "until": until.UTC().Format(time.RFC3339), "others": skipped}) // of plain values
	n.told(record)
}

// slowed records that a caller is answered a few times a second only, for its faults, or that an address opens sockets too fast.
func (n *Node) slowed(p auth.Principal, why string, skipped int) {
	n.opt.Logger.Warn("a caller is slowed", "caller", limit.Describe(p), "for", why, "others_not_told", skipped)
	record := n.act(p.Subject, p.Role, "slow", limit.Describe(p), "done")
	record.Details, _ = json.Marshal(map[string]any{"for": why, "others": skipped}) // of plain values
	n.told(record)
}

// late has new connections wait that come from an address that is cut. They are not refused: a token may come on one.
func (n *Node) late(c net.Conn) time.Duration {
	from := auth.Anonymous()
	if from.From = addressOf(c); n.limits.Cut(from) == nil {
		return 0
	}
	return mostLinger * time.Millisecond
}

// distrust counts a token that is not genuine, for the address that it came from: whoever it names has not sent it. One that has expired was genuine.
// It returns what to answer: what is wrong with the token, or that too much came from there.
func (n *Node) distrust(from auth.Principal, problem *wire.Problem) *wire.Problem {
	if n.limits == nil || problem.Code != wire.Unauthenticated {
		return problem
	}
	p := auth.Anonymous()
	p.From = from.From
	n.limits.Fault(p, limit.BadToken)
	if refused := n.limits.Ask(p, 0); refused != nil {
		return refused
	}
	return problem
}

// lingering returns p, for a caller who is beyond a rate after a part of the time that is told: who tries token after token gets few answers on a connection.
func (n *Node) lingering(ctx context.Context, p *wire.Problem) *wire.Problem {
	if wait := min(p.RetryAfterMS/10, mostLinger); wait > 0 && p.Code == wire.RateLimited {
		select {
		case <-n.opt.Clock.After(time.Duration(wait) * time.Millisecond):
		case <-ctx.Done():
		case <-n.leaving.Done():
		}
	}
	return p
}

// mostLinger is the longest that an answer to somebody beyond a rate takes, in milliseconds.
const mostLinger = 100

// limitCollector reports the limits when metrics are scraped.
type limitCollector struct {
	guard *limit.Guard
	desc  map[string]*prometheus.Desc
}

func limitDescs() map[string]*prometheus.Desc {
	return map[string]*prometheus.Desc{
		"limited": prometheus.NewDesc("laaster_limited_total", "Requests, frames and connections beyond a rate, by whose rate it is and what it counts.",
			[]string{"level", "measure"}, nil),
		"faults":  prometheus.NewDesc("laaster_faults_total", "What counts as abuse, by kind.", []string{"fault"}, nil),
		"cuts":    prometheus.NewDesc("laaster_cuts_total", "Callers that were cut for a while.", nil, nil),
		"slowed":  prometheus.NewDesc("laaster_slowed_total", "Requests and frames of callers with many faults that came too fast.", nil, nil),
		"bytes":   prometheus.NewDesc("laaster_limit_bytes", "Memory of the tables of callers.", nil, nil),
		"callers": prometheus.NewDesc("laaster_limit_keys", "Places in the tables of callers that are taken.", nil, nil),
		"evicted": prometheus.NewDesc("laaster_limit_evicted_total", "Places in the tables of callers that changed hands before their time.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (c limitCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.desc {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c limitCollector) Collect(ch chan<- prometheus.Metric) {
	for _, x := range c.guard.Counts() {
		var labels []string
		switch x.Name {
		case "limited":
			labels = x.Labels[:]
		case "faults":
			labels = x.Labels[:1]
		}
		ch <- prometheus.MustNewConstMetric(c.desc[x.Name], prometheus.CounterValue, float64(x.N), labels...)
	}
	keys, bytes, evicted := c.guard.Size()
	ch <- prometheus.MustNewConstMetric(c.desc["callers"], prometheus.GaugeValue, float64(keys))
	ch <- prometheus.MustNewConstMetric(c.desc["bytes"], prometheus.GaugeValue, float64(bytes))
	ch <- prometheus.MustNewConstMetric(c.desc["evicted"], prometheus.CounterValue, float64(evicted))
}
