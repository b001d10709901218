package client

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"laaster/internal/kit/run"
)

// TestOrder: rows sort as PostgreSQL sorts them.
func TestOrder(t *testing.T) {
	for _, c := range []struct{ order, rows string }{ // the rows are in the order that is wanted
		{"v", `1 2 10 null`},
		{"v.desc", `null 10 2 1`},
		{"v.desc.nullslast", `10 2 1 null`},
		{"v.asc.nullsfirst", `null -1 1`},
		{"v", `"A" "B" "a" "Ä" "日" "\ud83d\ude00"`},
		{"v", `false true null`},
		{"v", `"-Infinity" -1e300 0.5 1 1e300 "Infinity" "NaN" null`},
		{"v", `9007199254740992 9007199254740993 9007199254740993.5 123456789012345678901234567890 123456789012345678901234567891`},
		{"v", `-0.30000000000000000001 -0.3 0.3 0.30000000000000000001`},
		{"v", `"2022-05-14T20:00:00.000000Z" "2022-05-14T20:00:00.000001Z"`},
		{"w,v.desc", `3 2 1`},
	} {
		by := terms(c.order, []string{"k"})
		var want []string
		for i, v := range strings.Fields(c.rows) {
			want = append(want, fmt.Sprintf(`{"k":%d,"v":%s}`, i, v))
		}
		got := slices.Clone(want)
		rand.New(rand.NewPCG(1, 2)).Shuffle(len(got), func(i, j int) { got[i], got[j] = got[j], got[i] })
		slices.SortFunc(got, func(a, b string) int { return compareBy(by, sortKey([]byte(a), by), sortKey([]byte(b), by)) })
		if !slices.Equal(got, want) {
			t.Errorf("%s: %s", c.order, strings.Join(got, " "))
		}
	}
}

// TestMerging: however events are merged for a slow reader, they lead from the rows before to the rows after.
func TestMerging(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := newStream(1 + r.IntN(3))
		now := map[string]string{}
		model := map[string]string{}
		merged, took := 0, 0
		read := func() {
			e, ok := s.take()
			if !ok {
				return
			}
			took++
			merged += e.Merged
			met := map[string]bool{}
			for _, c := range e.Changes {
				old, there := model[c.id]
				if met[c.id] || there != (c.Op != Insert) || there && old != string(c.Old) || c.Op == "" {
					t.Fatalf("seed %d: %+v after %v", seed, c, model)
				}
				met[c.id] = true
				if c.Op == Delete {
					delete(model, c.id)
				} else {
					model[c.id] = string(c.Row)
				}
			}
		}
		for i := range 400 {
			var e Event
			e.Kind = Changed
			for _, k := range r.Perm(12)[:1+r.IntN(4)] {
				id := fmt.Sprint(k)
				old, there := now[id]
				row := fmt.Sprint(i)
				switch {
				case !there:
					e.Changes = append(e.Changes, Change{Op: Insert, id: id, Row: Row(row)})
					now[id] = row
				case r.IntN(2) == 0:
					e.Changes = append(e.Changes, Change{Op: Update, id: id, Row: Row(row), Old: Row(old)})
					now[id] = row
				default:
					e.Changes = append(e.Changes, Change{Op: Delete, id: id, Old: Row(old)})
					delete(now, id)
				}
			}
			s.put(e)
			if n := len(s.mu.queue); n > s.limit {
				t.Fatalf("%d events are held", n)
			}
			if n := len(s.mu.queue[len(s.mu.queue)-1].Changes); n > 250 {
				t.Fatalf("%d changes of 12 rows are held", n)
			}
			if r.IntN(20) == 0 {
				read()
			}
		}
		for len(s.mu.queue) > 0 {
			read()
		}
		if fmt.Sprint(model) != fmt.Sprint(now) || merged+took != 400 {
			t.Fatalf("seed %d: %v and not %v; %d taken, %d merged", seed, model, now, took, merged)
		}
	}
}

// TestKeys: a key is the same however its JSON is written.
func TestKeys(t *testing.T) {
	key := []string{"a", "b"}
	want := string(rowKey(nil, []byte(`{"b":"xäy","a":1}`), key))
	for _, row := range []string{`{"a":1,"b":"x\u00e4y","c":[{"a":2}]}`, ` { "c" : "}\"" , "b" : "xäy" , "a" : 1 } `, `{"\u0061":1,"b":"xäy"}`} {
		if !json.Valid([]byte(row)) {
			t.Fatal(row)
		}
		if got := string(rowKey(nil, []byte(row), key)); got != want {
			t.Errorf("%s: %s, want %s", row, got, want)
		}
	}
	if got := string(delKey(nil, []byte(` [ 1 , "x\u00e4y" ] `))); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := string(rowKey(nil, []byte(`{"a":null,"b":{"x": [1, 2]}}`), key)); got != `null,{"x":[1,2]}` {
		t.Error(got)
	}
	many := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"}
	if got := string(rowKey(nil, []byte(`{"i":9,"a":1}`), many)); got != `1,null,null,null,null,null,null,null,9` {
		t.Error(got)
	}
}

