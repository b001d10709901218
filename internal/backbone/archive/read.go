package archive

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"

	"laaster/internal/change"
	"laaster/internal/checkpoint"
	"laaster/internal/seal"
)

// Visitor takes what a set has, in its order, as it is verified. Whoever must not act on half a set reads it twice, the first time with an empty one. Fields
// that are nil pass things over; an error of theirs ends the reading and is returned.
type Visitor struct {
	Header func(h *Header) error
	// Checkpoint is told of each checkpoint and may return where its pages go: a writer that was begun under any header. It is neither committed nor
	// aborted here, Checked is called when it has everything. nil passes it over.
	Checkpoint func(h *checkpoint.Header, last checkpoint.ObjectID) (*checkpoint.Writer, error)
	Checked    func(w *checkpoint.Writer) error
	// Batch is called with each batch, which is valid during the call.
	Batch func(b *change.Batch) error
	File  func(name string, last bool, data []byte) error
}

// Read reads a set to its end and verifies all of it. Errors: a [*SetError] that names the place; of keys (package seal) when they are missing; of
// r; of v. Memory: the largest frame, and the parts of one checkpoint.
func Read(r io.Reader, keys *seal.Ring, v Visitor) (*Manifest, error) {
	d := &reader{r: bufio.NewReaderSize(r, 64<<10), keys: keys, v: v}
	m, err := d.read()
	if err != nil && !d.passed {
		err = &SetError{Offset: d.offset, Frame: d.number, Err: err}
	}
	return m, err
}

// ErrSealed says that a set is encrypted and no keys were given.
var ErrSealed = errors.New("it is encrypted")

type reader struct {
	r      *bufio.Reader
	keys   *seal.Ring
	v      Visitor
	offset int64  // of the frame that is being read
	number uint64 // its number
	tree   tree
	buf    []byte
	plain  []byte
	passed bool // the error is of the visitor

	set    SetID
	header Header
	log    change.LogID
	m      Manifest // as it is counted

	next    uint64 // batch that must come
	prev    change.Digest
	stamp   int64
	digests map[uint64]change.Digest // of the batches at the checkpoints' positions

	into *checkpoint.Writer
	info CheckpointInfo
	part []byte
	name string // of the part or file that is under way
}

// fail passes on an error of the visitor.
func (d *reader) fail(err error) error {
	d.passed = d.passed || err != nil
	return err
}

func (d *reader) read() (*Manifest, error) {
	head := make([]byte, prelude)
	if _, err := io.ReadFull(d.r, head); err != nil || string(head[:len(magic)]) != magic {
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, err
		}
		return nil, errors.New("this is not a backup of laaster")
	}
	if v := int(binary.LittleEndian.Uint16(head[len(magic):])); v != version {
		return nil, &change.NewerError{What: "backup", Version: v, Known: version}
	}
	d.offset = int64(prelude)
	expect := kindHeader
	for {
		k, payload, size, err := d.frame()
		if err != nil {
			return nil, err
		}
		if k == kindManifest {
			return d.manifest(payload)
		}
		if expect, err = d.take(k, payload, expect); err != nil {
			return nil, err
		}
		d.number++
		d.offset += size
	}
}

// frame reads one frame and opens it. The bytes are valid until the next.
func (d *reader) frame() (k kind, payload []byte, size int64, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(d.r, head[:]); err != nil {
		return 0, nil, 0, cut(err)
	}
	n := binary.LittleEndian.Uint32(head[4:])
	if n > maxFrame {
		return 0, nil, 0, errChecksum
	}
	if d.buf, err = readN(d.r, d.buf[:0], int(n)); err != nil {
		return 0, nil, 0, cut(err)
	}
	var want [frameHead]byte
	k, payload = kind(head[0]), d.buf
	putFrameHead(want[:], k, binary.LittleEndian.Uint64(head[8:]), payload)
	switch {
	case head != want:
		return 0, nil, 0, errChecksum
	case binary.LittleEndian.Uint64(head[8:]) != d.number:
		return 0, nil, 0, errOrder
	}
	if k != kindManifest {
		d.tree.add(head[:], payload)
	}
	if d.header.Sealed && k != kindHeader {
		if d.plain, err = d.keys.Open(d.plain[:0], payload, bound(d.set, k, d.number)); err != nil {
			return 0, nil, 0, err
		}
		payload = d.plain
	}
	return k, payload, frameHead + int64(n), nil
}

