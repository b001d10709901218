package ingest

import (
	"github.com/prometheus/client_golang/prometheus"

	"laaster/internal/observe"
)

// meters is the writer's own instruments.
type meters struct {
	refused  *prometheus.CounterVec // by table and reason
	notes    prometheus.Counter
	reopened prometheus.Counter
}

func newMeters(to *observe.Metrics) *meters {
	m := &meters{
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "laaster_writes_refused_total",
			Help: "Writes refused since there was no room for them, by table and reason."}, []string{"table", "reason"}),
		notes: prometheus.NewCounter(prometheus.CounterOpts{Name: "laaster_log_notes_dropped_total",
			Help: "Notes, such as fingerprints of the state, that did not get into the log."}),
		reopened: prometheus.NewCounter(prometheus.CounterOpts{Name: "laaster_log_reopened_total",
			Help: "Times that the log was taken back to work after it had stopped."}),
	}
	to.Collect(m.refused)
	to.Collect(m.notes)
	to.Collect(m.reopened)
	return m
}

func (m *meters) refuse(table, reason string) { m.refused.WithLabelValues(table, reason).Inc() }
