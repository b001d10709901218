package push

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"laaster/app"
	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/kit/run"
	"laaster/internal/wire"
)

// logRelations returns tally, and two whose rows the log tells: line and long, the lines of more than three letters.
func logRelations() []*expr.Relation {
	line := func(id int, name string) *expr.Relation {
		cols := []app.Column{{Name: "id", Type: app.Int8, NotNull: true}, {Name: "who", Type: app.Text}, {Name: "body", Type: app.Text}}
		return &expr.Relation{ID: id, Name: name, Columns: cols, Layout: change.ColumnLayout(cols), Key: []int{0}, Trace: &expr.Trace{Table: 1, Key: []int{0}}}
	}
	return []*expr.Relation{relations()[0], line(1, "line"), line(2, "long")}
}

// fakeLog is a log that has every epoch of a world. A read takes so many of them at most.
type fakeLog struct {
	mu struct {
		sync.Mutex
		epochs []*change.Epoch
		first  uint64
		named  map[uint64][]string // more keys that batches name: of rows that were there already, or were refused
		broken error
		hold   chan struct{} // non-nil: reads wait until it is closed
	}
	most    int
	reads   int
	trims   map[int]uint64 // with which read the log begins to begin where
	waiting chan struct{}  // receives when a read waits
}

func (l *fakeLog) add(e *change.Epoch, named ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.epochs = append(l.mu.epochs, e)
	if len(named) > 0 {
		if l.mu.named == nil {
			l.mu.named = map[uint64][]string{}
		}
		l.mu.named[e.Seq] = named
	}
}

// count returns how often the log was read.
func (l *fakeLog) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reads
}

// First implements History.
func (l *fakeLog) First() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.first
}

