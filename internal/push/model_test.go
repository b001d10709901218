package push

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"reflect"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"laaster/internal/kit/run"
	"laaster/internal/wire"
)

// TestModel runs random histories against clients that read at their own pace, stop reading, leave, come back and change what they
// follow, over real sockets. Each client applies what it is sent to its rows and compares them, at every position that it is
// told, with the rows of the model at that position. It accepts no change that changes nothing, no end of a row that it does not
// have, and no position below the last. A failure names its seed: LAASTER_SEED=n go test -run TestModel.
func TestModel(t *testing.T) {
	first, n := uint64(1), uint64(4)
	if testing.Short() {
		n = 2
	}
	if s := os.Getenv("LAASTER_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		first, n = seed, 1
	}
	if s := os.Getenv("LAASTER_SEEDS"); s != "" {
		seeds, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		n = seeds
	}
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runModel(t, seed) })
	}
}

// model is the shared truth: the rows of every position.
type model struct {
	*bench
	seed    uint64
	calm    bool // few changes, clients that come and go all the time
	queries []modelQuery
	again   map[string]bool // views whose rows may be told again when they come from the log
	mu      struct {
		sync.Mutex
		worlds []*world // by position
		moved  *sync.Cond
		over   bool
	}
}

// modelQuery is a subscription that the model can answer itself.
type modelQuery struct {
	view, filter, sel string
	match             func(vals []*string) bool
	cols              []int

	who  string                                          // may ask; empty: everybody
	sees func(w *world, who string, vals []*string) bool // what the rules say; nil: everything

	order         string // of a window
	less          func(a, b []*string) bool
	limit, offset int
}

func modelQueries() []modelQuery {
	all := func([]*string) bool { return true }
	atLeast := func(n int) func([]*string) bool {
		return func(v []*string) bool {
			if v[1] == nil {
				return false
			}
			x, _ := strconv.Atoi(*v[1])
			return x >= n
		}
	}
	is := func(col int, s string) func([]*string) bool {
		return func(v []*string) bool { return v[col] != nil && *v[col] == s }
	}
	return []modelQuery{
		{view: "tally", match: all, cols: []int{0, 1, 2}},
		{view: "tally", filter: "votes=gte.50", match: atLeast(50), cols: []int{0, 1, 2}},
		{view: "tally", filter: "contestant=eq.k3", match: is(0, "k3"), cols: []int{0, 1, 2}},
		{view: "tally", filter: "note=eq.x", match: is(2, "x"), cols: []int{0, 1, 2}},
		{view: "tally", sel: "votes", match: all, cols: []int{0, 1}},
		{view: "tally", sel: "contestant", filter: "votes=gte.20", match: atLeast(20), cols: []int{0}},
		{view: "total", match: all, cols: []int{0}},
		{view: "words", match: all, cols: []int{0, 1, 2}},
		{view: "words", filter: "lang=eq.l1", match: is(1, "l1"), cols: []int{0, 1, 2}},
	}
}

// randomQueries adds what r comes up with: ranges, lists, choices and windows.
func randomQueries(r *rand.Rand) []modelQuery {
	all := modelQueries()
	for range 10 {
		q := modelQuery{view: "tally", match: func([]*string) bool { return true }, cols: []int{0, 1, 2}}
		if r.IntN(4) > 0 {
			q.filter, q.match = randomCondition(r, 0)
		}
		if r.IntN(2) == 0 {
			q.limit, q.offset = r.IntN(5), max(0, r.IntN(6)-3)
			q.order, q.less = randomOrder(r)
		}
		if r.IntN(4) == 0 {
			q.sel, q.cols = "contestant,note", []int{0, 2}
		}
		all = append(all, q)
	}
	return append(all, modelQuery{view: "words", match: func([]*string) bool { return true }, cols: []int{0, 1, 2}, order: "word.desc", limit: 2,
		less: func(a, b []*string) bool {
			return cmp.Or(strings.Compare(*b[0], *a[0]), strings.Compare(*a[1], *b[1]), strings.Compare(*a[2], *b[2])) < 0
		}})
}

