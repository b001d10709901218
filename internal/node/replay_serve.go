package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"laaster/internal/auth"
	"laaster/internal/push"
	"laaster/internal/wire"
)

// Serve serves the history on the read surface of a running server, at addr: views, live connections, the pages in public/. Live subscriptions get their rows and
// are told that nothing will come. Writes are refused. It returns once it serves; url is where.
func (h *History) Serve(ctx context.Context, addr string) (url string, err error) {
	n := h.n
	l, err := listenTCP(ctx, addr)
	if err != nil {
		return "", fmt.Errorf("the listener cannot take %s: %w\n  hint: is another laaster running there? choose another address with --listen, or port 0 for a free one", addr, err)
	}
	if err := h.openHub(); err != nil {
		return "", errors.Join(err, l.Close())
	}
	if err := n.openTLS(); err != nil {
		return "", errors.Join(err, l.Close())
	}
	n.public, n.sockets = n.newPublic(addr, l, h.handler())
	live := n.hub.Connections
	n.sockets.live.Store(&live)
	n.serving.Go("history listener", func(context.Context) error { return n.sockets.serve(n.public) })
	n.askIssuers()
	n.awaitKeys(ctx)
	n.setState(stateReady, "")
	return n.scheme(n.certificates != nil) + l.Addr().String(), nil
}

func (h *History) openHub() (err error) {
	n, limits := h.n, &h.n.opt.Settings.Limits
	n.hub, err = push.NewHub(context.WithoutCancel(n.group.Context()), push.Options{
		Store: n.store, Log: n.shard.ID(), Shard: n.shard.Number(), Clock: n.opt.Clock, Metrics: n.metrics, Logger: n.opt.Logger,
		Rules:     rulesOf(n.program.Load()),
		Principal: n.principal, Identify: n.bearer, Ended: n.callers.verifier.Ended, Revised: n.callers.verifier.Revocations.Revised, Again: n.callers.verifier.Again, RequestID: requestID, Answer: n.problems.answer, Writer: historyWriter{h}, Sent: func(uint64, uint64) {},
		MaxConnections: limits.Connections, Merge: mergeWindow, MergeFactor: mergeFactor,
		Limits: wire.Limits{FrameBytes: int(limits.Frame), Subscriptions: limits.Subscriptions, RowBytes: int(limits.Row)},
	})
	if err != nil {
		return err
	}
	rels := n.store.Relations()
	for _, slot := range n.slots {
		n.hub.SetStale(rels[slot], h.said())
	}
	return nil
}

// said is what readers are told about the rows.
func (h *History) said() string {
	return fmt.Sprintf("this is history, of %s: nothing changes here any more", h.Time().Format(time.RFC3339))
}

// handler is the public surface.
func (h *History) handler() http.Handler {
	n, mux := h.n, http.NewServeMux()
	refuse := func(w http.ResponseWriter, q *http.Request) { n.problems.answer(w, q, h.refusal()) }
	for _, method := range []string{"POST", "PATCH", "DELETE"} {
		mux.HandleFunc(method+" /v1/tables/{table}", refuse)
	}
	mux.Handle("/v1/tables/{table}", n.otherMethod("", "rows are read at /v1/views/{table}; this is history, which takes no writes"))
	mux.Handle("/v1/views/{view}", n.otherMethod("GET, HEAD", "this is history, which takes no writes"))
	n.routeReads(mux)
	mux.HandleFunc("/v1/", func(w http.ResponseWriter, q *http.Request) { n.problems.answer(w, q, notHere(q)) })
	mux.Handle("/", &static{dir: filepath.Join(n.opt.Dir, "public"), problem: n.problems.answer, dev: func() bool { return false }})
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Laaster-History", h.Position()+" "+h.Time().Format(time.RFC3339Nano))
		mux.ServeHTTP(w, q)
	})
}

// refusal is the answer to every write.
func (h *History) refusal() *wire.Problem {
	return wire.NewProblem(wire.NotSupported, "this is history, as it was at "+h.Position()+": it takes no writes").
		WithHint("write to the running server; `laaster restore` makes a server of a backup")
}

// historyWriter refuses write frames.
type historyWriter struct{ h *History }

// Write implements push.Writer.
func (w historyWriter) Write(context.Context, auth.Principal, *wire.WriteFrame) (*wire.WriteResult, *wire.Problem) {
	return nil, w.h.refusal()
}

// Wait serves until ctx ends or a listener fails, and then lets requests under way end.
func (h *History) Wait(ctx context.Context) error {
	n := h.n
	var failed error
	select {
	case <-ctx.Done():
	case failed = <-n.broken: // rows that are only in a checkpoint cannot be read
	case <-n.serving.Context().Done():
	}
	n.setState(stateDraining, "the server is shutting down")
	n.leave()
	limit, cancel := context.WithTimeout(context.Background(), time.Duration(n.opt.Settings.Drain))
	defer cancel()
	n.hub.Drain()
	err := n.public.Shutdown(limit)
	if errors.Is(err, context.DeadlineExceeded) {
		err = n.public.Close()
	}
	return errors.Join(failed, err)
}
