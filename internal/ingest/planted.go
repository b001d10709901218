package ingest

import (
	"laaster/internal/change"
	"laaster/internal/kit/fault"
)

// planted misbehaves before f is appended: a test harness must catch it. See package fault.
func (w *Writer) planted(f *flight) {
	// The last entry of a batch of several is answered and not appended.
	if n := len(f.parts); fault.Bug("ingest-drop-part") && n > 1 && f.parts[n-1].entry.Kind == change.EntryWrite {
		last := f.parts[n-1:]
		f.parts = f.parts[:n-1]
		last[0].answer(answer{seq: 1, outcome: change.Outcome{Accepted: last[0].entry.Count}})
		w.release(last, false)
	}
	if fault.Bug("ingest-ack-before-log") {
		for _, p := range f.parts {
			p.answer(answer{seq: 1, outcome: change.Outcome{Accepted: p.entry.Count}})
		}
	}
}

// requeue puts a batch that was answered back to be appended.
func (w *Writer) requeue(f *flight) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.control = append(f.parts, w.mu.control...)
	for _, p := range f.parts {
		w.mu.own += p.entry.Size()
	}
}
