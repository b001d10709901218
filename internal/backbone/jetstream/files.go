package jetstream

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/minio/highwayhash"

	"laaster/internal/backbone"
)

// Files reads the files of the embedded store of a shard that nobody has open, without the server and without changing anything: a backbone.Driver
// that takes nothing. A record that does not match its checksum ends its file, so that what is behind it shows as missing. Safe for concurrent use.
type Files struct {
	in     inspector
	blocks []fileBlock // ascending
	last   uint64
}

// fileBlock is a file and the sequence of the first batch in it.
type fileBlock struct {
	number int
	first  uint64
}

var errReadOnly = errors.New("the log is open for reading only")

// OpenFiles looks where the batches of a shard are in the store in dir. It reads the beginning of each file and the whole of the last.
func OpenFiles(dir string, shard uint32) (*Files, error) {
	stream := fmt.Sprintf("%s-%d", defaultName, shard)
	f := &Files{in: inspector{o: &Options{}, stream: stream, dir: filepath.Join(streamDir(dir, stream), "msgs")}}
	numbers, err := f.in.blocks()
	if err != nil {
		return nil, fmt.Errorf("read the store: %w", err)
	}
	for _, n := range numbers {
		first, err := f.firstOf(n)
		if err != nil {
			return nil, err
		}
		if first > 0 {
			f.blocks = append(f.blocks, fileBlock{n, first})
		}
	}
	if len(f.blocks) > 0 {
		err = f.block(f.blocks[len(f.blocks)-1].number, func(seq uint64, _ []byte) error { f.last = seq; return nil })
	}
	return f, err
}

var errEnough = errors.New("enough")

// firstOf returns the sequence of the first batch in a file, 0 when there is none.
func (f *Files) firstOf(n int) (first uint64, err error) {
	file, err := os.Open(f.in.path(n))
	if err != nil {
		return 0, fmt.Errorf("read the store: %w", err)
	}
	head := make([]byte, recordHeader)
	_, rerr := file.ReadAt(head, 0)
	if err := file.Close(); err != nil {
		return 0, err
	}
	if seq := sequence(head); rerr == nil && seq&notMessage == 0 {
		return seq, nil
	}
	err = f.block(n, func(seq uint64, _ []byte) error { first = seq; return errEnough })
	if errors.Is(err, errEnough) {
		err = nil
	}
	return first, err
}

// block passes on the batches of a file, up to the first that is damaged.
func (f *Files) block(n int, fn func(seq uint64, data []byte) error) error {
	buf, err := os.ReadFile(f.in.path(n))
	if err != nil {
		return fmt.Errorf("read the store: %w", err)
	}
	key := sha256.Sum256([]byte(f.in.stream + "-" + strconv.Itoa(n)))
	sum, err := highwayhash.NewDigest64(key[:])
	if err != nil {
		return err
	}
	for at := 0; at < len(buf); {
		size, seq, ok := record(buf[at:], sum)
		if !ok {
			return nil
		}
		if seq&notMessage == 0 {
			if err := fn(seq, message(buf[at:at+size])); err != nil {
				return err
			}
		}
		at += size
	}
	return nil
}

// Read implements backbone.Driver.
func (f *Files) Read(ctx context.Context, from uint64, fn func(seq uint64, data []byte) error) error {
	i, ok := slices.BinarySearchFunc(f.blocks, from, func(b fileBlock, seq uint64) int { return cmp.Compare(b.first, seq) })
	if !ok {
		i--
	}
	for i = max(i, 0); i < len(f.blocks); i++ {
		err := f.block(f.blocks[i].number, func(seq uint64, data []byte) error {
			if err := ctx.Err(); err != nil || seq < from {
				return err
			}
			return fn(seq, data)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Bounds implements backbone.Driver.
func (f *Files) Bounds(context.Context) (first, last uint64, err error) {
	if len(f.blocks) == 0 {
		return 0, 0, nil
	}
	return f.blocks[0].first, f.last, nil
}

// Append implements backbone.Driver. It refuses.
func (f *Files) Append(context.Context, []byte, uint64) (uint64, error) { return 0, errReadOnly }

// Trim implements backbone.Driver. It refuses.
func (f *Files) Trim(context.Context, uint64) error { return errReadOnly }

// Size implements backbone.Driver.
func (f *Files) Size(context.Context) (bytes int64, err error) {
	for _, b := range f.blocks {
		info, err := os.Stat(f.in.path(b.number))
		if err != nil {
			return 0, err
		}
		bytes += info.Size()
	}
	return bytes, nil
}

// Level implements backbone.Driver.
func (f *Files) Level() backbone.Level { return backbone.Durable }

// Close implements backbone.Driver. No file is kept open.
func (f *Files) Close() error { return nil }
