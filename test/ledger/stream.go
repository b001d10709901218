package ledger

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"laaster/internal/kit/run"
)

// Stream is a live subscriber to one view by Server-Sent Events. It resumes with Last-Event-ID as a browser does.
type Stream struct {
	target *Target
	book   *Book
	client *http.Client
	mu     struct {
		sync.Mutex
		rows  *rows
		at    Position
		told  Position
		moved chan struct{}
	}
}

// NewStream starts a subscriber to view in g.
func NewStream(g *run.Group, target *Target, book *Book, view string) *Stream {
	s := &Stream{target: target, book: book, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	s.mu.rows, s.mu.moved = &rows{view: view}, make(chan struct{})
	g.Go("stream", s.run)
	return s
}

func (s *Stream) run(ctx context.Context) error {
	for {
		url, _, err := s.target.Get(ctx)
		if err != nil {
			return err
		}
		err = s.read(ctx, url)
		if v := (*violation)(nil); asViolation(err, &v) {
			s.mu.Lock()
			s.book.Failf("stream of %s: %s", s.mu.rows.view, v.text)
			s.mu.at, s.mu.rows = Position{}, &rows{view: s.mu.rows.view}
			s.mu.Unlock()
		}
		select {
		case <-run.System{}.After(retryPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// read follows one connection until it breaks.
func (s *Stream) read(ctx context.Context, url string) error {
	s.mu.Lock()
	at, view := s.mu.at, s.mu.rows.view
	s.mu.rows.begun = false
	s.mu.Unlock()
	q, err := http.NewRequestWithContext(ctx, "GET", url+"/v1/views/"+view, nil)
	if err != nil {
		return err
	}
	q.Header.Set("Accept", "text/event-stream")
	if at != (Position{}) {
		q.Header.Set("Last-Event-ID", fmt.Sprintf("%s.0-%d", at.Log, at.Seq))
	}
	r, err := s.client.Do(q)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", r.Status)
	}
	return eachEvent(r.Body, func(event, data, id string) error { return s.take(event, data, id, at != (Position{})) })
}

// eachEvent calls fn with each event of a stream.
func eachEvent(body io.Reader, fn func(event, data, id string) error) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxFrame)
	event, data, id := "", "", ""
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "event":
			event = value
		case "data":
			data = value
		case "id":
			id = value
		case "":
			if err := fn(event, data, id); err != nil {
				return err
			}
			event, data, id = "", "", ""
		}
	}
	return lines.Err()
}

func (s *Stream) take(event, data, id string, asked bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		close(s.mu.moved)
		s.mu.moved = make(chan struct{})
	}()
	var f struct {
		frame
		changes
	}
	if data != "" {
		if err := json.Unmarshal([]byte(data), &f); err != nil {
			return wrong("an event that cannot be read: %.200q", data)
		}
	}
	r := s.mu.rows
	var err error
	switch event {
	case "snapshot":
		err = r.page(f.Key, f.Rows, f.More)
	case "epoch":
		if !r.complete {
			return wrong("changes before the rows")
		}
		err = r.apply(&f.changes, f.From == "")
	case "resumed":
		s.book.Count("resumed")
		if !asked || f.Position == "" || s.mu.at.Seq == 0 {
			return wrong("resumed at %q, which it did not ask for", f.Position)
		}
	case "gap":
		s.book.Count("gaps")
		r.complete = false
	}
	if err != nil {
		return wrong("%s %s: %v", event, f.Position, err)
	}
	if id == "" {
		return nil
	}
	p := s.book.told(id, "")
	if p.Log == s.mu.told.Log && p.Seq < s.mu.told.Seq {
		return wrong("%q at %s after position %d was told: it fell", event, id, s.mu.told.Seq)
	}
	s.mu.at, s.mu.told = p, p
	return nil
}

// Settle waits until the subscriber has the rows that its view had at a position, or later, and compares them. It returns what differs.
func (s *Stream) Settle(ctx context.Context, at Position, want []string) string {
	for {
		s.mu.Lock()
		d, moved, now := differ(s.mu.rows.list(), want, "live", "read"), s.mu.moved, s.mu.at
		s.mu.Unlock()
		if d == "" || now.Log == at.Log && now.Seq > at.Seq {
			return d
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Sprintf("at %d, waiting for %d: %s", now.Seq, at.Seq, d)
		}
	}
}
