package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"laaster/internal/kit/disk"
	"laaster/internal/kit/fault"
	"laaster/internal/kit/run"
)

const (
	maxPayload   = 8 << 20
	startTimeout = 30 * time.Second // for recovery of the store
	// maxStore bounds the store by what no disk has: JetStream would otherwise take three quarters of the free space as
	// its limit at each start, and refuse to start with a store that is larger than that.
	maxStore = 1 << 50
	// maxMemory is for streams in memory, of which there are none; it may not be 0, which means a default.
	maxMemory = 1 << 20
	// syncInterval is of a buffered store. A power cut may take what was appended since the last but one.
	syncInterval = time.Second
)

// embedded is the server in this process.
type embedded struct {
	srv  *server.Server
	dir  string
	logs *serverLog
}

// startServer starts a server on the store in dir and returns when it has recovered it. A buffered one syncs once in a while instead of each
// append.
func startServer(dir string, buffered bool, logger *slog.Logger) (*embedded, error) {
	e := &embedded{dir: dir, logs: &serverLog{logger: logger}}
	interval := time.Duration(0) // the server's own: there is nothing left to sync then
	if buffered {
		interval = syncInterval
	}
	var err error
	e.srv, err = server.NewServer(&server.Options{
		ServerName:             "laaster",
		DontListen:             true,
		NoSigs:                 true,
		NoSystemAccount:        true,
		MaxPayload:             maxPayload,
		MaxPending:             4 * maxPayload,
		JetStream:              true,
		StoreDir:               dir,
		SyncAlways:             !buffered && !fault.Bug("ack-before-fsync"),
		SyncInterval:           interval,
		JetStreamMaxStore:      maxStore,
		JetStreamMaxMemory:     maxMemory,
		DisableJetStreamBanner: true,
		MaxClosedClients:       1,
		PingInterval:           time.Hour, // a pipe in the same process does not die silently
	})
	if err != nil {
		return nil, fmt.Errorf("configure the embedded server: %w", err)
	}
	e.srv.SetLogger(e.logs, false, false) // before Start, or what recovery has to say is lost
	e.srv.Start()
	if !e.srv.ReadyForConnections(startTimeout) || !e.srv.JetStreamEnabled() {
		e.stop()
		why := e.logs.lastError()
		if why == "" {
			why = fmt.Sprintf("not ready after %v", startTimeout)
		}
		return nil, fmt.Errorf("start the embedded server on %s: %s", dir, why)
	}
	return e, nil
}

const (
	answerTimeout = 30 * time.Second // of the server, asked how its store is
	stopTimeout   = 15 * time.Second // of its end
)

// within calls f on a goroutine of its own and reports whether it returned in time. The server's own locks may be held for ever: 2.15.2 waits for itself
// when a purge meets a full disk. Such a call is left behind, until the process ends.
func within(limit time.Duration, f func()) bool {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	done := make(chan struct{})
	run.New(context.Background()).Go("embedded server call", func(context.Context) error {
		defer close(done)
		f()
		return nil
	})
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// stop ends the server and waits until its goroutines have, as long as it answers at all.
func (e *embedded) stop() {
	ended := within(stopTimeout, func() {
		e.srv.Shutdown()
		e.srv.WaitForShutdown()
	})
	if !ended {
		e.logs.logger.Error("the embedded server does not end: it is left behind; what was acknowledged is on the disk")
	}
}

// streamDir returns where a server keeps a stream below its store folder.
func streamDir(dir, stream string) string {
	return filepath.Join(dir, server.JetStreamStoreDir, "$G", "streams", stream)
}

// leftovers reports whether the store has files of the stream.
func (e *embedded) leftovers(stream string) (bool, error) {
	_, err := os.Stat(streamDir(e.dir, stream))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// writeError returns why the stream takes no more appends, or nil when it does. full says that the disk has no space.
func (e *embedded) writeError(stream string) (full bool, err error) {
	type answer struct {
		full bool
		err  error
	}
	got := make(chan answer, 1)
	answers := within(answerTimeout, func() {
		full, err := e.askWriteError(stream)
		got <- answer{full, err}
	})
	if !answers {
		return false, fmt.Errorf("the store has not answered for %s", answerTimeout)
	}
	a := <-got
	return a.full, a.err
}

func (e *embedded) askWriteError(stream string) (full bool, err error) {
	if !e.srv.JetStreamEnabled() {
		err = errors.New("the server has turned JetStream off: " + e.logs.lastError())
	} else if h := e.srv.Healthz(&server.HealthzOptions{Account: "$G", Stream: stream}); h.Error != "" && strings.Contains(h.Error, "write error") {
		err = errors.New(h.Error)
	}
	if err == nil {
		return false, nil
	}
	free, ferr := disk.Free(e.dir)
	full = strings.Contains(err.Error(), "no space left") || strings.Contains(err.Error(), "quota exceeded") ||
		ferr == nil && free < 64<<10
	return full, err
}

// serverLog passes the server's log on and raises an alarm at each error, so that an append that waits for an answer which
// will not come looks for the reason at once.
type serverLog struct {
	logger *slog.Logger
	last   atomic.Pointer[string]
	alarm  atomic.Pointer[context.CancelCauseFunc]
}

// lastError returns the newest error line, or nothing.
func (l *serverLog) lastError() string {
	if s := l.last.Load(); s != nil {
		return *s
	}
	return ""
}

// errAlarm is the cause of a wait that an error of the server ended.
var errAlarm = errors.New("the server reported an error")

// watch returns a context that also ends when the server logs an error. For one append at a time; call the function
// afterwards.
func (l *serverLog) watch(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	l.alarm.Store(&cancel)
	return ctx, func() { l.alarm.Store(nil); cancel(nil) }
}

// Noticef implements server.Logger. Notices tell of starting and stopping.
func (l *serverLog) Noticef(format string, v ...any) { l.log(slog.LevelDebug, format, v) }

// Warnf implements server.Logger.
func (l *serverLog) Warnf(format string, v ...any) { l.log(slog.LevelWarn, format, v) }

// Errorf implements server.Logger. It may be called with the server's locks held.
func (l *serverLog) Errorf(format string, v ...any) { l.raise(l.log(slog.LevelError, format, v)) }

// Fatalf implements server.Logger. The server means to exit; here it is an error, and the server is found not ready.
func (l *serverLog) Fatalf(format string, v ...any) { l.raise(l.log(slog.LevelError, format, v)) }

// Debugf implements server.Logger.
func (l *serverLog) Debugf(string, ...any) {}

// Tracef implements server.Logger.
func (l *serverLog) Tracef(string, ...any) {}

func (l *serverLog) log(level slog.Level, format string, v []any) string {
	msg := strings.TrimSpace(fmt.Sprintf(format, v...))
	l.logger.Log(context.Background(), level, msg, "from", "nats-server")
	return msg
}

func (l *serverLog) raise(msg string) {
	l.last.Store(&msg)
	if cancel := l.alarm.Load(); cancel != nil {
		(*cancel)(errAlarm)
	}
}
