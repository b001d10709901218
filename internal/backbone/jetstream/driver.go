package jetstream

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"laaster/internal/backbone"
	"laaster/internal/change"
	"laaster/internal/kit/disk"
	"laaster/internal/kit/fault"
)

// defaultName is the name of the stream, before its shard, that an embedded store has.
const defaultName = "LAASTER"

// Options says where the stream is. Exactly one of Dir and URL is given.
type Options struct {
	Dir   string // an existing folder for the store of a server in this process
	URL   string // of an external server, such as nats://10.0.0.5:4222
	Name  string // begins the name of the stream; default "LAASTER". Two apps on one server need two
	Shard uint32
	// Acknowledged is the last sequence that is known to have been acknowledged (backbone.Acknowledged). The files of an
	// embedded store are inspected before its server opens them, and this tells a damaged end from an append that a crash
	// cut short. 0 takes every damaged end for the latter; the shard then finds out.
	Acknowledged uint64
	// First is the first sequence that is kept (backbone.Begins): an embedded store may begin there, or before it; 0 is 1.
	First uint64
	// CleanBefore is a position, such as that of the last checkpoint, up to which an earlier start found the store sound. When the server ended well,
	// files that hold nothing behind it are not inspected now, but before their first batch is read. 0 inspects everything now.
	CleanBefore uint64
	// Sync is what an append to the embedded store survives: backbone.Durable, the default, syncs each before it is answered; with
	// backbone.Buffered they are synced once a second.
	Sync backbone.Level
	// Timeout is how long an append waits for its answer; 0 is 5 s. A sync that takes longer looks like a lost answer.
	Timeout time.Duration
	// Replicas is how many servers of an external cluster hold the stream, when it is created; 0 is 1.
	Replicas int
	// External is what an append to the external server survives; it depends on that server's settings (sync: always),
	// which cannot be seen from here. Empty is backbone.Buffered.
	External backbone.Level
	Log      *slog.Logger // nil logs nothing
}

// Driver implements [backbone.Driver] on one stream.
type Driver struct {
	conn     *nats.Conn
	js       js.JetStream
	embedded *embedded // nil with an external server
	rest     *unread   // what is still to be inspected; nil with an external server
	stream   string
	subject  string
	o        Options

	mu struct {
		sync.Mutex
		exists bool // the stream is there and its settings were checked
		closed bool
	}
}

var _ backbone.Driver = (*Driver)(nil)