// readN reads n bytes into dst, in steps, so that a length which lies does not take memory that is not filled.
func readN(r io.Reader, dst []byte, n int) ([]byte, error) {
	for len(dst) < n {
		step := min(n-len(dst), max(len(dst), 64<<10))
		at := len(dst)
		if cap(dst) < at+step {
			dst = append(make([]byte, 0, max(2*cap(dst), at+step)), dst...)
		}
		dst = dst[:at+step]
		if _, err := io.ReadFull(r, dst[at:]); err != nil {
			return dst[:at], err
		}
	}
	return dst, nil
}

func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errCut
	}
	return err
}

// take checks a frame and passes it on. expect is the phase: the header, then checkpoints, within one its pages and parts, then batches, then files.
func (d *reader) take(k kind, payload []byte, expect kind) (kind, error) {
	switch {
	case k == kindHeader && expect == kindHeader:
		return kindCheckpoint, d.takeHeader(payload)
	case k == kindCheckpoint && expect == kindCheckpoint:
		return kindPage, d.takeCheckpoint(payload)
	case k == kindPage && expect == kindPage && d.name == "":
		return kindPage, d.takePage(payload)
	case k == kindPart && expect == kindPage:
		return kindPage, d.takePart(payload)
	case k == kindEnd && expect == kindPage && d.name == "":
		return kindCheckpoint, d.takeEnd(payload)
	case k == kindBatch && (expect == kindCheckpoint || expect == kindBatch):
		return kindBatch, d.takeBatch(payload)
	case k == kindFile && (expect == kindCheckpoint || expect == kindBatch || expect == kindFile):
		return kindFile, d.takeFile(payload)
	}
	return 0, errOrder
}

func (d *reader) takeHeader(payload []byte) error {
	h := &d.header
	if err := json.Unmarshal(payload, h); err != nil {
		return fmt.Errorf("its header: %w", err)
	}
	log, err := change.ParseLogID(h.Log)
	if err == nil {
		err = errors.Join(unhex(d.set[:], h.Set), unhex(d.prev[:], h.Digest))
	}
	if err != nil || h.First < 1 || h.Until+1 < h.First {
		return fmt.Errorf("its header cannot be read: %w", err)
	}
	if h.Sealed && d.keys == nil {
		return fmt.Errorf("%w (key %s): give the keys", ErrSealed, h.Key)
	}
	d.log, d.next, d.stamp, d.digests = log, h.First, h.Stamp, map[uint64]change.Digest{}
	d.m = Manifest{Log: h.Log, Shard: h.Shard, First: h.First, Until: h.Until, Checkpoints: []CheckpointInfo{}}
	if d.v.Header != nil {
		return d.fail(d.v.Header(h))
	}
	return nil
}

func (d *reader) takeCheckpoint(payload []byte) error {
	var c CheckpointHeader
	if err := json.Unmarshal(payload, &c); err != nil {
		return fmt.Errorf("a checkpoint's header: %w", err)
	}
	h, err := c.header(d.log, d.header.Shard)
	if err != nil {
		return fmt.Errorf("a checkpoint's header: %w", err)
	}
	if n := len(d.m.Checkpoints); h.Seq+1 < d.header.First || h.Seq > d.header.Until || n > 0 && h.Seq <= d.m.Checkpoints[n-1].Seq {
		return errOrder
	}
	d.info = CheckpointInfo{Seq: h.Seq, Stamp: h.Stamp}
	if d.digests[h.Seq] = h.Digest; h.Seq == d.header.First-1 && h.Digest != d.prev {
		return errors.New("a checkpoint of another history than the log's")
	}
	if d.v.Checkpoint != nil {
		d.into, err = d.v.Checkpoint(&h, c.LastObject)
	}
	return d.fail(err)
}