// randomCondition returns a condition on tally as a query string.
func randomCondition(r *rand.Rand, depth int) (string, func(vals []*string) bool) {
	number := func(v []*string) int {
		n, _ := strconv.Atoi(*v[1])
		return n
	}
	a, b := 10*r.IntN(10), 10*r.IntN(10)
	switch r.IntN(7 - depth) {
	case 0:
		return fmt.Sprintf("votes=gte.%d&votes=lt.%d", a, b), func(v []*string) bool { return v[1] != nil && number(v) >= a && number(v) < b }
	case 1:
		return fmt.Sprintf("votes=gt.%d", a), func(v []*string) bool { return v[1] != nil && number(v) > a }
	case 2:
		return fmt.Sprintf("votes=lte.%d&note=eq.x", a), func(v []*string) bool { return v[1] != nil && number(v) <= a && v[2] != nil && *v[2] == "x" }
	case 3:
		return fmt.Sprintf("votes=in.(%d,%d,7)", a, b), func(v []*string) bool { return v[1] != nil && (number(v) == a || number(v) == b || number(v) == 7) }
	case 4:
		key := fmt.Sprintf("k%d", 3+r.IntN(4))
		return "contestant=gt." + key, func(v []*string) bool { return *v[0] > key }
	case 5:
		key := fmt.Sprintf("k%d", 3+r.IntN(4))
		return fmt.Sprintf("or=(contestant.eq.%s,votes.lt.%d)", key, a), func(v []*string) bool { return *v[0] == key || v[1] != nil && number(v) < a }
	}
	one, first := randomCondition(r, 1)
	other, second := randomCondition(r, 1)
	return one + "&" + other, func(v []*string) bool { return first(v) && second(v) }
}

// randomOrder returns an order of tally. Equal rows are in the order of their keys.
func randomOrder(r *rand.Rand) (string, func(a, b []*string) bool) {
	if r.IntN(3) == 0 {
		return "contestant.desc", func(a, b []*string) bool { return *a[0] > *b[0] }
	}
	sign, name := 1, "votes"
	if r.IntN(2) == 0 {
		sign, name = -1, "votes.desc.nullslast"
	}
	rank := func(v *string) int {
		if v == nil {
			return 1 << 40
		}
		n, _ := strconv.Atoi(*v)
		return sign * n
	}
	return name, func(a, b []*string) bool {
		x, y := rank(a[1]), rank(b[1])
		return x < y || x == y && *a[0] < *b[0]
	}
}

// params is what a read asks for, as a query string.
func (q *modelQuery) params() string {
	list := []string{}
	if q.filter != "" {
		list = append(list, q.filter)
	}
	if q.sel != "" {
		list = append(list, "select="+q.sel)
	}
	if q.less != nil {
		list = append(list, fmt.Sprintf("order=%s&limit=%d&offset=%d", q.order, q.limit, q.offset))
	}
	return strings.Join(list, "&")
}

// expect returns the rows of a query at a position, by key as JSON.
func (m *model) expect(q int, seq uint64) map[string]string {
	m.mu.Lock()
	w := m.mu.worlds[seq]
	m.mu.Unlock()
	mq := m.queries[q]
	rel := m.hub.relation(mq.view)
	out := map[string]string{}
	var rows [][]*string
	for _, vals := range w.rows[rel.ID] {
		if mq.match(vals) && (mq.sees == nil || mq.sees(w, mq.who, vals)) {
			rows = append(rows, vals)
		}
	}
	if mq.less != nil {
		sort.Slice(rows, func(i, j int) bool { return mq.less(rows[i], rows[j]) })
		rows = rows[min(mq.offset, len(rows)):]
		rows = rows[:min(mq.limit, len(rows))]
	}
	for _, vals := range rows {
		var key, row []any
		for _, k := range rel.Key {
			key = append(key, modelValue(rel.Columns[k].Type.String(), vals[k]))
		}
		for _, c := range mq.cols {
			row = append(row, rel.Columns[c].Name, modelValue(rel.Columns[c].Type.String(), vals[c]))
		}
		out[canonical(key)] = canonicalRow(row)
	}
	return out
}

func modelValue(typ string, v *string) any {
	if v == nil {
		return nil
	}
	if typ == "bigint" {
		return json.Number(*v)
	}
	return *v
}