// Open starts the embedded server, or connects to the external one, and checks the settings of the stream if there is one.
// A stream that is not there is made by the first append.
func Open(ctx context.Context, o Options) (*Driver, error) {
	if (o.Dir == "") == (o.URL == "") {
		return nil, errors.New("jetstream: give either the folder of an embedded store or the URL of a server")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Name == "" {
		o.Name = defaultName
	}
	if o.Sync != backbone.Buffered && o.Sync != backbone.Durable && o.Sync != "" {
		return nil, fmt.Errorf("jetstream: an embedded store is %s or %s, not %s", backbone.Durable, backbone.Buffered, o.Sync)
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	d := &Driver{o: o, stream: fmt.Sprintf("%s-%d", o.Name, o.Shard), subject: fmt.Sprintf("laaster.log.%s.%d", o.Name, o.Shard)}
	if fault.Bug("log-reuse-sequence") {
		d.o.Acknowledged = 0
	}
	if o.Dir != "" {
		var err error
		if d.rest, err = inspect(&d.o, d.stream); err != nil {
			return nil, err
		}
	}
	if err := d.connect(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	found, err := d.find(ctx)
	if err == nil && !found {
		err = d.checkLeftovers()
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// minPayload is what a server must take: the largest batch and its headers.
const minPayload = change.MaxBatch + 4096

// connect opens the connection, and the server in this process before it.
func (d *Driver) connect() (err error) {
	opts := []nats.Option{
		nats.Name("laaster"),
		nats.SyncQueueLen(2 * runMessages), // a run and its end; each read of the log takes as many places, 512 KiB by default
		nats.ReconnectBufSize(-1),          // an append made while the server is away fails at once instead of being sent later
	}
	if d.o.Dir != "" {
		if d.embedded, err = startServer(d.o.Dir, d.o.Sync == backbone.Buffered, d.o.Log); err != nil {
			return err
		}
		opts = append(opts, nats.InProcessServer(d.embedded.srv), nats.NoReconnect(), nats.PingInterval(time.Hour))
	} else {
		opts = append(opts, nats.MaxReconnects(-1), nats.ReconnectWait(200*time.Millisecond))
	}
	if d.conn, err = nats.Connect(d.o.URL, opts...); err != nil {
		return fmt.Errorf("connect to the log's server %s: %w", d.o.URL, err)
	}
	if limit := d.conn.MaxPayload(); limit < minPayload {
		return fmt.Errorf("the log's server %s takes messages of up to %d bytes: set its max_payload to %d or more", d.o.URL, limit, minPayload)
	}
	d.js, err = js.New(d.conn)
	return err
}

// find reports whether there is the stream, and checks its settings.
func (d *Driver) find(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, d.o.Timeout)
	defer cancel()
	s, err := d.js.Stream(ctx, d.stream)
	switch {
	case errors.Is(err, js.ErrStreamNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look up stream %s: %w", d.stream, err)
	}
	if err := d.checkConfig(&s.CachedInfo().Config); err != nil {
		return false, err
	}
	d.setExists()
	return true, nil
}

// checkLeftovers refuses a store that has files of the stream which the server does not offer: making the stream anew would
// overwrite what they hold.
func (d *Driver) checkLeftovers() error {
	if d.embedded == nil {
		return nil
	}
	left, err := d.embedded.leftovers(d.stream)
	if err != nil {
		return fmt.Errorf("look into the store: %w", err)
	}
	if left {
		return &backbone.Damage{Kind: backbone.Unreadable, Shard: d.o.Shard, From: 1, To: 0,
			Detail: fmt.Sprintf("the store %s has files of stream %s, which its server cannot read: %s", d.o.Dir, d.stream, d.embedded.logs.lastError()),
			Remedy: backbone.Unreadable.Remedy()}
	}
	return nil
}

func (d *Driver) setExists() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.exists = true
}

func (d *Driver) exists() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.exists
}

// config is how the stream is made: nothing in it ever drops a message, only a purge does, which Trim asks for.
func (d *Driver) config() js.StreamConfig {
	return js.StreamConfig{
		Name:              d.stream,
		Subjects:          []string{d.subject},
		Retention:         js.LimitsPolicy,
		MaxConsumers:      -1,
		MaxMsgs:           -1,
		MaxBytes:          -1,
		MaxMsgsPerSubject: -1,
		MaxMsgSize:        -1,
		Discard:           js.DiscardNew,
		Storage:           js.FileStorage,
		Replicas:          max(1, d.o.Replicas),
		Duplicates:        100 * time.Millisecond, // the least; appends carry no message ids
		AllowDirect:       true,
		DenyDelete:        true,
	}
}

// checkConfig refuses a stream whose settings could lose or reorder batches.
func (d *Driver) checkConfig(c *js.StreamConfig) error {
	var bad []string
	check := func(ok bool, what string) {
		if !ok {
			bad = append(bad, what)
		}
	}
	check(len(c.Subjects) == 1 && c.Subjects[0] == d.subject, "its subject is not "+d.subject)
	check(c.Storage == js.FileStorage, "its storage is not file")
	check(c.Retention == js.LimitsPolicy, "its retention is not limits")
	check(c.MaxMsgs <= 0 && c.MaxBytes <= 0 && c.MaxAge <= 0 && c.MaxMsgsPerSubject <= 0, "it has limits that drop messages")
	check(c.DenyDelete, "it allows deletes")
	check(c.AllowDirect, "it does not allow direct gets")
	check(!c.NoAck, "it does not acknowledge")
	check(!c.AllowRollup && !c.AllowMsgTTL, "it allows rollups or message TTLs")
	check(c.Mirror == nil && len(c.Sources) == 0, "it mirrors or sources another stream")
	if bad == nil {
		return nil
	}
	return fmt.Errorf("stream %s cannot hold the log: %s. Use another stream name, or remove the stream if nothing needs it",
		d.stream, strings.Join(bad, "; "))
}

// create makes the stream.
func (d *Driver) create(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.o.Timeout)
	defer cancel()
	if _, err := d.js.CreateStream(ctx, d.config()); err != nil {
		if werr := d.writeError(); werr != nil {
			return werr
		}
		return fmt.Errorf("create stream %s: %w", d.stream, err)
	}
	fault.Point("log.stream_made")
	if d.embedded != nil && d.o.Sync == backbone.Buffered { // else the server has
		if err := syncTree(d.o.Dir); err != nil {
			return &backbone.WriteError{Full: disk.IsFull(err), Err: fmt.Errorf("sync the new stream: %w", err)}
		}
	}
	fault.Point("log.stream_synced")
	d.setExists()
	return nil
}

// syncTree makes every file and every name below a folder durable. The server never syncs the names of a stream that it makes when it does not
// sync each write: without them a power cut later takes the whole stream, however long its messages were synced.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // the server has temporary files
			return nil
		}
		if err != nil || !e.IsDir() && !e.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}

// Level implements [backbone.Driver].
func (d *Driver) Level() backbone.Level {
	switch {
	case d.embedded != nil && d.o.Sync == backbone.Buffered:
		return backbone.Buffered
	case d.embedded != nil:
		return backbone.Durable
	case d.o.External != "":
		return d.o.External
	}
	return backbone.Buffered
}

// Bounds implements [backbone.Driver].
func (d *Driver) Bounds(ctx context.Context) (first, last uint64, err error) {
	if !d.exists() {
		if found, err := d.find(ctx); err != nil || !found {
			return 0, 0, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, d.o.Timeout)
	defer cancel()
	s, err := d.js.Stream(ctx, d.stream)
	if err != nil {
		return 0, 0, fmt.Errorf("ask for the state of stream %s: %w", d.stream, err)
	}
	st := s.CachedInfo().State
	if st.LastSeq == 0 {
		return 0, 0, nil
	}
	return st.FirstSeq, st.LastSeq, nil
}

// Close implements [backbone.Driver]: it closes the connection and ends the embedded server.
func (d *Driver) Close() error {
	d.mu.Lock()
	again := d.mu.closed
	d.mu.closed = true
	d.mu.Unlock()
	if again {
		return nil
	}
	if d.conn != nil {
		d.conn.Close()
	}
	if d.embedded != nil {
		d.embedded.stop()
	}
	return nil
}
