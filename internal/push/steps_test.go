package push

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"laaster/internal/auth"
)

// TestSteps is the model again, one step at a time on a clock that is moved by hand: epochs that wait to be merged, clients that
// come, go, change what they follow and stop reading in the middle of a run. After each step everything is quiet, so a seed
// says exactly what happens, and rare meetings are frequent. LAASTER_SEED and LAASTER_SEEDS as for TestModel.
func TestSteps(t *testing.T) {
	first, n := uint64(1), uint64(40)
	if testing.Short() {
		n = 10
	}
	for name, to := range map[string]*uint64{"LAASTER_SEED": &first, "LAASTER_SEEDS": &n} {
		if s := os.Getenv(name); s != "" {
			v, err := strconv.ParseUint(s, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			*to = v
		}
	}
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runSteps(t, seed) })
	}
}

// stepClient is a client whose input is a connection in memory.
type stepClient struct {
	*modelClient
	conn *memConn
	lazy bool // does not read
	rest []byte
}

// toServer makes what a client writes input of the server.
type toServer struct{ m *memConn }

func (w toServer) Write(b []byte) (int, error) {
	w.m.send(b)
	return len(b), nil
}

type steps struct {
	*model
	t       *testing.T
	rand    *rand.Rand
	clients []*stepClient
	away    []*modelClient // were here and may come back
}

func runSteps(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 11))
	ring := []int{1 << 11, 1 << 13, 1 << 18}[r.IntN(3)]
	s := &steps{t: t, rand: r, model: &model{seed: seed, queries: randomQueries(r)}}
	s.bench = newBench(t, Options{PageBytes: 100 + r.IntN(1000), FrameLogBytes: 300 + r.IntN(2000)}, ring)
	s.mu.worlds = []*world{s.world.clone()}
	s.mu.moved = sync.NewCond(&s.mu.Mutex)
	for i := range 400 {
		what := s.step()
		if err := s.read(); err != nil {
			t.Fatalf("seed %d, step %d (%s): %v", seed, i, what, err)
		}
	}
	for _, c := range s.clients {
		c.lazy = false
		c.conn.limit(-1)
	}
	for range 2 { // a heartbeat for everybody, after the last rated frames
		s.move(15 * time.Second)
		if err := s.read(); err != nil {
			t.Fatalf("seed %d, at the end: %v", seed, err)
		}
	}
	head, _ := s.store.Head()
	for _, c := range s.clients {
		if !c.conn.isClosed() && !c.arrived(head) {
			t.Errorf("seed %d: a client stands at %d of %d: %+v", seed, c.pos, head, c.only())
		}
	}
}

// step does one thing and says what.
func (s *steps) step() string {
	switch n := s.rand.IntN(100); {
	case n < 45:
		s.advanceTo(s.edits())
		return "epoch"
	case n < 62:
		s.move(10 * time.Millisecond)
		return "flush"
	case n < 65:
		s.move(time.Duration(1+s.rand.IntN(20)) * time.Second)
		return "time"
	case n < 74:
		return "connect " + s.connect()
	}
	if len(s.clients) == 0 {
		return "nothing"
	}
	c := s.clients[s.rand.IntN(len(s.clients))]
	switch n := s.rand.IntN(100); {
	case n < 55:
		if err := c.change(); err != nil {
			s.t.Fatal(err)
		}
		return "change"
	case n < 75:
		c.lazy = !c.lazy
		if c.conn.limit(-1); c.lazy {
			c.conn.limit(s.rand.IntN(400))
		}
		return fmt.Sprint("lazy ", c.lazy)
	}
	before := s.hub.Connections()
	c.conn.hangUp()
	for s.hub.Connections() == before && !c.conn.isClosed() {
		runtime.Gosched()
	}
	s.leave(c)
	return "hang up"
}

// edits is few changes of few rows.
func (s *steps) edits() []edit {
	var edits []edit
	for range s.rand.IntN(3) {
		key, gone := fmt.Sprintf("k%d", 2+s.rand.IntN(5)), s.rand.IntN(2) == 0
		switch s.rand.IntN(5) {
		case 0:
			edits = append(edits, edit{rel: 1, vals: []*string{str(fmt.Sprint(s.rand.IntN(5)))}})
		case 1:
			edits = append(edits, edit{rel: 2, gone: gone, vals: []*string{&key, str(fmt.Sprintf("l%d", s.rand.IntN(2))), str("1")}})
		default:
			note := str([]string{"x", "y"}[s.rand.IntN(2)])
			votes := str(fmt.Sprint(10 * s.rand.IntN(8)))
			if s.rand.IntN(8) == 0 {
				votes = nil
			}
			edits = append(edits, edit{rel: 0, gone: gone, vals: []*string{&key, votes, note}})
		}
	}
	return edits
}

// move moves the clock and waits for the flush that this allows.
func (s *steps) move(d time.Duration) {
	s.advance(d)
	s.flushed()
}

// connect brings a client, an old one or a new one.
func (s *steps) connect() string {
	if len(s.clients) > 6 {
		return "nobody"
	}
	what := "new"
	c := &modelClient{m: s.model, rand: s.rand, subs: map[string]*modelSub{}, gone: map[string]bool{}, times: map[int]int{}}
	if n := len(s.away); n > 0 && s.rand.IntN(2) == 0 {
		what, c, s.away = "again", s.away[n-1], s.away[:n-1]
	}
	m := newMemConn()
	if p := s.hub.ServeConn(m, auth.Anonymous()); p != nil {
		s.t.Fatal(p)
	}
	c.out = toServer{m}
	sc := &stepClient{modelClient: c, conn: m}
	s.clients = append(s.clients, sc)
	if err := c.hello(); err != nil {
		s.t.Fatal(err)
	}
	return what
}

func (s *steps) leave(c *stepClient) {
	for i := range s.clients {
		if s.clients[i] == c {
			s.clients = append(s.clients[:i], s.clients[i+1:]...)
			break
		}
	}
	s.away = append(s.away, c.modelClient)
}

// read waits until everything is quiet and has the clients that read apply what they got.
func (s *steps) read() error {
	conns := make([]*memConn, len(s.clients))
	for i, c := range s.clients {
		conns[i] = c.conn
	}
	s.quiet(conns...)
	for _, c := range append([]*stepClient{}, s.clients...) {
		if c.lazy {
			continue
		}
		frames, rest, err := serverFrames(append(c.rest, c.conn.take()...))
		if err != nil {
			return err
		}
		c.rest = rest
		for _, text := range frames {
			if text[0] == '(' { // closed: the client was too slow
				s.leave(c)
				break
			}
			var f incoming
			if err := decode([]byte(text), &f); err != nil {
				return err
			}
			if f.Type == "goodbye" {
				continue
			}
			if err := c.take(&f); err != nil {
				return fmt.Errorf("%w\n%s", err, text)
			}
		}
		if c.conn.isClosed() {
			s.leave(c)
		}
	}
	return nil
}
