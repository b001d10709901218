package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"laaster/app"
	"laaster/internal/audit"
	"laaster/internal/auth"
	"laaster/internal/backbone"
	"laaster/internal/change"
	"laaster/internal/checkpoint"
	"laaster/internal/flow"
	"laaster/internal/ingest"
	"laaster/internal/kit/fair"
	"laaster/internal/kit/run"
	"laaster/internal/limit"
	"laaster/internal/node/devpage"
	"laaster/internal/observe"
	"laaster/internal/push"
	"laaster/internal/seal"
	"laaster/internal/view"
	"laaster/internal/wire"
)

// engineLag is how many appended batches may wait for the engine before appends wait for it.
const engineLag = 4

// Options is what a node is made of.
type Options struct {
	Dir      string       // the app folder
	Settings app.Settings // checked
	Clock    run.Clock
	Logger   *slog.Logger
	Develop  bool      // also tokens that a secret signs are believed
	Progress io.Writer // told in words about work that takes longer than a second; nil: nobody
	// Free says how many bytes the disk below a folder has left; nil asks the system.
	Free func(dir string) (uint64, error)
}

// Node is a running app.
type Node struct {
	opt          Options
	metrics      *observe.Metrics
	problems     *problemLog
	group        *run.Group       // the loops
	serving      *run.Group       // the listeners
	folder       *backbone.Folder // nil: the log outlives nothing
	keys         *seal.Ring       // nil: nothing is encrypted
	shard        *backbone.Shard
	checkpoints  *checkpoint.Store // nil: the log outlives nothing
	kept         keeping
	from         checkpoint.Info    // what the start began from; zero: the log's beginning
	guard        *backbone.Guard    // nil without a data folder
	scrubber     *backbone.Scrubber // nil without a data folder
	lineage      *backbone.Lineage  // nil: the log was not made of another one
	program      atomic.Pointer[flow.Program]
	engine       *flow.Engine      // the engine loop's
	slots        []int             // where the program's relations are in store; the engine loop's
	last         *change.Batch     // the last one applied; nil at a start that replayed nothing; the engine loop's
	canary       canary            // the engine loop's
	called       called            // the engine loop's
	complete     map[string]uint64 // views that lack what was before this position, since they were built from a trimmed log; the engine loop's
	resident     atomic.Int64      // bytes of state and rows in memory, as of the last time somebody looked
	trimmed      int64             // stamp at which somebody last looked; the engine loop's
	degraded     degraded
	broken       chan error                      // capacity 1: why the node cannot go on
	stoppedAt    [3]int64                        // the limits of the checkpoint that the start went on from; see stopLimits
	trail        *audit.Trail                    // nil without a data folder; the engine loop's
	watched      atomic.Pointer[map[string]bool] // tables whose reads are recorded
	refused      refusedWrites                   // of those tables
	store        *view.Store
	hub          *push.Hub
	rules        auth.Rules
	callers      callers
	limits       *limit.Guard // nil for a node that only reads its log
	writer       *ingest.Writer
	door         *ingest.Door
	batches      chan *ingest.Batch
	ask          chan func()   // the engine loop calls these between batches
	ended        chan struct{} // closed when the engine loop has ended
	publicL      net.Listener
	sockets      *sockets      // publicL, with a bound on connections
	floor        *fair.Floor   // that its connections share; nil: they are not paced
	doors        *sockets      // adminL, likewise
	certificates *certificates // nil: no TLS
	adminL       net.Listener
	public       *http.Server
	admin        *http.Server
	handler      atomic.Pointer[http.Handler] // of the public listener: "starting" until the log is replayed
	received     ring
	applied      atomic.Uint64

	remembered atomic.Int64    // bytes that the engine holds for ids and idempotency keys
	leaving    context.Context // ends when the node begins to stop
	leave      context.CancelFunc
	deploying  atomic.Bool
	backing    atomic.Bool                // a backup is being made
	dev        atomic.Pointer[dev]        // in development
	next       atomic.Pointer[deployment] // what the next definition in the log brings
	due        chan int64                 // when the engine has something due; capacity 1
	lastDue    int64                      // what was told last; the engine loop's
	status     struct {
		sync.Mutex
		state    string
		reason   string
		batches  uint64 // in the log at the start
		replayed uint64
	}
}

