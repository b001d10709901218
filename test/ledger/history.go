package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// History is what a server showed: all rows at the end, and those of one view at a position in the middle, from which a reader may resume.
type History struct {
	Rows   map[string][]string // by view, canonical and sorted; without those that move with the clock
	At     Position
	Middle Position
	view   string
	middle *rows
}

// Mark notes where in its history the server is now, for the reader who will resume there. The producers must be at rest.
func (r *Rig) Mark(h *History) error {
	h.view = "by_life"
	h.middle = &rows{view: h.view, key: []string{"producer", "life"}, byKey: map[string]string{}}
	var list []json.RawMessage
	at, err := r.lines(h.view, "", func(line []byte) error {
		list = append(list, append([]byte{}, line...))
		return nil
	})
	if err != nil {
		return err
	}
	h.Middle = at
	return h.middle.page(h.middle.key, list, false)
}

// Remember notes what the server shows now. The producers must be at rest.
func (r *Rig) Remember(h *History) (err error) {
	h.Rows = map[string][]string{}
	for _, v := range names() {
		if v == "recent" {
			continue
		}
		if h.Rows[v], h.At, err = r.read(v, ""); err != nil {
			return err
		}
	}
	return nil
}

// Same compares what the server shows with a history, and has a reader resume in its middle. What differs is returned, empty when nothing does; the
// error is one of reading, which a server may give where it would otherwise have to show what is wrong.
func (r *Rig) Same(ctx context.Context, h *History) (string, error) {
	for _, v := range names() {
		if v == "recent" {
			continue
		}
		got, at, err := r.read(v, "")
		if err != nil {
			return "", err
		}
		if at.Log == h.At.Log && at.Seq < h.At.Seq {
			return fmt.Sprintf("it is at %d and was at %d", at.Seq, h.At.Seq), nil
		}
		if d := differ(got, h.Rows[v], "now", "before"); d != "" {
			return "view " + v + ": " + d, nil
		}
	}
	return r.resume(ctx, h)
}

// resume follows a view from the middle of a history to its end.
func (r *Rig) resume(ctx context.Context, h *History) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, requestPatience)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, "GET", r.Server.URL+"/v1/views/"+h.view, nil)
	if err != nil {
		return "", err
	}
	q.Header.Set("Accept", "text/event-stream")
	q.Header.Set("Last-Event-ID", fmt.Sprintf("%s.0-%d", h.Middle.Log, h.Middle.Seq))
	a, err := r.client.Do(q)
	if err != nil {
		return "", err
	}
	defer a.Body.Close()
	mine := &rows{view: h.view, key: h.middle.key, byKey: map[string]string{}, complete: true}
	for k, v := range h.middle.byKey {
		mine.byKey[k] = v
	}
	s := &Stream{book: NewBook()}
	s.mu.rows, s.mu.at, s.mu.moved = mine, h.Middle, make(chan struct{})
	done := errors.New("done")
	err = eachEvent(a.Body, func(event, data, id string) error {
		if err := s.take(event, data, id, true); err != nil {
			return err
		}
		if mine.complete && differ(mine.list(), h.Rows[h.view], "resumed", "before") == "" {
			return done
		}
		return nil
	})
	if v := (*violation)(nil); asViolation(err, &v) {
		return "resumed in the middle: " + v.text, nil
	}
	if err == done {
		return "", nil
	}
	return "resumed in the middle: " + differ(mine.list(), h.Rows[h.view], "resumed", "before"), nil
}
