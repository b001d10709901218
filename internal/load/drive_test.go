package load

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"laaster/internal/kit/run"
)

// TestNothingIsOmitted: while a server holds one answer back, what becomes due meanwhile is charged with the whole wait.
func TestNothingIsOmitted(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	clock := run.NewManual(time.Unix(1000, 0))
	g := run.New(t.Context())
	arrived, release := make(chan struct{}), make(chan struct{})
	g.Go("server", func(context.Context) error {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		defer c.Close()
		in := bufio.NewReader(c)
		for i := range 10 {
			q, err := http.ReadRequest(in)
			if err != nil {
				return err
			}
			if _, err := in.Discard(int(q.ContentLength)); err != nil {
				return err
			}
			if i == 0 {
				close(arrived)
				<-release
			}
			body := fmt.Sprintf(`{"position":"log.0-%d","final":true,"accepted":2,"duplicates":0,"rejected":[]}`, 100+i)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
		return nil
	})
	s := make(Schedule, 10)
	for i := range s {
		s[i] = time.Duration(i) * 10 * time.Millisecond
	}
	p := newPlan(4, 4, 1, 2, 60)
	d := &drive{server: server{url: "http://" + l.Addr().String()}, way: OverHTTP, table: "t", conns: 1, clock: clock, start: clock.Now(), schedule: s, body: p.body,
		delays: NewDelays()}
	d.answers = make([]atomic.Uint64, len(s))
	g.Go("drive", d.run)
	<-arrived
	clock.Advance(90 * time.Millisecond) // all are due now
	close(release)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	c := d.delays.Curve("")
	if c.Count != 10 || c.Mean < 44.9 || c.Mean > 45.1 || c.Max < 89.9 || c.Max > 90.1 {
		t.Errorf("delays are %+v, want 90, 80, …, 0 ms", c)
	}
	if d.sent.Load() != 10 || d.accepted.Load() != 20 || d.late.Load() != 8 || d.answer(9) != 109 || d.last.Load() != 109 {
		t.Errorf("sent %d, accepted %d, late %d, last %d", d.sent.Load(), d.accepted.Load(), d.late.Load(), d.last.Load())
	}
}

// TestAnswers: what an answer says, and what is none.
func TestAnswers(t *testing.T) {
	ok := `{"position":"log.0-7","accepted":3}`
	for text, want := range map[string]string{
		"HTTP/1.1 200 OK\r\nContent-Length: 35\r\n\r\n" + ok:                                  "200 7 3 0s",
		"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\ncontent-length: 4\r\n\r\nbusy": "503 0 0 2s",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}":                                      "error",
		"HTTP/1.1 200 OK\r\n\r\n":                                                             "error",
		"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n":                              "error",
		"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n" + ok:                                  "error",
		"SSH-2.0\r\n": "error",
		"":            "error",
	} {
		a, b := net.Pipe()
		g := run.New(t.Context())
		g.Go("server", func(context.Context) error {
			_, _ = b.Write([]byte(text))
			return b.Close()
		})
		o := &httpOutlet{conn: a, in: bufio.NewReader(a)}
		got, err := o.read()
		o.close()
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		is := fmt.Sprintf("%d %d %d %s", got.status, got.seq, got.accepted, got.after)
		if err != nil {
			is = "error"
		}
		if is != want {
			t.Errorf("%.60q: %s (%v), want %s", text, is, err, want)
		}
	}
}

func TestDefaults(t *testing.T) {
	for _, p := range Profiles() {
		if err := Defaults(&Options{Profile: p, URL: "http://127.0.0.1"}); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	small := Options{Profile: "channels", Clients: 20, URL: "http://127.0.0.1"}
	if err := Defaults(&small); err != nil || small.Batch != 20 {
		t.Errorf("20 channels are changed by requests of %d: %v", small.Batch, err)
	}
	for _, bad := range []Options{{Profile: "x"}, {Profile: "fanout", Clients: -1}, {Profile: "fanout", Rate: -1}, {Profile: "fanout", Batch: 100,
		Rows: 10}, {Profile: "fanout", Over: "x"},
		{Profile: "fanout", Length: -1}, {Profile: "idle", Rate: 5}, {Profile: "fanout", Rounds: 2}, {Profile: "ingest", Rate: 5,
			Rates: []float64{5}}, {Profile: "ingest", Rates: []float64{0}},
		{Profile: "fanout", To: 5, Saturate: true}, {Profile: "storm", Every: true, To: 5}, {Profile: "fanout", To: -5}, {Profile: "fanout",
			RowBytes: 10}, {Profile: "fanout", Clients: 2_000_000}} {
		if err := Defaults(&bad); err == nil {
			t.Errorf("taken: %+v", bad)
		}
	}
	for to, want := range map[string]bool{"http://127.0.0.1:1": true, "http://[::1]:1": true, "http://127.9.9.9": true, "http://10.0.0.1:1": false,
		"http://192.0.2.1": false} {
		if own, err := Loopback(t.Context(), to); err != nil || own != want {
			t.Errorf("%s: %v, %v", to, own, err)
		}
	}
	for _, bad := range []string{"", "127.0.0.1:80", "ftp://127.0.0.1", "http://", "http://%zz"} {
		if own, err := Loopback(t.Context(), bad); err == nil || own {
			t.Errorf("%q is taken", bad)
		}
	}
	if !slices.Contains(Profiles(), "ingest") {
		t.Error("no ingest")
	}
}

// TestNoServer: where nobody listens there is an error and nothing to write to.
func TestNoServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for _, over := range []string{OverHTTP, OverWS} {
		if o, err := newOutlet(t.Context(), over, server{url: "http://" + l.Addr().String()}); err == nil || o != nil {
			t.Errorf("%s: %v %v", over, o, err)
		}
	}
}
