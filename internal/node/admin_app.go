package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"laaster/internal/flow"
	"laaster/internal/sql"
	"laaster/internal/wire"
)

// maxSource is the longest app.sql that the admin listener reads, in bytes.
const maxSource = 4 << 20

// The content types of an app.sql, alone and with the files that it names (see [Sent]). Browsers send them to other sites only after asking, which the
// admin listener never grants.
const (
	sqlType = "application/sql"
	AppType = "application/vnd.laaster.app+json"
)

// routeApp adds what is about the running app to the admin listener.
func (n *Node) routeApp(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/app", n.ready(n.serveApp))
	mux.HandleFunc("GET /v1/explain", n.ready(n.serveExplain))
	mux.HandleFunc("POST /v1/check", n.ready(n.serveCheck))
	mux.HandleFunc("POST /v1/deploy", n.ready(n.serveDeploy))
	mux.HandleFunc("POST /v1/checkpoint", n.ready(n.serveCheckpoint))
	mux.HandleFunc("GET /v1/backup", n.ready(n.serveBackup))
}

// ready answers busy until the node serves.
func (n *Node) ready(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		if state := n.health().State; state != stateReady {
			p := wire.NewProblem(wire.Busy, "the server is "+state).WithHint("/readyz says how far it is")
			p.RetryAfterMS = 1000
			n.problems.answer(w, q, p)
			return
		}
		h(w, q)
	}
}

// AppInfo is what GET /v1/app of the admin listener answers.
type AppInfo struct {
	Source   string            `json:"source"`          // app.sql
	Files    map[string]string `json:"files,omitempty"` // that it names
	Position string            `json:"position"`        // that every view has reached
	Log      string            `json:"log"`
	// CompleteFrom has the views that lack what was before a position, since they were built when the log before was trimmed.
	CompleteFrom map[string]string `json:"complete_from,omitempty"`
}

func (n *Node) serveApp(w http.ResponseWriter, q *http.Request) {
	info := AppInfo{Source: n.program.Load().Definition.Source, Position: n.position(n.applied.Load()), Log: n.shard.ID().String()}
	if catalog, err := sql.ParseCatalog(n.program.Load().Catalog); err == nil && len(catalog.Files()) > 0 {
		info.Files = catalog.Files()
	}
	if err := n.betweenBatches(func() {
		for view, seq := range n.complete {
			if info.CompleteFrom == nil {
				info.CompleteFrom = map[string]string{}
			}
			info.CompleteFrom[view] = n.position(seq)
		}
	}); err != nil {
		n.problems.answer(w, q, wire.NewProblem(wire.Internal, err.Error()))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(info) // the caller may be gone
}

// Sent is the body of a request with an app whose app.sql names files.
type Sent struct {
	Source string            `json:"source"` // app.sql
	Files  map[string]string `json:"files"`  // texts by the names that it has for them
}

// posted reads the app that a request carries.
func (n *Node) posted(w http.ResponseWriter, q *http.Request) (src Source, ok bool) {
	refuse := func(code wire.Code, status int, detail, hint string) (Source, bool) {
		p := wire.NewProblem(code, detail).WithHint(hint)
		p.Status = status
		n.problems.answer(w, q, p)
		return Source{}, false
	}
	kind, _, _ := strings.Cut(q.Header.Get("Content-Type"), ";")
	if kind = strings.TrimSpace(kind); kind != sqlType && kind != AppType {
		return refuse(wire.InvalidRequest, http.StatusUnsupportedMediaType, "the body must be an app.sql", "send Content-Type: "+sqlType+", or "+AppType+" with the files that it names")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, q.Body, maxSource))
	if err != nil {
		return refuse(wire.TooLarge, http.StatusRequestEntityTooLarge, "the body cannot be read: "+err.Error(), fmt.Sprintf("it may have %d bytes", maxSource))
	}
	sent := Sent{Source: string(body)}
	if kind == AppType {
		if sent = (Sent{}); json.Unmarshal(body, &sent) != nil {
			return refuse(wire.InvalidJSON, http.StatusBadRequest, "the body is not an app as JSON", `send {"source": "…", "files": {"name": "…"}}`)
		}
	}
	src = Source{q.URL.Query().Get("file"), []byte(sent.Source), given(sent.Files)}
	if src.File == "" {
		src.File = "app.sql"
	}
	return src, true
}