// The states of a node.
const (
	stateStarting = "starting"
	stateReady    = "ready"
	stateDraining = "draining"
	stateFailed   = "failed"
)

// Start opens everything and returns once the node serves. Addresses are taken first, so that a taken port is told before
// the log is touched; until the log is replayed the public listener answers busy and /readyz says how far it is. On an
// error everything that was opened is closed again.
func Start(ctx context.Context, opt Options) (_ *Node, err error) {
	n := &Node{opt: opt, metrics: observe.NewMetrics(), batches: make(chan *ingest.Batch, engineLag),
		ask: make(chan func()), ended: make(chan struct{}), due: make(chan int64, 1), lastDue: math.MaxInt64}
	n.broken = make(chan error, 1)
	n.kept.ask, n.kept.grown = make(chan chan error), make(chan struct{}, 1)
	n.problems = &problemLog{logger: opt.Logger, clock: opt.Clock}
	n.group, n.serving = run.New(context.WithoutCancel(ctx)), run.New(context.WithoutCancel(ctx))
	n.leaving, n.leave = context.WithCancel(context.WithoutCancel(ctx))
	n.setState(stateStarting, "")
	defer func() {
		if err != nil {
			n.abandon()
		}
	}()
	if err := n.compile(nil); err != nil { // says what is wrong with the app before anything is opened
		return nil, err
	}
	if err := n.openCallers(); err != nil {
		return nil, err
	}
	n.openLimits()
	if err := n.listen(ctx); err != nil {
		return nil, err
	}
	n.askIssuers()
	if err := n.openLog(ctx); err != nil {
		return nil, err
	}
	if err := n.openTrail(); err != nil {
		return nil, err
	}
	if err := n.openCheckpoints(); err != nil {
		return nil, err
	}
	if err := n.recover(ctx); err != nil {
		return nil, err
	}
	n.awaitKeys(ctx)
	if err := n.serve(); err != nil {
		return nil, err
	}
	n.setState(stateReady, "")
	return n, nil
}

// PublicURL returns where the public listener serves, without a slash at the end.
func (n *Node) PublicURL() string {
	return n.scheme(n.opt.Settings.TLS.On()) + n.publicL.Addr().String()
}

// AdminURL returns where the admin listener serves, without a slash at the end.
func (n *Node) AdminURL() string {
	return n.scheme(n.opt.Settings.TLS.Admin()) + n.adminL.Addr().String()
}

func (n *Node) scheme(encrypted bool) string {
	if encrypted {
		return "https://"
	}
	return "http://"
}

// Program returns the running app.
func (n *Node) Program() *flow.Program { return n.program.Load() }

// listen takes both addresses and serves what can be said before the log is replayed.
func (n *Node) listen(ctx context.Context) error {
	s := &n.opt.Settings
	err := n.openTLS()
	if err != nil {
		return err
	}
	if n.publicL, err = listenTCP(ctx, s.Listen); err != nil {
		return listenError("public", "--listen", s.Listen, err)
	}
	if n.adminL, err = listenTCP(ctx, s.Admin); err != nil {
		return listenError("admin", "--admin", s.Admin, err)
	}
	var starting http.Handler = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		p := wire.NewProblem(wire.Busy, "the server is starting: it reads its log").WithHint("/readyz of the admin listener says how far it is")
		p.RetryAfterMS = 1000
		n.problems.answer(w, q, p)
	})
	n.handler.Store(&starting)
	if !s.PlainHTTP { // else the connections are a proxy's
		n.floor = fair.NewFloor(run.System{}, runtime.GOMAXPROCS(0)) // about processors, whatever the node's clock says
	}
	n.public, n.sockets = n.newPublic(s.Listen, n.publicL, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { (*n.handler.Load()).ServeHTTP(w, q) }))
	admin := &guarded{next: n.adminHandler(), hosts: newHosts(s.Admin, false, nil), problem: n.problems.answer, identify: n.identify}
	n.admin = newServer(admin, s, n.opt.Logger)
	n.doors = newSockets(n.adminL, adminSockets, n.opt.Clock, n.metrics)
	n.admin.ConnState = n.doors.count
	if s.TLS.Admin() {
		n.admin.TLSConfig, n.doors.encrypted = n.certificates.adminConfig(), true
	}
	n.serving.Go("public listener", func(context.Context) error { return n.sockets.serve(n.public) })
	n.serving.Go("admin listener", func(context.Context) error { return n.doors.serve(n.admin) })
	if n.certificates != nil {
		n.serving.Go("certificates", n.certificateLoop)
	}
	return nil
}