// Read implements History.
func (l *fakeLog) Read(ctx context.Context, rels []*expr.Relation, from, to uint64, row func(rel int, key []byte)) (uint64, int64, error) {
	l.mu.Lock()
	hold := l.mu.hold
	l.mu.Unlock()
	if hold != nil {
		select {
		case l.waiting <- struct{}{}:
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		}
		select {
		case <-hold:
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	if first, ok := l.trims[l.reads]; ok {
		l.mu.first = first
	}
	switch {
	case l.mu.broken != nil:
		return 0, 0, l.mu.broken
	case from < l.mu.first:
		return 0, 0, errors.New("trimmed")
	}
	at, stamp := from, int64(0)
	for _, e := range l.mu.epochs[from:min(to, from+uint64(l.most))] {
		for i, rel := range rels {
			for _, d := range e.Deltas {
				if d.Relation != 1 { // what long has, line has too
					continue
				}
				for _, c := range d.Changes {
					row(i, c.Key)
				}
			}
			for _, key := range l.mu.named[e.Seq] {
				k, _ := encode(rel, []*string{&key, nil, nil})
				row(i, k)
			}
		}
		at, stamp = e.Seq, e.Stamp
	}
	return at, stamp, nil
}

// logBench is a bench with a log.
type logBench struct {
	*bench
	log *fakeLog
}

func newLogBench(t *testing.T, opt Options, ring, most int) *logBench {
	return newLogBenchOf(t, opt, ring, most, logRelations())
}

func newLogBenchOf(t *testing.T, opt Options, ring, most int, rels []*expr.Relation) *logBench {
	b := &logBench{log: &fakeLog{most: most, waiting: make(chan struct{})}}
	opt.History = b.log
	b.bench = newBenchOf(t, opt, ring, rels)
	return b
}

// lineEdits adds a line to line, and to long when it is.
func lineEdits(id int, who, body string) []edit {
	vals := []*string{str(strconv.Itoa(id)), &who, &body}
	edits := []edit{{rel: 1, vals: vals}}
	if len(body) > 3 {
		edits = append(edits, edit{rel: 2, vals: vals})
	}
	return edits
}

// say applies an epoch with one line for each body, with ids that are its position times ten and on.
func (b *logBench) say(bodies ...string) {
	b.t.Helper()
	var edits []edit
	for i, body := range bodies {
		edits = append(edits, lineEdits(int(b.world.seq+1)*10+i, "ann", body)...)
	}
	b.happens(edits...)
}

// happens applies one epoch, 10 ms after the last, and waits until it is flushed.
func (b *logBench) happens(edits ...edit) {
	b.advance(10 * time.Millisecond)
	e := b.world.epoch(edits)
	b.log.add(e)
	b.store.Apply(e)
	b.flushed()
}

// connect opens a WebSocket and says hello.
func (b *logBench) connect(hello string) *memConn {
	b.t.Helper()
	m := newMemConn()
	if p := b.hub.ServeConn(m, auth.Anonymous()); p != nil {
		b.t.Fatal(p)
	}
	m.send(clientFrame(opText, true, []byte(hello)))
	return m
}

// frames returns what came, without welcome, with positions and rows shortened.
func (b *logBench) frames(m *memConn) []string {
	b.t.Helper()
	b.quiet(m)
	frames, rest, err := serverFrames(m.take())
	if err != nil || len(rest) > 0 {
		b.t.Fatal(err, len(rest))
	}
	var out []string
	for _, f := range frames {
		if !strings.Contains(f, `"type":"welcome"`) {
			out = append(out, strings.NewReplacer(`aaaaaaaaaaaaaaaa.0-`, "", `"type":`, "", `,"key":["id"]`, "").Replace(f))
		}
	}
	return out
}

func (b *logBench) expect(m *memConn, want ...string) {
	b.t.Helper()
	if got := b.frames(m); !slices.Equal(got, want) {
		b.t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// at is a hello that resumes at a position.
func at(seq int, subs string) string {
	return fmt.Sprintf(`{"type":"hello","resume":"aaaaaaaaaaaaaaaa.0-%d","subscribe":[%s]}`, seq, subs)
}

const (
	subLine = `{"id":"l","view":"line","select":"id,body"}`
	subLong = `{"id":"g","view":"long","select":"id"}`
)

// A connection that has nothing else goes on from its position, page by page, and then live.
func TestLogResume(t *testing.T) {
	b := newLogBench(t, Options{PageBytes: 40}, 700, 2)
	for i := range 12 {
		b.say(fmt.Sprintf("l%d", i), "more")
	}
	if b.store.Floor() < 6 {
		t.Fatal("the ring reaches back too far:", b.store.Floor())
	}
	m := b.connect(at(3, subLine+`,{"id":"m","view":"long","select":"id","filter":"id=gt.70"}`))
	b.expect(m,
		`{"resumed","id":"l","position":"3"}`,
		`{"resumed","id":"m","position":"3"}`,
		`{"epoch","position":"5","from":"3","at":5,"changes":{"l":{"put":[{"id":40,"body":"l3"},{"id":41,"body":"more"},{"id":50,"body":"l4"},{"id":51,"body":"more"}]}}}`,
		`{"epoch","position":"7","from":"5","at":7,"changes":{"l":{"put":[{"id":60,"body":"l5"},{"id":61,"body":"more"},{"id":70,"body":"l6"},{"id":71,"body":"more"}]},"m":{"put":[{"id":71}]}}}`,
		`{"epoch","position":"9","from":"7","at":9,"changes":{"l":{"put":[{"id":80,"body":"l7"},{"id":81,"body":"more"},{"id":90,"body":"l8"},{"id":91,"body":"more"}]},"m":{"put":[{"id":81},{"id":91}]}}}`,
		`{"epoch","position":"11","from":"9","at":11,"changes":{"l":{"put":[{"id":100,"body":"l9"},{"id":101,"body":"more"},{"id":110,"body":"l10"},{"id":111,"body":"more"}]},"m":{"put":[{"id":101},{"id":111}]}}}`,
		`{"epoch","position":"12","at":12,"changes":{"l":{"put":[{"id":120,"body":"l11"},{"id":121,"body":"more"}]},"m":{"put":[{"id":121}]}}}`, // out of the ring
	)
	b.say("new")
	b.expect(m, `{"epoch","position":"13","at":13,"changes":{"l":{"put":[{"id":130,"body":"new"}]}}}`)
	if begun, failed := b.hub.Resumes(); begun != 2 || failed != 0 {
		t.Error(begun, failed)
	}
}

// What the log has is told as the rules say: of one's own rows, the columns that are granted.
func TestLogUnderRules(t *testing.T) {
	rels := logRelations()
	own, err := expr.Operator("=", []*expr.Node{expr.Column(1, app.Text, -1), {Kind: expr.KSubject, Type: app.Text, Pos: -1}}, -1)
	if err != nil {
		t.Fatal(err)
	}
	rels[1].Secured, rels[1].Rules = true, []expr.RowRule{{Name: "own", For: app.Select, Roles: []string{"public"}, Using: own}}
	rules := &auth.Rules{}
	rules.Use(&app.Definition{Grants: []app.Grant{{Role: "anon", Relation: "line", Allow: app.Select, Columns: []int{0, 2}}}}, rels...)
	b := newLogBenchOf(t, Options{Rules: rules, PageBytes: 40}, 700, 2, rels)
	for i := range 12 {
		b.happens(append(lineEdits(10*i, "ann", "x"), lineEdits(10*i+1, "anon", "y")...)...)
	}
	if b.store.Floor() < 6 {
		t.Fatal("the ring reaches back too far:", b.store.Floor())
	}
	m := b.connect(at(7, `{"id":"l","view":"line"},{"id":"x","view":"line","select":"who"}`))
	frames := b.frames(m)
	if len(frames) < 3 || !strings.Contains(frames[0], "has no column") || frames[1] != `{"resumed","id":"l","position":"7"}` {
		t.Fatal(frames)
	}
	told := strings.Join(frames[2:], " ")
	for i := range 12 {
		if got, want := strings.Count(told, fmt.Sprintf(`{"id":%d,"body":"y"}`, 10*i+1)), min(1, max(0, i-6)); got != want {
			t.Errorf("row %d is told %d times, want %d:\n%s", 10*i+1, got, want, told)
		}
	}
	if strings.Contains(told, `"x"`) || strings.Contains(told, "who") {
		t.Error("told what is another's or not granted:", told)
	}
	if begun, failed := b.hub.Resumes(); begun != 1 || failed != 0 {
		t.Error(begun, failed)
	}
}

// What the log names more than once, in vain, or of other rows is told once or not at all.
func TestLogNames(t *testing.T) {
	b := newLogBench(t, Options{}, 500, 2)
	for i := range 12 {
		b.say(fmt.Sprintf("l%d", i))
	}
	b.log.mu.named = map[uint64][]string{3: {"30", "77777"}, 4: {"30", "30"}, 5: {"20"}}
	m := b.connect(at(2, `{"id":"l","view":"line","select":"id","filter":"body=in.(l2,l3)"}`))
	b.expect(m, `{"resumed","id":"l","position":"2"}`, `{"epoch","position":"12","from":"2","at":12,"changes":{"l":{"put":[{"id":30},{"id":40}]}}}`)
	b.say("l2")
	b.expect(m, `{"epoch","position":"13","at":13,"changes":{"l":{"put":[{"id":130}]}}}`)
}

// Positions that are nobody's: the log's beginning is gone, another relation is not of the log, the relation was another one.
func TestLogGap(t *testing.T) {
	b := newLogBench(t, Options{}, 500, 2)
	for i := range 12 {
		b.say(fmt.Sprintf("l%d", i))
	}
	floor := b.store.Floor()
	b.log.mu.first = 4
	b.store.SetBirth(2, 5)
	gap := func(id string) string { return fmt.Sprintf(`{"gap","id":%q,"kept_from":"%d"}`, id, floor) }
	m := b.connect(at(3, `{"id":"l","view":"line","select":"id","filter":"id=eq.20"}`))
	b.expect(m, gap("l"), `{"snapshot","id":"l","position":"12","rows":[{"id":20}],"more":false}`)
	m = b.connect(at(4, `{"id":"t","view":"tally"}`))
	b.expect(m, gap("t"), `{"snapshot","id":"t","position":"12","key":["contestant"],"rows":[],"more":false}`)
	m = b.connect(at(4, subLong))
	b.expect(m, `{"snapshot","id":"g","position":"12","rows":[],"more":false}`)
	b.log.mu.broken = errors.New("it burns")
	m = b.connect(at(4, `{"id":"l","view":"line","select":"id","filter":"id=eq.20"}`))
	b.expect(m, `{"resumed","id":"l","position":"4"}`, gap("l"), `{"snapshot","id":"l","position":"12","rows":[{"id":20}],"more":false}`)
	if begun, failed := b.hub.Resumes(); begun != 1 || failed != 1 {
		t.Error(begun, failed)
	}
}

// Beside others, a subscription is not answered before all of it can be told in one frame; the others go on meanwhile.
func TestLogBesideOthers(t *testing.T) {
	b := newLogBench(t, Options{}, 500, 2)
	for i := range 12 {
		b.say(fmt.Sprintf("l%d", i))
	}
	floor := b.store.Floor()
	hold := make(chan struct{})
	b.log.mu.hold = hold
	m := b.connect(at(9, subLine+`,{"id":"t","view":"tally"}`))
	<-b.log.waiting
	m.awaitOutput()
	b.frames2(m, fmt.Sprintf(`{"gap","id":"t","kept_from":"%d"}`, floor), `{"snapshot","id":"t","position":"12","key":["contestant"],"rows":[],"more":false}`)
	b.happens(append(lineEdits(130, "ann", "n"), edit{rel: 0, vals: []*string{str("A"), str("1"), nil}})...)
	b.frames2(m, `{"epoch","position":"13","at":13,"changes":{"t":{"put":[{"contestant":"A","votes":1,"note":null}]}}}`)
	b.log.mu.Lock()
	b.log.mu.hold = nil
	b.log.mu.Unlock()
	close(hold)
	b.expect(m, `{"resumed","id":"l","position":"9"}`,
		`{"epoch","position":"13","from":"9","at":13,"changes":{"l":{"put":[{"id":100,"body":"l9"},{"id":110,"body":"l10"},{"id":120,"body":"l11"},{"id":130,"body":"n"}]}}}`)
	b.say("x")
	b.expect(m, `{"epoch","position":"14","at":14,"changes":{"l":{"put":[{"id":140,"body":"x"}]}}}`)
}

// frames2 is expect while a read of the log waits, so that nothing is quiet.
func (b *logBench) frames2(m *memConn, want ...string) {
	b.t.Helper()
	var got []string
	for len(got) < len(want) {
		frames, rest, err := serverFrames(m.take())
		if err != nil || len(rest) > 0 {
			b.t.Fatal(err, len(rest))
		}
		for _, f := range frames {
			if !strings.Contains(f, `"type":"welcome"`) {
				got = append(got, strings.NewReplacer(`aaaaaaaaaaaaaaaa.0-`, "", `"type":`, "", `,"key":["id"]`, "").Replace(f))
			}
		}
		runtime.Gosched()
	}
	if !slices.Equal(got, want) {
		b.t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A subscription that comes while the connection is brought up cannot share its positions: what is brought up begins anew with it.
func TestLogThenMore(t *testing.T) {
	b := newLogBench(t, Options{}, 500, 2)
	for i := range 12 {
		b.say(fmt.Sprintf("l%d", i))
	}
	hold := make(chan struct{})
	b.log.mu.hold = hold
	m := b.connect(at(9, `{"id":"l","view":"line","select":"id","filter":"id=gt.105"}`))
	<-b.log.waiting
	b.frames2(m, `{"resumed","id":"l","position":"9"}`)
	m.send(clientFrame(opText, true, []byte(`{"type":"subscribe","id":"t","view":"tally"}`)))
	b.expect(m, fmt.Sprintf(`{"gap","id":"l","kept_from":"%d"}`, b.store.Floor()),
		`{"snapshot","id":"l","position":"12","rows":[{"id":110},{"id":120}],"more":false}`,
		`{"snapshot","id":"t","position":"12","key":["contestant"],"rows":[],"more":false}`)
	close(hold)
}

// Who leaves in the middle, or ends the subscription, stops the reading.
func TestLogLeft(t *testing.T) {
	b := newLogBench(t, Options{}, 500, 2)
	for i := range 12 {
		b.say(fmt.Sprintf("l%d", i))
	}
	b.log.mu.hold = make(chan struct{})
	m := b.connect(at(9, subLine))
	<-b.log.waiting
	m.send(clientFrame(opText, true, []byte(`{"type":"unsubscribe","id":"l"}`)))
	for b.hub.group.Running()["push history"] > 0 {
		runtime.Gosched()
	}
	m.send(clientFrame(opText, true, []byte(`{"type":"subscribe","id":"t","view":"tally"}`)))
	b.expect(m, `{"resumed","id":"l","position":"9"}`, `{"snapshot","id":"t","position":"12","key":["contestant"],"rows":[],"more":false}`)
	m = b.connect(at(9, subLine))
	<-b.log.waiting
	m.hangUp()
	for b.hub.group.Running()["push history"] > 0 {
		runtime.Gosched()
	}
	if n := len(b.hub.past.turns); n != 0 {
		t.Errorf("%d turns are taken", n)
	}
}

// The log is trimmed while somebody is brought up: what he was told is right, and the rest is a gap.
func TestLogTrimmedMeanwhile(t *testing.T) {
	b := newLogBench(t, Options{PageBytes: 100}, 500, 2)
	for i := range 12 {
		b.say(fmt.Sprintf("l%d", i))
	}
	b.log.trims = map[int]uint64{2: 7}
	m := b.connect(at(3, `{"id":"l","view":"line","select":"id","filter":"id=lt.50"}`))
	b.expect(m, `{"resumed","id":"l","position":"3"}`,
		`{"epoch","position":"5","from":"3","at":5,"changes":{"l":{"put":[{"id":40}]}}}`,
		fmt.Sprintf(`{"gap","id":"l","kept_from":"%d"}`, b.store.Floor()),
		`{"snapshot","id":"l","position":"12","rows":[{"id":10}],"more":true}`, `{"snapshot","id":"l","position":"12","rows":[{"id":20}],"more":true}`,
		`{"snapshot","id":"l","position":"12","rows":[{"id":30}],"more":true}`, `{"snapshot","id":"l","position":"12","rows":[{"id":40}],"more":false}`)
}

// Too many are brought up at one time: who waits for 30 s gets his rows anew, and is alive until then.
func TestLogBusy(t *testing.T) {
	b := newLogBench(t, Options{}, 500, 2)
	for i := range 12 {
		b.say(fmt.Sprintf("l%d", i))
	}
	for range logHolders {
		b.hub.past.turns <- struct{}{}
	}
	m := b.connect(at(3, `{"id":"l","view":"line","select":"id","filter":"id=lt.20"}`))
	b.frames2(m, `{"resumed","id":"l","position":"3"}`)
	m.send(clientFrame(opText, true, []byte(`{"type":"unsubscribe","id":"nobody"}`)))
	for b.clock.turns.Load() == 0 {
		runtime.Gosched()
	}
	for range 2 { // in two steps: who has heard nothing for Options.StallTimeout while something is written to him reads too slowly
		b.clock.AwaitSleepers(2) // whoever looks through the connections, and who waits for his turn
		b.written(m)
		b.advance(logTurn/2 + time.Second)
	}
	got := slices.DeleteFunc(b.frames(m), func(f string) bool { return strings.HasSuffix(f, `"changes":{}}`) }) // heartbeats
	want := []string{fmt.Sprintf(`{"gap","id":"l","kept_from":"%d"}`, b.store.Floor()), `{"snapshot","id":"l","position":"12","rows":[{"id":10}],"more":false}`}
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for range logHolders {
		<-b.hub.past.turns
	}
}

// What happens while the last page is being read is not lost between log and ring, whether the ring still has it or not.
func TestLogThenLive(t *testing.T) {
	for _, more := range []int{1, 30} {
		b := newLogBench(t, Options{}, 500, 100)
		for i := range 12 {
			b.say(fmt.Sprintf("l%d", i))
		}
		hold := make(chan struct{})
		b.log.mu.hold = hold
		m := b.connect(at(10, `{"id":"l","view":"line","select":"id"}`))
		<-b.log.waiting
		b.frames2(m, `{"resumed","id":"l","position":"10"}`)
		for i := range more {
			b.happens(lineEdits(1000+i, "ann", "x")...)
		}
		b.log.mu.Lock()
		b.log.mu.hold = nil
		b.log.mu.Unlock()
		close(hold)
		got := strings.Join(b.frames(m), "\n")
		for i := range more {
			if n := strings.Count(got, fmt.Sprintf(`{"id":%d}`, 1000+i)); n != 1 {
				t.Errorf("line %d came %d times:\n%s", 1000+i, n, got)
			}
		}
		if strings.Contains(got, "gap") {
			t.Error(got)
		}
	}
}

// Clients that come back together have the log read once; those who come from elsewhere, or ask something else, have their own pages.
func TestLogTogether(t *testing.T) {
	b := newLogBench(t, Options{PageBytes: 40}, 700, 1)
	for i := range 20 {
		b.say(fmt.Sprintf("l%d", i), "more")
	}
	first := b.connect(at(2, subLine))
	want := b.frames(first)
	before := b.log.count()
	for range 5 {
		if got := b.frames(b.connect(at(2, subLine))); !slices.Equal(got, want) {
			t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	if n := b.log.count() - before; n > 5 {
		t.Errorf("the log was read %d times for clients that come from one position", n)
	}
	other := b.frames(b.connect(at(2, subLong)))
	if len(other) < 2 || !strings.Contains(other[1], `"put":[{"id":31}`) || !strings.Contains(other[len(other)-1], `"position":"20"`) {
		t.Error(strings.Join(other, "\n"))
	}
}

// A client that does not read holds one page and reads no further; one that was too slow for the ring goes on from the log.
func TestLogSlow(t *testing.T) {
	b := newLogBench(t, Options{PageBytes: 40}, 700, 1)
	for i := range 20 {
		b.say(fmt.Sprintf("l%d", i), "more")
	}
	m := newMemConn()
	m.limit(10)
	if p := b.hub.ServeConn(m, auth.Anonymous()); p != nil {
		t.Fatal(p)
	}
	m.send(clientFrame(opText, true, []byte(at(2, subLine))))
	b.quiet(m)
	if reads := b.log.count(); reads > 4 {
		t.Errorf("%d reads for a client that takes nothing", reads)
	}
	m.limit(-1)
	got := b.frames(m)
	if len(got) < 10 || !strings.Contains(got[len(got)-1], `"position":"20"`) || strings.Contains(strings.Join(got, ""), "gap") {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
	m.limit(10)
	for i := range 20 {
		b.say(fmt.Sprintf("m%d", i))
	}
	m.limit(-1)
	got = b.frames(m)
	if strings.Contains(strings.Join(got, ""), "gap") || !strings.Contains(strings.Join(got, ""), `"id":310`) || !strings.Contains(got[len(got)-1], `"position":"40"`) {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
}

// Random clients over real sockets, with a ring of a few epochs, a log, and names in it that mean nothing.
func TestLogModel(t *testing.T) {
	n := uint64(4)
	if testing.Short() {
		n = 2
	}
	if s := os.Getenv("LAASTER_SEEDS"); s != "" {
		seeds, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		n = seeds
	}
	for seed := uint64(1); seed <= n; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runLogModel(t, seed) })
	}
}

func runLogModel(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 11))
	all := func([]*string) bool { return true }
	by := func(who string) func([]*string) bool { return func(v []*string) bool { return *v[1] == who } }
	m := &model{seed: seed, calm: seed%2 == 0, again: map[string]bool{"line": true, "long": true}, queries: []modelQuery{
		{view: "line", match: all, cols: []int{0, 1, 2}},
		{view: "line", filter: "who=eq.w1", match: by("w1"), cols: []int{0, 1, 2}},
		{view: "line", sel: "who", filter: "who=eq.w2", match: by("w2"), cols: []int{0, 1}},
		{view: "long", match: all, cols: []int{0, 1, 2}},
		{view: "long", sel: "body", match: all, cols: []int{0, 2}},
		{view: "tally", match: all, cols: []int{0, 1, 2}},
	}}
	b := newLogBench(t, Options{Clock: run.System{}, Merge: time.Millisecond, PageBytes: 200 + r.IntN(2000), UnsentBytes: 4096,
		Limits: wire.Limits{HeartbeatSeconds: 1}}, []int{1 << 11, 1 << 13}[r.IntN(2)], 1+r.IntN(20))
	m.bench = b.bench
	addr, end := m.serve(t)
	defer end()

	clients := run.New(context.Background())
	const epochs = 200
	for i := range 8 {
		c := &modelClient{m: m, addr: addr, rand: rand.New(rand.NewPCG(seed, uint64(100+i))), events: i%4 == 3}
		clients.Go(fmt.Sprint("client ", i), func(context.Context) error { return c.live(epochs) })
	}
	id := 0
	for n := range epochs {
		var edits []edit
		for range r.IntN(3) {
			id++
			edits = append(edits, lineEdits(id, fmt.Sprintf("w%d", r.IntN(3)), strings.Repeat("x", r.IntN(12)))...)
		}
		if r.IntN(3) == 0 || n == epochs-1 {
			edits = append(edits, edit{rel: 0, vals: []*string{str(fmt.Sprintf("k%d", r.IntN(4))), str(fmt.Sprint(1000 + n)), nil}})
		}
		if n == epochs-1 { // concerns every query
			edits = append(append(edits, lineEdits(id+1, "w1", "last line")...), lineEdits(id+2, "w2", "last line")...)
		}
		var named []string
		if id > 0 && r.IntN(4) == 0 {
			named = append(named, fmt.Sprint(1+r.IntN(id)), "9999999")
		}
		m.mu.Lock()
		e := m.world.epoch(edits)
		m.mu.worlds = append(m.mu.worlds, m.world.clone())
		m.mu.Unlock()
		b.log.add(e, named...)
		m.store.Apply(e)
		m.mu.Lock()
		m.mu.moved.Broadcast()
		m.mu.Unlock()
		for range r.IntN(200) {
			runtime.Gosched()
		}
		if r.IntN(8) == 0 {
			m.flushed()
		}
	}
	m.mu.Lock()
	m.mu.over = true
	m.mu.moved.Broadcast()
	m.mu.Unlock()
	if err := clients.Wait(); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	begun, failed := m.hub.Resumes()
	t.Logf("%+v, %d from the log, %d of them in vain", m.hub.Stats(), begun, failed)
	if begun == 0 {
		t.Error("nobody was brought up from the log")
	}
}

// TestLogBehindPages: the log may have been read up to an earlier position than the rows of others on the connection that are still being sent.
func TestLogBehindPages(t *testing.T) {
	b := newLogBench(t, Options{}, 0, 2)
	for range 12 {
		b.say("x")
	}
	b.store.Apply(b.world.epoch(lineEdits(130, "ann", "n"))) // 13: the hub is not there yet
	q, p := newQuery(sight{rel: b.hub.relation("line")}, "select=id", false, true)
	if p != nil {
		t.Fatal(p)
	}
	f, p := b.hub.acquireFeed(q)
	if p != nil {
		t.Fatal(p)
	}
	c := &conn{h: b.hub, enc: webSocket}
	c.out.pages = []*paging{{}}
	c.advance(13, 0)
	u := &catchUp{members: []member{{"l", f}}, from: 9, stop: func() {}}
	bufs := c.joinFromLog(u, logPage{to: 11}, []part{{id: "l"}})
	if at := c.cursor.Load(); at != 13 || c.out.told != 13 || len(bufs) != 2 || !strings.Contains(string(bufs[1]), `"position":"aaaaaaaaaaaaaaaa.0-13","from":"aaaaaaaaaaaaaaaa.0-9"`) {
		t.Errorf("at %d, told %d: %s", at, c.out.told, bufs)
	}
}
