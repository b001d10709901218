package archive

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"laaster/internal/backbone"
	"laaster/internal/change"
	"laaster/internal/checkpoint"
	"laaster/internal/seal"
)

// Source is what a set is made of.
type Source struct {
	Log         change.LogID
	Shard       uint32
	First       uint64        // where the log begins
	Digest      change.Digest // of batch First-1
	Stamp       int64         // of batch First-1
	Until       uint64        // the last batch that goes in
	Checkpoints []*checkpoint.State
	Lineage     *backbone.Lineage
	Keys        *seal.Ring // nil: the set is not encrypted
	Made        time.Time
	// Replay calls fn for the batches from First on, verified, in order; the set is full when fn returns an error.
	Replay func(ctx context.Context, fn func(b *change.Batch) error) error
	// Files go along under their names, of up to 255 bytes.
	Files []File
}

// File is something else that goes along.
type File struct {
	Name string
	Data io.Reader
}

// Write writes a set, verified as it is read, and returns its manifest. Memory: one page or batch, and what io.Writer buffers. After an error what was
// written is not a set.
func Write(ctx context.Context, to io.Writer, s *Source) (*Manifest, error) {
	w := &writer{w: bufio.NewWriterSize(to, 1<<20), keys: s.Keys, set: newSetID()}
	w.m = Manifest{Log: s.Log.String(), Shard: s.Shard, First: s.First, Until: s.Until, Checkpoints: []CheckpointInfo{}}
	h := &Header{Set: w.set.String(), Log: s.Log.String(), Shard: s.Shard, First: s.First, Digest: hex.EncodeToString(s.Digest[:]), Stamp: s.Stamp, Until: s.Until,
		Made: s.Made.UTC().Format(time.RFC3339), Sealed: s.Keys != nil, Lineage: s.Lineage}
	if s.Keys != nil {
		h.Key = s.Keys.Sealing().String()
	}
	w.raw([]byte(magic))
	w.raw([]byte{version, 0})
	w.json(kindHeader, h)
	for _, c := range s.Checkpoints {
		if err := w.checkpoint(ctx, c); err != nil {
			return nil, err
		}
	}
	if err := w.batches(ctx, s); err != nil {
		return nil, err
	}
	for _, f := range s.Files {
		if err := w.file(f); err != nil {
			return nil, err
		}
	}
	w.m.Frames, w.m.Root = w.number, w.tree.root()
	w.json(kindManifest, &w.m)
	if w.err == nil {
		w.err = w.w.Flush()
	}
	return &w.m, w.err
}

type writer struct {
	w      *bufio.Writer
	keys   *seal.Ring
	set    SetID
	number uint64
	tree   tree
	m      Manifest
	buf    []byte // of a sealed frame
	page   []byte
	err    error // of the first write that failed
}

func (w *writer) raw(b []byte) {
	if w.err == nil {
		_, w.err = w.w.Write(b)
	}
}

// frame writes one.
func (w *writer) frame(k kind, payload []byte) {
	if w.keys != nil && k != kindHeader {
		w.buf = w.keys.Seal(w.buf[:0], payload, bound(w.set, k, w.number))
		payload = w.buf
	}
	var head [frameHead]byte
	putFrameHead(head[:], k, w.number, payload)
	w.tree.add(head[:], payload)
	w.raw(head[:])
	w.raw(payload)
	w.number++
}

func (w *writer) json(k kind, v any) {
	b, err := json.Marshal(v)
	if err != nil && w.err == nil {
		w.err = err
	}
	w.frame(k, b)
}

func (w *writer) checkpoint(ctx context.Context, c *checkpoint.State) error {
	h := c.Header()
	w.json(kindCheckpoint, checkpointHeader(h, c.LastObject()))
	info := CheckpointInfo{Seq: h.Seq, Stamp: h.Stamp}
	var data []byte
	for _, o := range c.Objects() {
		for n, p := range c.Pages(o) {
			var err error
			if data, err = p.Ref.Read(data[:0]); err == nil {
				err = errors.Join(ctx.Err(), w.err)
			}
			if err != nil {
				return fmt.Errorf("the checkpoint of batch %d: %w", h.Seq, err)
			}
			w.page = appendPage(w.page[:0], o, n, p.Meta, data)
			w.frame(kindPage, w.page)
			info.Pages++
			info.Bytes += uint64(len(data))
		}
	}
	for _, name := range c.Parts() {
		info.Bytes += uint64(len(c.Part(name)))
		w.chunks(kindPart, name, c.Part(name))
	}
	w.json(kindEnd, &info)
	w.m.Checkpoints = append(w.m.Checkpoints, info)
	return w.err
}

// chunks writes bytes under a name as frames of bounded size.
func (w *writer) chunks(k kind, name string, data []byte) {
	for {
		n := min(len(data), partChunk)
		w.page = appendChunk(w.page[:0], name, n == len(data), data[:n])
		w.frame(k, w.page)
		if data = data[n:]; len(data) == 0 {
			return
		}
	}
}

var errFull = errors.New("the set has everything")

func (w *writer) batches(ctx context.Context, s *Source) error {
	if s.Until < s.First {
		return nil
	}
	next := s.First
	err := s.Replay(ctx, func(b *change.Batch) error {
		h := b.Header()
		if h.Seq != next {
			return fmt.Errorf("the log returned batch %d where %d was due", h.Seq, next)
		}
		w.frame(kindBatch, b.Raw())
		if w.m.Batches == 0 {
			w.m.FirstStamp = h.Stamp
		}
		w.m.LastStamp = h.Stamp
		w.m.Batches++
		w.m.BatchBytes += uint64(len(b.Raw()))
		if next++; next > s.Until {
			return errFull
		}
		return w.err
	})
	switch {
	case err != nil && !errors.Is(err, errFull):
		return err
	case w.err == nil && next <= s.Until:
		return fmt.Errorf("the log ended before batch %d", s.Until)
	}
	return w.err
}

// file writes something that goes along, in chunks as they are read.
func (w *writer) file(f File) error {
	if f.Name == "" || len(f.Name) > 255 {
		return fmt.Errorf("%q cannot be the name of a file of a backup", f.Name)
	}
	buf := make([]byte, partChunk)
	for {
		n, err := io.ReadFull(f.Data, buf)
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		w.page = appendChunk(w.page[:0], f.Name, last, buf[:n])
		w.frame(kindFile, w.page)
		if last {
			w.m.Files = append(w.m.Files, f.Name)
			return w.err
		}
	}
}