// adminSockets is how many connections the admin listener has open at most.
const adminSockets = 512

// newPublic returns the public listener's server, with the common checks before next, and the bound on its connections.
func (n *Node) newPublic(addr string, l net.Listener, next http.Handler) (*http.Server, *sockets) {
	s := &n.opt.Settings
	entry := &front{origins: s.Origins, hosts: newHosts(addr, s.PlainHTTP, s.Origins), proxied: s.PlainHTTP, log: n.problems, next: next,
		wait: patience{n.opt.Clock, time.Duration(s.Limits.RequestBody), time.Duration(s.Limits.Stall)}}
	if hsts := time.Duration(s.TLS.HSTS); hsts > 0 {
		entry.hsts = "max-age=" + strconv.Itoa(int(hsts.Seconds()))
	}
	server, bound := newServer(entry, s, n.opt.Logger), newSockets(l, s.Limits.Sockets, n.opt.Clock, n.metrics)
	server.ConnState, bound.floor, bound.late = bound.count, n.floor, n.late
	if n.limits != nil && !s.Limits.Rates.Address.Sockets.None() {
		bound.rate = n.limits.Socket
		if bound.shun = newShun(l, n.opt.Clock, n.opt.Logger, n.metrics); bound.shun != nil {
			n.serving.Go("shunned addresses", bound.shun.loop)
		}
	}
	if !s.PlainHTTP { // else the address is a proxy's
		bound.each = s.Limits.AddressSockets
	}
	if n.certificates != nil {
		server.TLSConfig, bound.encrypted = n.certificates.publicConfig(), true
	}
	return server, bound
}

