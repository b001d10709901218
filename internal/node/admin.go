package node

import (
	"encoding/json"
	"net/http"
	"net/http/pprof"

	"laaster/internal/backbone"
)

// Health is what /readyz and /healthz answer.
type Health struct {
	State    string `json:"state"`              // starting, ready, draining or failed
	Reason   string `json:"reason,omitempty"`   // why not ready
	Position string `json:"position,omitempty"` // what every view has reached
	Log      string `json:"log,omitempty"`      // id of the log
	Ack      string `json:"ack,omitempty"`      // what an acknowledgement means: durable, buffered or memory
	Replayed uint64 `json:"replayed"`           // batches that the start has applied, of Batches that were behind its checkpoint
	Batches  uint64 `json:"batches"`
	// Degraded names what does not work as it should while the server goes on; see docs/operating.md.
	Degraded   []Degraded        `json:"degraded,omitempty"`
	Checkpoint *CheckpointHealth `json:"checkpoint,omitempty"` // the newest one; absent: there is none yet
	Lineage    *backbone.Lineage `json:"lineage,omitempty"`    // of which log a repair or a restore made this one; absent: it is nobody's
}

// CheckpointHealth is about the newest checkpoint.
type CheckpointHealth struct {
	Position string `json:"position"`
	At       int64  `json:"at_ms"`    // when it was committed, milliseconds since 1970
	PauseUS  int64  `json:"pause_us"` // how long the engine stood still for it
	TookMS   int64  `json:"took_ms"`  // how long writing it took
}

// adminHandler serves the admin listener: health, readiness, metrics and profiles.
func (n *Node) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", n.metrics.Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		h := n.health()
		n.answerHealth(w, h, h.State != stateFailed)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		h := n.health()
		n.answerHealth(w, h, h.State == stateReady)
	})
	n.routeApp(mux)
	n.routeIdentity(mux)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("Laaster, admin listener\n\n/healthz  is the process well\n/readyz   does it serve\n/metrics  Prometheus\n/v1/app      the running app\n/v1/explain  its views: operators, state, time\n/v1/check, /v1/deploy  POST an app.sql\n/v1/checkpoint  POST: write one now\n/v1/backup   the backup as a stream\n/admin/v1/revoke  POST: take tokens back\n/debug/pprof/\n"))
	})
	return mux
}

func (n *Node) answerHealth(w http.ResponseWriter, h Health, ok bool) {
	w.Header().Set("Content-Type", "application/json")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(h) // the prober may be gone
}
