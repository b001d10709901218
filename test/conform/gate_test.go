package conform

import (
	"fmt"
	"strings"
	"sync"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
	"github.com/rs/zerolog"
)

// The proxy between a client and the server is toxiproxy's, with its slicer and its latency; what it does not have is a toxic that knows
// where in the conversation a byte is. That one is here: a gate on both directions of each connection, which cuts at a boundary of a
// class, holds bytes back without closing, and counts connections.

// cutAt is one cut: at the first boundary of this class in or after the given unit of a connection.
type cutAt struct {
	up    bool // of what the client sends
	class class
	unit  int
}

func (c cutAt) String() string {
	return fmt.Sprintf("%s of unit %d %s", c.class, c.unit, map[bool]string{true: "up", false: "down"}[c.up])
}

// gate is the way from one client to the server. Safe for concurrent use.
type gate struct {
	id    string
	proxy *toxiproxy.Proxy
	tell  func(what string) // called when a connection begins, and when one is cut by plan

	mu struct {
		sync.Mutex
		changed   chan struct{} // closed and renewed when anything below changes
		held      bool          // nothing goes through, and nothing closes
		refused   bool          // connections end as soon as they begin
		cut       int           // connections below this number are cut
		stranded  int           // connections below this number are held for ever
		began     [2]int        // connections so far, as counted by their downstream and upstream links
		plan      []cutAt       // of the connections to come: each takes one
		planned   map[int]cutAt // by connection
		done      map[int]bool  // connections that a planned cut has ended
		happened  []string      // the cuts that were made
		connected int           // connections since the last mark
		open      int           // connections whose answers may still come
	}
}

// gates finds the gate of a toxic: toxics are made from JSON. It is filled and read by tests alone.
var gates sync.Map

// gateToxic is one direction of a gate.
type gateToxic struct {
	Gate string `json:"gate"`
	Up   bool   `json:"up"`
}

// gateLink is what a gate knows of one direction of one connection.
type gateLink struct {
	number int
	scan   scanner
	cut    *cutAt // when it is this direction that is cut
}

// openGate starts a proxy to the upstream address, with further toxics of the library as JSON.
func openGate(id, upstream string, tell func(what string), further ...string) (*gate, error) {
	g := &gate{id: id, tell: tell}
	g.mu.changed = make(chan struct{})
	g.mu.planned, g.mu.done = map[int]cutAt{}, map[int]bool{}
	gates.Store(id, g)
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	g.proxy = toxiproxy.NewProxy(api, id, "127.0.0.1:0", upstream)
	for _, up := range []bool{false, true} {
		further = append(further, fmt.Sprintf(`{"name":"gate%v","type":"laaster_gate","stream":%q,"toxicity":1,"attributes":{"gate":%q,"up":%v}}`,
			up, map[bool]string{true: "upstream", false: "downstream"}[up], id, up))
	}
	for _, text := range further {
		if _, err := g.proxy.Toxics.AddToxicJson(strings.NewReader(text)); err != nil {
			return nil, fmt.Errorf("toxic %s: %w", text, err)
		}
	}
	return g, g.proxy.Start()
}

func (g *gate) url() string { return "http://" + g.proxy.Listen }

// change does f and wakes every link.
func (g *gate) change(f func()) {
	g.mu.Lock()
	f()
	close(g.mu.changed)
	g.mu.changed = make(chan struct{})
	g.mu.Unlock()
}

// cut ends every connection that is open, and returns how many these are.
func (g *gate) cut() (open int) {
	g.change(func() { g.mu.cut, open = max(g.mu.began[0], g.mu.began[1]), g.mu.open })
	return open
}

func (g *gate) count(by int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.open += by
}

// hold stops all bytes without closing anything, until it is called with false.
func (g *gate) hold(on bool) { g.change(func() { g.mu.held = on }) }

// strand leaves the connections that are open half-open for ever; new ones go through.
func (g *gate) strand() { g.change(func() { g.mu.stranded = max(g.mu.began[0], g.mu.began[1]) }) }