func served(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func listenError(which, flag, addr string, err error) error {
	return fmt.Errorf("the %s listener cannot take %s: %w\n  hint: is another laaster running there? choose another address with %s, or port 0 for a free one",
		which, addr, err, flag)
}

// serve starts the loops and opens the public surface.
func (n *Node) serve() (err error) {
	defer func() {
		if damage := caught(recover()); damage != nil { // of a page that was not needed before, such as that of what is due next
			n.mistrustCheckpoints(damage)
			err = unreadable(damage)
		}
	}()
	limits := &n.opt.Settings.Limits
	n.writer = ingest.NewWriter(n.shard, n.opt.Clock, n.metrics, n.batches, int(limits.Pending), time.Duration(limits.PendingWait))
	n.writer.Reopen = n.reopenLog
	n.door, err = ingest.NewDoor(ingest.Options{
		Tables: n.program.Load().Relations, Rules: &n.rules, Writer: n.writer, Clock: n.opt.Clock, Metrics: n.metrics, Limiter: n.limits, Ack: string(n.shard.Level()),
		Limits: ingest.Limits{Row: int(limits.Row), Body: int(limits.Body), Inflated: int(limits.Inflated), DedupeMemory: int(limits.DedupeMemory), Requests: int(limits.Requests),
			DedupeWindow: time.Duration(limits.DedupeWindow)},
		Position:   n.position,
		Applied:    n.applied.Load,
		Remembered: func() int { return int(n.remembered.Load()) },
		Members:    func(m *auth.Member) ([]change.Value, *wire.Problem) { return n.hub.MemberValues(m) },
		Refused:    n.notWritten,
	})
	if err != nil {
		return err
	}
	if err := n.openHub(); err != nil {
		return err
	}
	live := n.hub.Connections
	n.sockets.live.Store(&live)
	n.gauges()
	n.openScrubber(n.shard.Recovery().Head > n.from.Header.Seq)
	n.group.Go("log writer", n.writerLoop)
	n.tellDue(false)
	n.showStopped()
	n.group.Go("engine", n.engineLoop)
	n.group.Go("ticks", n.tickLoop)
	n.group.Go("checkpoints", n.checkpointLoop)
	n.group.Go("disk", n.diskLoop)
	n.group.Go("scrub", n.scrubLoop)
	n.group.Go("damage", func(ctx context.Context) error {
		select {
		case err := <-n.broken:
			return err
		case <-ctx.Done():
		case <-n.ended:
		}
		return nil
	})
	n.writer.Note(change.EntryAudit, n.act(operator, operator, "start", n.position(n.applied.Load()), "done").Encode()) // with the first batch
	h := n.publicHandler()
	n.handler.Store(&h)
	return nil
}

func (n *Node) publicHandler() http.Handler {
	mux := http.NewServeMux()
	writes := &ingest.HTTP{Door: n.door, Principal: n.principal, RequestID: requestID, Answer: n.problems.answer,
		BodyTime: time.Duration(n.opt.Settings.Limits.RequestBody)}
	for _, method := range []string{"POST", "PATCH", "DELETE"} {
		mux.Handle(method+" /v1/tables/{table}", n.signalsOr(writes))
	}
	mux.Handle("/v1/tables/{table}", n.otherMethod("POST, PATCH, DELETE", "rows are read at /v1/views/{table}"))
	mux.Handle("/v1/views/{view}", n.otherMethod("GET, HEAD", "rows are written at /v1/tables/{table}"))
	n.routeReads(mux)
	mux.HandleFunc("POST /v1/ticket", n.serveTicket)
	mux.HandleFunc("/v1/", func(w http.ResponseWriter, q *http.Request) {
		n.problems.answer(w, q, notHere(q))
	})
	mux.HandleFunc("GET /v1/dev", n.serveDev)
	mux.HandleFunc("GET "+devpage.Path, func(w http.ResponseWriter, q *http.Request) {
		if n.dev.Load() == nil {
			n.problems.answer(w, q, notHere(q))
			return
		}
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		_, _ = w.Write(devpage.Script()) // the browser may be gone
	})
	mux.Handle("/", &static{dir: filepath.Join(n.opt.Dir, "public"), problem: n.problems.answer, dev: func() bool { return n.dev.Load() != nil }})
	return mux
}

func notHere(q *http.Request) *wire.Problem {
	return wire.NewProblem(wire.NotFound, q.Method+" "+q.URL.Path+" is not part of the API").
		WithHint("writes: POST, PATCH, DELETE /v1/tables/{table}; reads: GET /v1/views/{view}; live: GET /v1/live")
}

// writerLoop runs the shard's writer. A failure of the log that a reopening does not mend ends it, and the node with it.
func (n *Node) writerLoop(ctx context.Context) error { return n.writer.Run(ctx) }

// otherMethod answers the methods that a path does not have.
func (n *Node) otherMethod(allow, hint string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Allow", allow)
		if q.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		p := wire.NewProblem(wire.InvalidRequest, q.Method+" is not answered here").WithHint(hint)
		p.Status = http.StatusMethodNotAllowed
		n.problems.answer(w, q, p)
	})
}

// engineLoop applies what the log acknowledged, batch by batch, and tells those who wait. It ends when the writer has closed the
// channel. An engine that cannot go on ends the node: what it could not apply is in the log.
func (n *Node) engineLoop(context.Context) error {
	defer close(n.ended)
	var at *ingest.Batch // under way
	done := false
	defer func() { // also when the engine panics
		if !done {
			n.forsake(at)
		}
	}()
	for {
		select {
		case b, open := <-n.batches:
			if !open {
				done = true
				return nil
			}
			at = b
			if err := n.apply(b); err != nil {
				return err
			}
			at = nil
		case f := <-n.ask:
			f()
		}
	}
}

