package ledger

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"laaster/internal/kit/run"
)

// inFlight is how many writes of a socket wait for their answers at a time.
const inFlight = 6

// pending is a write on a socket without an answer.
type pending struct {
	id       string
	events   []Event
	frame    []byte
	repeated bool
}

// socket writes over a WebSocket, several at a time, until it is told to rest. What was not answered when a connection broke is sent again on the
// next one: half of the writes carry ids of their own, the others a key.
func (p *producer) socket(ctx context.Context) error {
	var open []*pending
	for {
		url, _, err := p.load.target.Get(ctx)
		if err != nil {
			return err
		}
		s, err := dial(ctx, url)
		if err == nil {
			open = p.converse(s, open)
			s.close()
			if len(open) == 0 && p.load.gate.resting() {
				return nil
			}
		}
		select {
		case <-run.System{}.After(retryPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// converse writes on one connection until it breaks, or until nothing is open and producers are to rest. It returns what is open.
func (p *producer) converse(s *socket, open []*pending) []*pending {
	if s.send([]byte(`{"type":"hello","client":{"name":"ledger","version":"1"}}`)) != nil {
		return open
	}
	for _, w := range open {
		w.repeated = true
		if s.send(w.frame) != nil {
			return open
		}
	}
	for {
		for len(open) < inFlight && !p.load.gate.resting() {
			w := p.write()
			open = append(open, w)
			if s.send(w.frame) != nil {
				return open
			}
		}
		if len(open) == 0 {
			return nil
		}
		s.patience(requestPatience)
		b, err := s.next()
		if err != nil {
			p.load.book.Count("socket broken")
			return open
		}
		var again bool
		if open, again = p.answered(b, open); again {
			return open
		}
	}
}

// write makes a write and notes its events.
func (p *producer) write() *pending {
	w := &pending{id: strconv.FormatInt(p.seq, 10)}
	frame := map[string]any{"type": "write", "id": w.id, "table": "events"}
	ids := p.rng.IntN(2) == 0
	if !ids {
		frame["key"] = p.uuid()
	}
	w.events = p.events(ids)
	frame["rows"] = w.events
	w.frame, _ = json.Marshal(frame) // of plain values
	return w
}

// answered takes a frame of the server; again says that what is open is to be sent again.
func (p *producer) answered(b []byte, open []*pending) (_ []*pending, again bool) {
	var f struct {
		Type string
		ID   string
		answer
		Error *struct {
			Code   string
			Status int
		}
	}
	if err := json.Unmarshal(b, &f); err != nil {
		p.load.book.Failf("socket: a frame that cannot be read: %.200q", b)
		return open, true
	}
	if f.Type == "goodbye" || f.Type == "error" && f.ID == "" {
		return open, true
	}
	if f.Type != "result" && f.Type != "error" {
		return open, false
	}
	for i, w := range open {
		if w.id != f.ID {
			continue
		}
		if f.Error != nil {
			p.load.book.Count("refused: " + f.Error.Code)
			if f.Error.Status < 500 && f.Error.Status != http.StatusTooManyRequests || f.Error.Code == "internal" {
				p.load.book.Failf("socket: good rows were refused: %.300s", b)
			}
			return open, true
		}
		f.answer.status, f.answer.repeated = http.StatusOK, w.repeated
		p.settle(w.events, &f.answer)
		return append(append([]*pending{}, open[:i]...), open[i+1:]...), false
	}
	p.load.book.Failf("socket: an answer to a write that is not open: %.300s", b)
	return open, true
}
