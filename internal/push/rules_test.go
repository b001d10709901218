package push

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// roomsBench is a bench over roomsApp.
func roomsBench(t *testing.T, opt Options) (*bench, rooms) {
	p, rules := compiled(t, roomsApp)
	opt.Rules, opt.Principal = rules, byHeader
	b, names := newBenchOf(t, opt, 64<<20, p.Relations), rooms{}
	for _, rel := range p.Relations {
		names[rel.Name] = rel.ID
	}
	return b, names
}

// happens applies one epoch, 10 ms after the last, and waits until it is flushed.
func (b *bench) happens(edits ...edit) {
	b.advance(10 * time.Millisecond)
	b.apply(edits...)
	b.flushed()
}

func (b *bench) join(who, hello string) *memConn {
	b.t.Helper()
	m := newMemConn()
	if p := b.hub.ServeConn(m, reader1(who)); p != nil {
		b.t.Fatal(p)
	}
	m.send(clientFrame(opText, true, []byte(hello)))
	b.quiet(m)
	return m
}

// told returns the frames that came, each cut to its beginning.
func (b *bench) told(m *memConn, beginning int) (out []string) {
	b.t.Helper()
	b.quiet(m)
	frames, _, err := serverFrames(m.take())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range frames {
		if !strings.Contains(f, `"welcome"`) {
			out = append(out, f[:min(len(f), beginning)])
		}
	}
	return out
}

// TestWideTurn: a membership that brings more rows than a frame should have begins the subscription anew, and only that one.
func TestWideTurn(t *testing.T) {
	b, names := roomsBench(t, Options{})
	var edits []edit
	long := strings.Repeat("p", 1000)
	for i := range 1500 {
		edits = append(edits, edit{rel: names["posts"], vals: []*string{str("r1"), str(fmt.Sprint(long, i)), str("1")}})
	}
	b.happens(append(edits, edit{rel: names["posts"], vals: []*string{str("r2"), str("p"), str("2")}})...)
	m := b.join("ann", `{"type":"hello","subscribe":[{"id":"a","view":"posts"},{"id":"b","view":"posts","filter":"room=eq.r2"}]}`)
	b.told(m, 0)
	b.happens(edit{rel: names["members"], vals: []*string{str("r2"), str("ann"), str("9")}})
	if got := b.told(m, 40); len(got) != 1 || !strings.HasPrefix(got[0], `{"type":"epoch"`) {
		t.Fatal(got)
	}
	b.happens(edit{rel: names["members"], vals: []*string{str("r1"), str("ann"), str("9")}})
	got := b.told(m, 30)
	if len(got) < 6 || !strings.HasPrefix(got[0], `{"type":"gap","id":"a"`) {
		t.Fatalf("%q", got)
	}
	for _, f := range got[1:] {
		if !strings.HasPrefix(f, `{"type":"snapshot","id":"a"`) {
			t.Fatalf("%q", got)
		}
	}
}

// TestMemberBounds: a set has a bound, at the beginning and while it is followed; what was held for sets is given back.
func TestMemberBounds(t *testing.T) {
	b, names := roomsBench(t, Options{})
	room := func(who string, i int) edit {
		return edit{rel: names["members"], vals: []*string{str(fmt.Sprint("r", i)), &who, str("9")}}
	}
	var edits []edit
	for i := range mostMemberValues {
		edits = append(edits, room("ann", i), room("bob", i))
	}
	b.happens(append(edits, room("bob", mostMemberValues), edit{rel: names["posts"], vals: []*string{str("r7"), str("p"), str("1")}})...)
	read := func(who string) string {
		w := httptest.NewRecorder()
		b.hub.ServeView(w, viewRequest("GET", "/v1/views/posts Who:"+who))
		return fmt.Sprint(w.Code, " ", w.Body.String())
	}
	if got := read("bob"); !strings.Contains(got, "too_many") {
		t.Error(got)
	}
	if got := read("ann"); got != `200 [{"room":"r7","id":"p","votes":1}]`+"\n" {
		t.Error(got)
	}
	const hello = `{"type":"hello","subscribe":[{"id":"a","view":"posts"}]}`
	m, o := b.join("ann", hello), b.join("bob", hello)
	if got := b.told(m, 27); len(got) != 1 || got[0] != `{"type":"snapshot","id":"a"` {
		t.Errorf("%q", got)
	}
	if got := b.told(o, 1000); len(got) != 1 || !strings.Contains(got[0], "too_many") {
		t.Errorf("%q", got)
	}
	b.happens(room("ann", mostMemberValues)) // one too many now
	if got := b.told(m, 1000); len(got) != 2 || !strings.Contains(got[0], `"gap"`) || !strings.Contains(got[1], "too_many") {
		t.Errorf("%q", got)
	}
	if got := read("ann"); !strings.Contains(got, "too_many") {
		t.Error(got)
	}
	gone := room("ann", 3)
	gone.gone = true
	b.happens(gone)
	if got := read("ann"); !strings.HasPrefix(got, "200 [{") {
		t.Error(got)
	}
	if n := b.hub.memberBytes.Load(); n < mostMemberValues*memberRowBytes || n > 4<<20 {
		t.Error(n, "bytes for one set")
	}
	b.hub.mu.Lock()
	defer b.hub.mu.Unlock()
	if len(b.hub.mu.members) != 2 || len(b.hub.mu.idle) != 2 || len(b.hub.mu.unguided) != 0 {
		t.Error(len(b.hub.mu.members), "sets,", len(b.hub.mu.idle), "idle,", len(b.hub.mu.unguided), "feeds without a condition")
	}
}