// betweenBatches has the engine loop call f, and returns when it has.
func (n *Node) betweenBatches(f func()) error {
	done := make(chan struct{})
	select {
	case n.ask <- func() { defer close(done); f() }:
		<-done
		return nil
	case <-n.ended:
		return errors.New("the engine has stopped")
	}
}

// forsake answers everybody who waits for an engine that has stopped, until the writer has ended too: neither they nor the
// writer may wait for ever.
func (n *Node) forsake(at *ingest.Batch) {
	n.setState(stateFailed, "the engine cannot go on")
	n.writer.Abort(wire.NewProblem(wire.Internal, "the engine cannot go on; the write was not stored").
		WithHint("an operator has to look: the server's log says why it stopped"))
	p := wire.NewProblem(wire.Internal, "the write is in the log, and the engine cannot go on").
		WithHint("its outcome is decided at the next start: repeat it then with the same ids or Idempotency-Key")
	if at != nil {
		n.writer.Abandon(at, p)
	}
	for b := range n.batches {
		n.writer.Abandon(b, p)
	}
}

func (n *Node) apply(b *ingest.Batch) (err error) {
	defer func() {
		if damage := caught(recover()); damage != nil {
			n.mistrustCheckpoints(damage)
			err = unreadable(damage)
		}
	}()
	began := n.opt.Clock.Now()
	seq := b.Header().Seq
	n.received.put(seq, b.Received)
	epoch, err := n.step(&b.Batch)
	if err != nil {
		return err
	}
	n.last = &b.Batch
	n.grew(len(b.Raw()))
	if b.Header().Stamp-n.trimmed >= trimEvery {
		n.trimmed = b.Header().Stamp
		n.trimMemory()
	}
	n.remembered.Store(n.engine.SeenBytes())
	n.tellDue(b.Header().Entries == 0)
	n.writer.Complete(b, epoch.Outcomes)
	now := n.opt.Clock.Now()
	n.metrics.ApplyTime.Observe(now.Sub(began).Seconds())
	n.metrics.Stamp(observe.Applied, now.Sub(b.Received).Seconds())
	return nil
}

// damaged ends the node: rows that are only in a checkpoint cannot be read. The next start takes the second copy, or the log.
func (n *Node) damaged(err error) {
	n.mistrustCheckpoints(err)
	select {
	case n.broken <- err:
	default:
	}
}

// trimEvery is how often the engine loop looks at the memory of state and rows, in microseconds of the log.
const trimEvery = 1_000_000

// grew counts what the next checkpoint would save a start from replaying.
func (n *Node) grew(bytes int) {
	if n.kept.logged.Add(int64(bytes)) < int64(n.opt.Settings.Checkpoint.LogBytes) {
		return
	}
	select {
	case n.kept.grown <- struct{}{}:
	default:
	}
}

// ring remembers when the requests of recent batches arrived, for the stamp of their first frame.
type ring struct {
	sync.Mutex
	slots [1024]struct {
		seq uint64
		at  time.Time
	}
}

func (r *ring) put(seq uint64, at time.Time) {
	r.Lock()
	defer r.Unlock()
	s := &r.slots[seq%uint64(len(r.slots))]
	s.seq, s.at = seq, at
}

// oldest returns the earliest arrival of the batches from from+1 to to that are still known.
func (r *ring) oldest(from, to uint64) (at time.Time, ok bool) {
	r.Lock()
	defer r.Unlock()
	if to-from > uint64(len(r.slots)) {
		from = to - uint64(len(r.slots))
	}
	for seq := from + 1; seq <= to; seq++ {
		if s := &r.slots[seq%uint64(len(r.slots))]; s.seq == seq && (!ok || s.at.Before(at)) {
			at, ok = s.at, true
		}
	}
	return at, ok
}

func (n *Node) setState(state, reason string) {
	n.status.Lock()
	defer n.status.Unlock()
	if n.status.state != stateFailed {
		n.status.state, n.status.reason = state, reason
	}
}

