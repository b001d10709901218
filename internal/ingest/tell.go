package ingest

import "laaster/internal/change"

// Tell queues a record of the audit trail for which nobody waits, and has it written soon. False: it is not taken, because the writer is
// closed or too many wait; what it is about should then not happen either.
func (w *Writer) Tell(body []byte) bool {
	p := &part{entry: change.Entry{Kind: change.EntryAudit, Last: true, Body: body}, early: true, received: w.clock.Now(), done: make(chan answer, 1)}
	size := p.entry.Size()
	w.mu.Lock()
	if w.mu.closed != nil || size > change.MaxEntry || w.mu.own+size > controlBytes {
		w.mu.Unlock()
		return false
	}
	w.mu.own += size
	w.mu.control = append(w.mu.control, p)
	w.mu.Unlock()
	w.rouse()
	return true
}
