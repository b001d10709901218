package checkpoint

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"laaster/internal/kit/disk"
	"laaster/internal/kit/fault"
	"laaster/internal/kit/run"
)

const (
	writeSize = 1 << 20 // bytes handed to the system at once
	syncEvery = 4 << 20 // bytes after which what was written is made durable, so that no single sync is long: the log syncs on the same disk
)

// output writes a file: pages, then finish. Not for concurrent use.
type output struct {
	s      *Store
	file   *file
	folder string
	temp   string
	buf    []byte // what is not yet handed to the system
	plain  []byte // scratch for sealing
	at     int64  // where the next byte goes, buf included
	synced int64
	hurry  bool // the rate does not count
	done   bool // it has its name, or never will
}

// newOutput makes a temporary file in folder for the file with this sequence number.
func (s *Store) newOutput(folder string, seq uint64, copied bool) (*output, error) {
	d := newIdentity(s.o.Log, s.o.Shard, seq, s.o.Keys)
	path := filepath.Join(folder, fileName(seq))
	temp := filepath.Join(folder, fileName(seq)[:16]+tempSuffix)
	h, err := s.fs.Create(temp)
	if err != nil {
		return nil, fmt.Errorf("write checkpoint: %w", err)
	}
	o := &output{s: s, file: s.newFile(path, copied, d, h), folder: folder, temp: temp, buf: s.writeBuffer()}
	o.buf = append(o.buf, d.raw[:]...)
	o.at = headerSize
	o.point("checkpoint.begun", "copy.begun")
	return o, nil
}

// point is a crash point, under the name of what is written.
func (o *output) point(name, copyName string) {
	if o.file.copied {
		name = copyName
	}
	fault.Point(name)
}

// page writes a page and returns where it is.
func (o *output) page(object ObjectID, number uint32, meta, data []byte) (*place, error) {
	n := len(o.buf)
	o.buf = appendFrame(o.buf, o.file.identity, o.s.o.Keys, object, number, meta, data, &o.plain)
	p := &place{f: o.file, at: o.at, n: uint32(len(o.buf) - n - frameSize)}
	o.at += p.size()
	return p, o.flush(writeSize)
}

// flush hands the buffer to the system once it has at least so many bytes, at the rate that is allowed.
func (o *output) flush(least int) error {
	if len(o.buf) < least {
		return nil
	}
	if err := o.wait(); err != nil {
		return err
	}
	if _, err := o.file.h.f.Write(o.buf); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	o.buf = o.buf[:0]
	o.point("checkpoint.pages_written", "copy.pages_written")
	if o.at-o.synced >= syncEvery && !fault.Bug("checkpoint-skip-sync") {
		if err := o.file.h.f.SyncData(); err != nil {
			return fmt.Errorf("sync checkpoint: %w", err)
		}
		o.synced = o.at
		o.point("checkpoint.pages_synced", "copy.pages_synced")
	}
	return nil
}

// wait holds the output to the rate.
func (o *output) wait() error {
	i, rate := 0, o.s.o.Rate
	if o.file.copied {
		i = 1
	}
	if o.hurry || o.s.hurry.Load() {
		rate = 0
	}
	return o.s.paces[i].wait(o.s.o.Clock, rate, len(o.buf), o.s.closed)
}

// finish writes the tail and gives the file its name: when it returns nil the file is durable.
func (o *output) finish(t *tail) error {
	f := o.file
	stored := f.sealTail(appendTail(nil, t), o.s.o.Keys)
	f.foot = footer{at: o.at, size: int64(len(stored)), sum: tailSum(f.identity, stored)}
	for len(stored) > 0 { // in pieces, for the sake of the rate
		n := min(writeSize, len(stored))
		o.buf = append(o.buf, stored[:n]...)
		o.at += int64(n)
		stored = stored[n:]
		if err := o.flush(writeSize); err != nil {
			return err
		}
	}
	o.buf = appendFooter(o.buf, &f.foot)
	o.at += footerSize
	if err := o.flush(1); err != nil {
		return err
	}
	o.point("checkpoint.written", "copy.written")
	if !fault.Bug("checkpoint-skip-sync") {
		if err := f.h.f.Sync(); err != nil {
			return fmt.Errorf("sync checkpoint: %w", err)
		}
	}
	o.point("checkpoint.synced", "copy.synced")
	f.size = o.at
	f.take(t)
	if err := o.s.fs.Rename(o.temp, f.path); err != nil {
		return fmt.Errorf("name checkpoint: %w", err)
	}
	o.done = true
	o.point("checkpoint.renamed", "copy.renamed")
	if fault.Bug("checkpoint-skip-folder-sync") {
		return nil
	}
	if err := o.s.fs.SyncFolder(o.folder); err != nil {
		// Whether the name stays is open. The file is whole, so both are right; it goes now if it can, and else with the next checkpoint.
		return errors.Join(fmt.Errorf("sync the folder of checkpoints: %w", err), o.s.fs.Remove(f.path))
	}
	o.point("checkpoint.durable", "copy.durable")
	return nil
}

// abandon removes what was written, unless the file has its name.
func (o *output) abandon() error {
	o.s.recycle(o.buf)
	o.buf = nil
	if o.done {
		return nil
	}
	o.done = true
	o.s.open.close(o.file.h)
	return o.s.fs.Remove(o.temp)
}

// pace holds a writer to a rate. Not for concurrent use.
type pace struct {
	due time.Time // when what was written so far is paid for
}

var errClosed = errors.New("the store of checkpoints is closed")

// wait returns when n more bytes may be written. A pause of the writer saves up no more than a tenth of a second.
func (p *pace) wait(clock run.Clock, rate int64, n int, closed <-chan struct{}) error {
	select {
	case <-closed:
		return errClosed
	default:
	}
	if rate <= 0 {
		return nil
	}
	now := clock.Now()
	if since := now.Add(-100 * time.Millisecond); p.due.Before(since) {
		p.due = since
	}
	p.due = p.due.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	if !p.due.After(now) {
		return nil
	}
	select {
	case <-clock.After(p.due.Sub(now)):
		return nil
	case <-closed:
		return errClosed
	}
}

// removeTemps removes what a crash left unfinished.
func removeTemps(fs disk.FS, folder string, names []string) error {
	for _, n := range names {
		if _, temp, ok := parseName(n); ok && temp {
			if err := fs.Remove(filepath.Join(folder, n)); err != nil {
				return fmt.Errorf("remove an unfinished checkpoint: %w", err)
			}
			fault.Point("checkpoint.temporary_removed")
		}
	}
	return nil
}