func (n *Node) health() Health {
	n.status.Lock()
	defer n.status.Unlock()
	h := Health{State: n.status.state, Reason: n.status.reason, Replayed: n.status.replayed, Batches: n.status.batches}
	if n.status.state != stateStarting && n.shard != nil {
		h.Log, h.Position, h.Ack = n.shard.ID().String(), n.position(n.applied.Load()), string(n.shard.Level())
	}
	h.Degraded, h.Lineage = n.degraded.list(), n.lineage
	if seq := n.kept.seq.Load(); seq != 0 && n.shard != nil {
		h.Checkpoint = &CheckpointHealth{Position: n.position(seq), At: n.kept.at.Load() / 1000, PauseUS: n.kept.pause.Load() / 1000, TookMS: n.kept.took.Load() / 1_000_000}
	}
	return h
}

// Beside runs f as long as the node runs, or until it returns. An error of f ends the node, which stops only when f has returned.
func (n *Node) Beside(ctx context.Context, f func(context.Context, *Node) error) {
	n.group.Go("beside", func(own context.Context) error {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		defer context.AfterFunc(own, stop)()
		defer context.AfterFunc(n.leaving, stop)()
		return f(ctx, n)
	})
}

// Wait returns when the node has ended: after Stop, or because the log or the engine failed. ctx's end begins a graceful
// stop. The error is nil after a graceful stop.
func (n *Node) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-n.group.Context().Done():
		n.setState(stateFailed, fmt.Sprint(n.group.Err()))
	case <-n.serving.Context().Done():
	}
	return n.stop()
}

// stop drains: live clients are told goodbye, requests under way get their answers, the log takes what was accepted, the engine
// applies it, and everything closes in reverse.
func (n *Node) stop() error {
	n.setState(stateDraining, "the server is shutting down")
	n.leave()
	limit, cancel := context.WithTimeout(context.Background(), time.Duration(n.opt.Settings.Drain)+time.Second/2)
	defer cancel()
	n.hub.Drain()
	if n.checkpoints != nil {
		n.checkpoints.Hurry()
	}
	err := n.public.Shutdown(limit)
	if errors.Is(err, context.DeadlineExceeded) { // the stop is graceful all the same: who is too slow was waited for
		n.opt.Logger.Warn("connections were cut at the end of the drain", "open", n.sockets.open.Load())
		err = n.public.Close()
	}
	n.told(n.act(operator, operator, "stop", n.position(n.applied.Load()), "begun"))
	n.writer.Close(drainingProblem())
	err = errors.Join(err, n.group.Wait())
	n.lastCheckpoint()
	err = errors.Join(err, n.hub.Close())
	return errors.Join(err, n.close())
}

func drainingProblem() *wire.Problem {
	p := wire.NewProblem(wire.Draining, "the server is shutting down").WithHint("send the same again to the restarted server")
	p.RetryAfterMS = 1000
	return p
}

// abandon closes what a failed start had opened. Its errors add nothing to the one that is being returned.
func (n *Node) abandon() {
	if n.public != nil {
		_ = n.public.Close()
		_ = n.admin.Close()
	} else if n.publicL != nil {
		_ = n.publicL.Close()
	}
	_ = n.close()
}

func (n *Node) close() error {
	n.leave()
	var err error
	if n.admin != nil {
		err = n.admin.Close()
	}
	n.serving.Stop()
	n.group.Stop()
	err = errors.Join(err, n.group.Wait(), n.serving.Wait())
	if n.trail != nil {
		err = errors.Join(err, n.trail.Close(n.opt.Clock.Now().UnixMicro()))
	}
	return errors.Join(err, n.closeStorage())
}

// closeStorage closes what is open of checkpoints, log and folder, in this order: the folder's lock is the last that is let go.
func (n *Node) closeStorage() error {
	var err error
	if n.checkpoints != nil {
		err = errors.Join(err, n.checkpoints.Close())
	}
	if n.shard != nil {
		err = errors.Join(err, n.shard.Close())
	}
	if n.folder != nil {
		err = errors.Join(err, n.folder.Close())
	}
	return err
}
