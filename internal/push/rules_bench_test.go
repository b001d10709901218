package push

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"laaster/internal/auth"
	"laaster/internal/kit/run"
	"laaster/internal/view"
	"laaster/internal/wire"
)

// seatsApp has memberships whose key begins with the member, so that a new subscriber's are found without looking at those of others.
const seatsApp = roomsApp + `
CREATE TABLE talks (room text, id text, votes bigint, PRIMARY KEY (room, id));
CREATE TABLE seats (member text, room text, PRIMARY KEY (member, room));
GRANT SELECT ON talks TO reader;
ALTER TABLE talks ENABLE ROW LEVEL SECURITY;
CREATE POLICY rooms ON talks USING (room IN (SELECT room FROM seats WHERE member = auth_subject()));
`

// BenchmarkRules is 100 changes an epoch, each of a row that one of the same 100 subscribers sees, and others who all ask for the same view and see rows of their own only, by a rule that compares a column with the
// subject, or by the rooms that each is a member of. What a change costs is to be the same however many there are who must not see it.
func BenchmarkRules(b *testing.B) {
	for _, form := range []struct {
		name, view string
		row        func(i int, votes string) []*string
	}{
		{"own", "notes", func(i int, votes string) []*string {
			return []*string{str(fmt.Sprint("n", i)), str(fmt.Sprint("u", i)), &votes}
		}},
		{"rooms", "talks", func(i int, votes string) []*string { return []*string{str(fmt.Sprint("r", i)), str("p"), &votes} }},
	} {
		for _, conns := range []int{100, 1000, 10000} {
			b.Run(fmt.Sprintf("%s/%d", form.name, conns), func(b *testing.B) { benchRules(b, form.view, conns, form.row) })
		}
	}
}

// BenchmarkLook is a look at 10,000 connections with tokens on which nothing happens, when a token was revoked, and when none was.
func BenchmarkLook(b *testing.B) {
	p, rules := compiled(b, seatsApp)
	store := view.New(p.Relations, view.Options{})
	hub, err := NewHub(context.Background(), Options{Store: store, Log: testLog, Rules: rules, Principal: byHeader, CloseTimeout: time.Millisecond, Clock: run.NewManual(time.UnixMilli(0))})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		for _, c := range hub.connections() {
			c.close()
		}
		if err := hub.Close(); err != nil {
			b.Error(err)
		}
	})
	now := hub.now()
	for i := range 10_000 {
		who := reader1(fmt.Sprint("u", i))
		who.Token = &auth.Token{Expires: time.UnixMilli(now + 3_600_000)}
		c := newConn(webSocket, who)
		c.sink = nowhere{}
		if p := hub.open(c); p != nil {
			b.Fatal(p)
		}
		c.drain()
		c.hello(&wire.HelloFrame{Subscribe: []wire.Subscription{{ID: "a", View: "notes"}}})
		defer hub.opening.Done()
	}
	for _, revoked := range []bool{true, false} {
		b.Run(fmt.Sprintf("revoked=%t", revoked), func(b *testing.B) {
			revised := uint64(1)
			hub.opt.Revised = func() uint64 { return revised }
			var looks looks
			hub.lookThrough(&looks, now) // hellos
			hub.lookThrough(&looks, now)
			others := make([]byte, 64<<20) // what the processor's caches hold in between
			for range b.N {
				b.StopTimer()
				for j := 0; j < len(others); j += 64 {
					others[j]++
				}
				if revoked {
					revised++
				}
				b.StartTimer()
				hub.lookThrough(&looks, now)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10_000, "ns/connection")
		})
	}
}

func benchRules(b *testing.B, name string, conns int, row func(i int, votes string) []*string) {
	const changed, rows = 100, 10_000
	p, rules := compiled(b, seatsApp)
	ids := rooms{}
	for _, rel := range p.Relations {
		ids[rel.Name] = rel.ID
	}
	store, w := view.New(p.Relations, view.Options{}), newWorld(p.Relations)
	sent := make(chan uint64, 1)
	hub, err := NewHub(context.Background(), Options{Store: store, Log: testLog, Rules: rules, Principal: byHeader, Merge: time.Nanosecond,
		CloseTimeout: time.Millisecond, Sent: func(_, to uint64) { sent <- to }})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		for _, c := range hub.connections() {
			c.close()
		}
		if err := hub.Close(); err != nil {
			b.Error(err)
		}
	})
	var edits []edit
	for i := range rows {
		edits = append(edits, edit{rel: ids[name], vals: row(i, "0")},
			edit{rel: ids["seats"], vals: []*string{str(fmt.Sprint("u", i)), str(fmt.Sprint("r", i))}})
	}
	store.Apply(w.epoch(edits))
	<-sent
	for i := range conns {
		c := newConn(webSocket, reader1(fmt.Sprint("u", i)))
		c.sink = nowhere{}
		if p := hub.open(c); p != nil {
			b.Fatal(p)
		}
		c.drain()
		c.hello(&wire.HelloFrame{Subscribe: []wire.Subscription{{ID: "a", View: name}}})
		defer hub.opening.Done()
	}
	for hub.Stats().Shapes < conns {
		runtime.Gosched()
	}
	b.ReportAllocs()
	var spent time.Duration
	const warm = 3
	for i := range warm + b.N {
		if i == warm {
			spent = 0
			b.ResetTimer()
		}
		b.StopTimer()
		edits := make([]edit, changed)
		for j := range edits {
			edits[j] = edit{rel: ids[name], vals: row(j, fmt.Sprint(i+1))}
		}
		e := w.epoch(edits)
		b.StartTimer()
		before := cpu()
		store.Apply(e)
		<-sent
		spent += cpu() - before
	}
	b.ReportMetric(float64(spent.Nanoseconds())/1000/float64(b.N)/changed, "µsCPU/change")
}