// refuse ends what is open and everything new, until it is called with false.
func (g *gate) refuse(on bool) {
	g.change(func() {
		if g.mu.refused = on; on {
			g.mu.cut = max(g.mu.began[0], g.mu.began[1])
		}
	})
}

// plan cuts the connections to come, one after the other, at these places.
func (g *gate) plan(cuts []cutAt) { g.change(func() { g.mu.plan = append(g.mu.plan, cuts...) }) }

// opened returns how many connections there were since the last call.
func (g *gate) opened() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.mu.connected
	g.mu.connected = 0
	return n
}

// cuts returns what was cut by plan, and how much of the plan is left.
func (g *gate) cuts() (happened []string, left int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.happened, len(g.mu.plan)
}

func (g *gate) close() {
	g.cut()
	g.proxy.Stop()
	gates.Delete(g.id)
}

// NewState implements toxics.StatefulToxic: a link begins.
func (t *gateToxic) NewState() any {
	found, ok := gates.Load(t.Gate)
	if !ok {
		return &gateLink{}
	}
	g := found.(*gate)
	g.mu.Lock()
	defer g.mu.Unlock()
	side := 0
	if t.Up {
		side = 1
	}
	l := &gateLink{number: g.mu.began[side], scan: scanner{up: t.Up}}
	g.mu.began[side]++
	if l.number == g.mu.began[1-side] { // the first of the two links
		g.mu.connected++
		g.tell("began")
		if len(g.mu.plan) > 0 && !g.mu.refused {
			g.mu.planned[l.number] = g.mu.plan[0]
			g.mu.plan = g.mu.plan[1:]
		}
	}
	if c, ok := g.mu.planned[l.number]; ok && c.up == t.Up {
		l.cut = &c
	}
	return l
}

// Pipe implements toxics.Toxic.
func (t *gateToxic) Pipe(stub *toxics.ToxicStub) {
	l := stub.State.(*gateLink)
	found, ok := gates.Load(t.Gate)
	if !ok {
		endLink(stub)
		return
	}
	g := found.(*gate)
	if !t.Up {
		g.count(+1)
		defer g.count(-1)
	}
	var rest *stream.StreamChunk // to be passed on
	ends := false                // after the rest
	for {
		g.mu.Lock()
		changed, held := g.mu.changed, g.mu.held || l.number < g.mu.stranded
		over := g.mu.refused || l.number < g.mu.cut || g.mu.done[l.number]
		g.mu.Unlock()
		if over || ends && rest == nil {
			endLink(stub)
			return
		}
		var in <-chan *stream.StreamChunk
		var out chan<- *stream.StreamChunk
		switch {
		case held:
		case rest != nil:
			out = stub.Output
		default:
			in = stub.Input
		}
		select {
		case <-changed:
		case <-stub.Interrupt:
			return
		case out <- rest:
			rest = nil
			if ends {
				g.change(func() { g.mu.done[l.number] = true })
			}
		case c := <-in:
			if c == nil {
				stub.Close()
				return
			}
			var n int
			if n, ends = l.pass(c.Data); ends {
				c = &stream.StreamChunk{Data: c.Data[:n], Timestamp: c.Timestamp}
				g.mu.Lock()
				g.mu.happened = append(g.mu.happened, l.cut.String())
				g.mu.Unlock()
				g.tell("cut in " + l.cut.String())
			}
			rest = c
		}
	}
}

// endLink closes a link and takes what still comes, so that nothing waits for it.
func endLink(stub *toxics.ToxicStub) {
	stub.Close()
	for c := range stub.Input {
		_ = c
	}
}

// pass says how many of these bytes go through, and whether the cut is behind them.
func (l *gateLink) pass(b []byte) (n int, cut bool) {
	if l.cut == nil {
		return len(b), false
	}
	for i, c := range b {
		if l.scan.next(c); l.scan.at == l.cut.class && l.scan.unit >= l.cut.unit {
			return i + 1, true
		}
	}
	return len(b), false
}
