package jetstream

import (
	"context"
	"errors"
	"fmt"

	js "github.com/nats-io/nats.go/jetstream"
)

// trimStep is about how many bytes one purge takes away: an append that comes meanwhile waits for it.
const trimStep = 64 << 20

// errDenied is the error of a trim of a stream that an older version made.
var errDenied = errors.New("its stream was made by a version that never trimmed, and refuses it: `laaster repair --rewrite` on the stopped server " +
	"moves the log into a new one")

// Trim implements [backbone.Driver]. The server removes block files of 8 MiB as a whole, and rewrites the one in which the log now begins when most
// of it is gone.
func (d *Driver) Trim(ctx context.Context, before uint64) error {
	if before <= 1 {
		return nil
	}
	if !d.exists() {
		if found, err := d.find(ctx); err != nil {
			return err
		} else if !found {
			if err := d.create(ctx); err != nil {
				return err
			}
		}
	}
	for {
		done, err := d.trimStep(ctx, before)
		if err != nil || done {
			return err
		}
	}
}

// trimStep purges a part of what is below before, and reports whether that was the rest.
func (d *Driver) trimStep(ctx context.Context, before uint64) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.o.Timeout)
	defer cancel()
	s, err := d.js.Stream(ctx, d.stream)
	if err != nil {
		return false, fmt.Errorf("ask for the state of stream %s: %w", d.stream, err)
	}
	st := s.CachedInfo().State
	switch {
	case before <= st.FirstSeq:
		return true, nil
	case before > st.LastSeq+1 && st.LastSeq > 0:
		return false, fmt.Errorf("trim up to %d: the log ends at %d", before, st.LastSeq)
	case s.CachedInfo().Config.DenyPurge:
		return false, errDenied
	}
	to := before
	if st.Msgs > 0 {
		to = min(to, st.FirstSeq+max(1, trimStep/max(1, st.Bytes/st.Msgs)))
	}
	if d.rest != nil { // the server reads the file in which the log then begins
		if err := d.rest.inspect(to, to); err != nil {
			return false, err
		}
	}
	if err := s.Purge(ctx, js.WithPurgeSequence(to)); err != nil {
		if werr := d.writeError(); werr != nil {
			return false, werr
		}
		return false, fmt.Errorf("purge stream %s up to %d: %w", d.stream, to, err)
	}
	return to == before, nil
}

// Size implements [backbone.Driver].
func (d *Driver) Size(ctx context.Context) (int64, error) {
	if !d.exists() {
		if found, err := d.find(ctx); err != nil || !found {
			return 0, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, d.o.Timeout)
	defer cancel()
	s, err := d.js.Stream(ctx, d.stream)
	if err != nil {
		return 0, fmt.Errorf("ask for the state of stream %s: %w", d.stream, err)
	}
	return int64(s.CachedInfo().State.Bytes), nil
}