// idle is a client that is never connected, with a session that believes it is.
func idle() (*Client, *session) {
	opt, at, err := Options{Clock: run.NewManual(time.UnixMilli(0))}.prepared("http://127.0.0.1:1")
	if err != nil {
		panic(err)
	}
	c := &Client{opt: opt, at: at, subs: map[string]*Subscription{}, states: map[chan State]bool{}}
	if err := c.writes.open(&c.opt); err != nil {
		panic(err)
	}
	s := &session{c: c, wake: make(chan struct{}, 1), heard: opt.Clock.Now()}
	c.session = s
	return c, s
}

// FuzzFrames: no frame of a server makes the client fail.
func FuzzFrames(f *testing.F) {
	for _, seed := range []string{
		`{"type":"welcome","now":1,"limits":{},"connection":"x"}`, `{"type":"snapshot","id":"s1","position":"l.0-1","key":["k"],"rows":[{"k":1,"v":"x\u0041"}],"more":false}`,
		`{"type":"epoch","position":"l.0-2","at":1.5,"changes":{"s1":{"put":[{"k":2}],"del":[[1],["\ud800"]]}}}`, `{"type":"signals","id":"s1","full":true,"key":["k"],"put":[{}],"count":3,"more":true}`,
		`{"type":"resumed","id":"s1","position":"l.0-1","key":["v","k"]}`, `{"type":"gap","id":"s1"}`, `{"type":"error","id":"s1","error":{"code":"busy","retry":"after"}}`,
		`{"type":"freshness","id":"s1","state":"stale"}`, `{"type":"goodbye","retry_after_ms":-1}`, `{"type":"pong","t":1e300,"now":-1}`, `{"type":"result","id":"w1"}`,
		"{\"type\":\"epoch\",\"changes\":[]}\n{\"type\":\"snapshot\",\"id\":\"s1\",\"key\":{},\"rows\":{},\"more\":1}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, frames string) {
		c, s := idle()
		sub := c.Subscribe("v", Query{Order: "v.desc"})
		st := sub.listen()
		s.open = true
		for _, text := range append(strings.Split(frames, "\n"), strings.Split(frames, "\n")...) {
			r, err := readFrame([]byte(text))
			if err != nil {
				continue
			}
			if r.kind == "welcome" {
				s.open = false
			}
			c.mu.Lock()
			s.frame(&r, []byte(text))
			c.mu.Unlock()
			s.open = true
			sub.Rows()
			sub.Count()
			for {
				if _, ok := st.take(); !ok {
					break
				}
			}
			if len(s.out) > 100 {
				s.out = nil
			}
		}
	})
}

// FuzzPosition: positions that cannot be read are never before another.
func FuzzPosition(f *testing.F) {
	f.Add("l.0-1", "l.0-2")
	f.Add("l.0-1,1-4", "l")
	f.Fuzz(func(t *testing.T, a, b string) {
		if before(a, b) && before(b, a) {
			t.Errorf("%q and %q are each before the other", a, b)
		}
		x, ok := parsePosition(a)
		if ok && fmt.Sprintf("%s-%d", x.log, x.seq) != a && !strings.Contains(a, "-0") && !strings.Contains(a, "-+") {
			t.Errorf("%q was read as %+v", a, x)
		}
	})
}

// TestAttempts: the time of the first attempt counts whose effect is not known.
func TestAttempts(t *testing.T) {
	c, _ := idle()
	q := &c.writes
	now := time.UnixMilli(1e12)
	begin := func(p *Pending, want bool) {
		t.Helper()
		now = now.Add(11 * time.Minute)
		if err := q.begin(p, now); (err == nil) != want {
			t.Fatalf("%v", err)
		}
	}
	for _, unsure := range []bool{false, true} {
		p, err := c.Enqueue(Write{Table: "t", Rows: []int{}})
		if err != nil {
			t.Fatal(err)
		}
		begin(p, true)
		q.ended(p, true)
		begin(p, true)
		if unsure {
			q.ended(p, false)
			now = now.Add(-9 * time.Minute) // so that the next one is in time
			begin(p, true)
		}
		q.ended(p, true) // a refusal says nothing of the attempt before
		begin(p, !unsure)
	}
	if !noEffect(&Problem{Code: "busy", Retry: true}) || noEffect(&Problem{Code: "unresolved", Retry: true}) || noEffect(&Problem{Code: CodeUnreachable, Retry: true}) {
		t.Error("which refusals have no effect")
	}
}