// serveCheckpoint writes a checkpoint now.
func (n *Node) serveCheckpoint(w http.ResponseWriter, q *http.Request) {
	seq, err := n.Checkpoint(q.Context())
	if err != nil {
		n.problems.answer(w, q, wire.NewProblem(wire.Internal, err.Error()))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"position": n.position(seq)}) // the caller may be gone
}

func (n *Node) serveCheck(w http.ResponseWriter, q *http.Request) {
	src, ok := n.posted(w, q)
	if !ok {
		return
	}
	p, err := n.PlanSource(src)
	if err != nil {
		n.problems.answer(w, q, wire.NewProblem(wire.Internal, err.Error()))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(p) // the caller may be gone
}

// DeployEvent is one line of the answer to POST /v1/deploy: exactly one member is set, and the last line has Plan or Error.
type DeployEvent struct {
	Progress *DeployProgress `json:"progress,omitempty"`
	Plan     *Plan           `json:"plan,omitempty"`
	Error    string          `json:"error,omitempty"`
}

func (n *Node) serveDeploy(w http.ResponseWriter, q *http.Request) {
	src, ok := n.posted(w, q)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc, flush := json.NewEncoder(w), http.NewResponseController(w)
	var told uint64 // percent
	say := func(e DeployEvent) {
		_ = enc.Encode(e) // a caller who is gone ends the context
		_ = flush.Flush()
	}
	p, err := n.launch(q.Context(), src, q.URL.Query().Get("force") == "true", func(d DeployProgress) {
		if percent := 100 * d.Batches / max(d.Of, 1); percent != told {
			told = percent
			say(DeployEvent{Progress: &d})
		}
	})
	if err != nil {
		say(DeployEvent{Error: err.Error()})
		return
	}
	say(DeployEvent{Plan: p})
}

// errNoView says that a name is none of the app's views.
var errNoView = errors.New("no view has this name")

// Explain returns a view's operators, with what they hold and have done, or those of all views when name is empty.
func (n *Node) Explain(name string) (string, error) {
	p := n.program.Load()
	var stats flow.Stats
	if err := n.betweenBatches(func() { stats = n.engine.Stats() }); err != nil {
		return "", err
	}
	var b strings.Builder
	for _, v := range p.Views {
		rel := p.Relations[v.Relation].Name
		if name != "" && name != rel {
			continue
		}
		b.WriteString(sql.ExplainView(p, rel))
		for i := range stats.Views {
			if stats.Views[i].Name == rel {
				explainStats(&b, &stats.Views[i])
			}
		}
	}
	if b.Len() == 0 {
		return "", errNoView
	}
	return b.String(), nil
}

func explainStats(b *strings.Builder, v *flow.ViewStats) {
	fmt.Fprintf(b, "  now: %d rows, %d bytes of state, %d rows missing because an expression fails on them\n", v.Rows, v.Bytes, v.Errors)
	fmt.Fprintf(b, "  %-28s %12s %12s %14s %12s\n", "operator", "rows in", "rows out", "state bytes", "time")
	for _, o := range v.Operators {
		fmt.Fprintf(b, "  %-28.28s %12d %12d %14d %12s\n", o.Name, o.In, o.Out, o.Bytes, time.Duration(o.Nanos).Round(time.Microsecond))
	}
	b.WriteByte('\n')
}

func (n *Node) serveExplain(w http.ResponseWriter, q *http.Request) {
	text, err := n.Explain(q.URL.Query().Get("view"))
	if errors.Is(err, errNoView) {
		n.problems.answer(w, q, wire.NewProblem(wire.UnknownView, "no view has this name"))
		return
	}
	if err != nil {
		n.problems.answer(w, q, wire.NewProblem(wire.Internal, err.Error()))
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, text) // the caller may be gone
}