func (d *reader) takePage(payload []byte) error {
	o, n, meta, data, err := parsePage(payload)
	if err != nil {
		return err
	}
	d.info.Pages++
	d.info.Bytes += uint64(len(data))
	if d.into != nil {
		_, err = d.into.Put(o, n, meta, data)
	}
	return d.fail(err)
}

func (d *reader) takePart(payload []byte) error {
	name, last, data, err := parseChunk(payload)
	if err != nil || d.name != "" && name != d.name {
		return errors.Join(errOrder, err)
	}
	if d.name == "" {
		d.part = nil
	}
	if len(d.part)+len(data) > checkpoint.MaxPart {
		return errors.New("a part that is too large")
	}
	d.info.Bytes += uint64(len(data))
	if d.into != nil {
		d.part = append(d.part, data...)
	}
	if d.name = name; last {
		if d.name = ""; d.into != nil {
			d.into.Part(name, d.part)
		}
	}
	return nil
}

func (d *reader) takeEnd(payload []byte) error {
	var info CheckpointInfo
	if err := json.Unmarshal(payload, &info); err != nil || info != d.info {
		return fmt.Errorf("the checkpoint of batch %d lacks something: %w", d.info.Seq, errors.Join(errOrder, err))
	}
	d.m.Checkpoints = append(d.m.Checkpoints, info)
	w := d.into
	d.into = nil
	if w != nil && d.v.Checked != nil {
		return d.fail(d.v.Checked(w))
	}
	return nil
}

func (d *reader) takeBatch(payload []byte) error {
	b, err := change.ParseBatch(payload)
	if err != nil {
		return fmt.Errorf("batch %d: %w", d.next, err)
	}
	h, digest := b.Header(), b.Digest()
	switch want, at := d.digests[h.Seq]; {
	case h.Log != d.log || h.Shard != d.header.Shard || h.Seq != d.next || h.Seq > d.header.Until:
		return fmt.Errorf("it holds batch %d of shard %d of log %s where batch %d was due: %w", h.Seq, h.Shard, h.Log, d.next, errOrder)
	case h.Prev != d.prev || h.Stamp <= d.stamp:
		return fmt.Errorf("batch %d does not follow the one before it", h.Seq)
	case at && want != digest:
		return fmt.Errorf("the checkpoint of batch %d is of another history than the log's", h.Seq)
	}
	d.next, d.prev, d.stamp = h.Seq+1, digest, h.Stamp
	if d.m.Batches == 0 {
		d.m.FirstStamp = h.Stamp
	}
	d.m.LastStamp = h.Stamp
	d.m.Batches++
	d.m.BatchBytes += uint64(len(payload))
	if d.v.Batch != nil {
		return d.fail(d.v.Batch(&b))
	}
	return nil
}

func (d *reader) takeFile(payload []byte) error {
	name, last, data, err := parseChunk(payload)
	if err != nil || d.name != "" && name != d.name {
		return errors.Join(errOrder, err)
	}
	if d.name = name; last {
		d.name = ""
		d.m.Files = append(d.m.Files, name)
	}
	if d.v.File != nil {
		return d.fail(d.v.File(name, last, data))
	}
	return nil
}

// manifest compares what was read with what must have been there.
func (d *reader) manifest(payload []byte) (*Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(payload, &m); err != nil {
		return nil, fmt.Errorf("its manifest: %w", err)
	}
	d.m.Frames, d.m.Root = d.number, d.tree.root()
	switch {
	case d.header.Log == "" || d.name != "" || d.next != d.header.Until+1:
		return nil, errOrder
	case !reflect.DeepEqual(m, d.m):
		return nil, fmt.Errorf("its manifest says %d frames with the root %s, and there are %d with %s: %w", m.Frames, m.Root, d.m.Frames, d.m.Root, errOrder)
	}
	if _, err := d.r.ReadByte(); err == nil {
		return nil, errTrailing
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	return &m, nil
}