func canonical(v any) string {
	if v == nil || reflect.ValueOf(v).Kind() == reflect.Slice && reflect.ValueOf(v).Len() == 0 {
		return "[]"
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func canonicalRow(pairs []any) string {
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	return canonical(m)
}

// history applies random epochs: few keys, so that rows come and go within a run, and now and then a burst.
func (m *model) history(r *rand.Rand, epochs int) {
	pad := strings.Repeat("p", 100)
	most, keys := 5, 6
	if m.calm {
		most, keys = 2, 2
	}
	for range epochs {
		var edits []edit
		for range r.IntN(most) {
			gone := r.IntN(2) == 0
			key := fmt.Sprintf("k%d", 3+r.IntN(keys))
			switch r.IntN(4) {
			case 0, 1:
				note := str([]string{"x", "y", pad}[r.IntN(3)])
				if r.IntN(4) == 0 {
					note = nil
				}
				votes := str(fmt.Sprint(r.IntN(100)))
				if r.IntN(8) == 0 {
					votes = nil
				}
				edits = append(edits, edit{rel: 0, gone: gone, vals: []*string{&key, votes, note}})
			case 2:
				edits = append(edits, edit{rel: 1, vals: []*string{str(fmt.Sprint(r.IntN(1000)))}})
			case 3:
				edits = append(edits, edit{rel: 2, gone: gone, vals: []*string{&key, str(fmt.Sprintf("l%d", r.IntN(3))), str(fmt.Sprint(1 + r.IntN(2)))}})
			}
		}
		m.advanceTo(edits)
		for range r.IntN(200) { // clients come and go within a run
			runtime.Gosched()
		}
		if r.IntN(8) == 0 {
			m.flushed()
		}
	}
	// The last epoch concerns most queries, so that most are told its position; the others by a heartbeat.
	m.advanceTo([]edit{{rel: 0, vals: []*string{str("k3"), str("1000"), str("x")}}, {rel: 1, vals: []*string{str("5000")}},
		{rel: 2, vals: []*string{str("last"), str("l1"), str("1")}}})
	m.mu.Lock()
	m.mu.over = true
	m.mu.moved.Broadcast()
	m.mu.Unlock()
}

// advanceTo applies an epoch.
func (m *model) advanceTo(edits []edit) {
	m.mu.Lock()
	e := m.world.epoch(edits)
	m.mu.worlds = append(m.mu.worlds, m.world.clone())
	m.mu.Unlock()
	m.store.Apply(e)
	m.mu.Lock()
	m.mu.moved.Broadcast()
	m.mu.Unlock()
}

// awaitHead waits until the history has reached seq or is over.
func (m *model) awaitHead(seq uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for uint64(len(m.mu.worlds)) <= seq && !m.mu.over {
		m.mu.moved.Wait()
	}
}

// serve opens the hub to clients at addr until end is called.
func (m *model) serve(t *testing.T) (addr string, end func()) {
	t.Helper()
	m.mu.worlds = []*world{m.world.clone()}
	m.mu.moved = sync.NewCond(&m.mu.Mutex)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/views/{view}", m.hub.ServeView)
	mux.HandleFunc("GET /v1/live", m.hub.ServeLive)
	server := &http.Server{Handler: mux}
	m.group.Go("server", func(context.Context) error { _ = server.Serve(ln); return nil })
	return ln.Addr().String(), func() { server.Close() }
}

func runModel(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 7))
	ring := []int{1 << 12, 1 << 14, 1 << 18}[r.IntN(3)]
	m := &model{seed: seed, calm: seed%2 == 0, queries: randomQueries(r)}
	m.bench = newBench(t, Options{Clock: run.System{}, Merge: time.Duration(1+r.IntN(3)) * time.Millisecond, PageBytes: 200 + r.IntN(2000),
		FrameLogBytes: 500 + r.IntN(4000), UnsentBytes: 4096, Limits: wire.Limits{HeartbeatSeconds: 1}}, ring)
	m.hub.deaf = false
	addr, end := m.serve(t)
	defer end()

	clients := run.New(context.Background())
	const epochs = 600
	for i := range 10 {
		c := &modelClient{m: m, addr: addr, rand: rand.New(rand.NewPCG(seed, uint64(100+i))), events: i%4 == 3}
		clients.Go(fmt.Sprint("client ", i), func(context.Context) error { return c.live(epochs + 1) })
	}
	m.history(r, epochs)
	if err := clients.Wait(); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	st := m.hub.Stats()
	if st.Subscriptions != 0 && st.Connections == 0 {
		t.Errorf("nobody is connected, and yet: %+v", st)
	}
	t.Logf("%+v", st)
}
