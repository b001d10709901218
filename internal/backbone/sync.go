package backbone

import (
	"context"
	"errors"

	"laaster/internal/kit/disk"
	"laaster/internal/kit/fault"
)

// syncMarks makes high-water marks durable: at most one sync per syncEvery, and none while nothing is appended. It ends
// with the group; Close makes the last sync.
func (s *Shard) syncMarks(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.dirty:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.clock.After(syncEvery):
		}
		select { // marks written until now are in this sync
		case <-s.dirty:
		default:
		}
		if err := s.hw.sync(); err != nil {
			s.stop(stopped(reasonOf(err), err)) // what was appended until now is dirty no more; Reopen writes the mark anew
			continue
		}
		fault.Point("log.mark_synced")
	}
}

// reasonOf tells a full disk from other failures to write.
func reasonOf(err error) Reason {
	if disk.IsFull(err) {
		return DiskFull
	}
	return WriteFail
}

// errClosed is the error of appends after Close.
var errClosed = errors.New("the shard was closed")

// Close waits for the append under way, makes the high-water mark durable and closes the driver. Later appends are refused;
// calling it again does nothing.
func (s *Shard) Close() error {
	s.gate <- struct{}{}
	defer func() { <-s.gate }()
	if s.closed {
		return nil
	}
	s.closed = true
	s.stop(stopped(Closed, errClosed))
	s.group.Stop()
	err := s.group.Wait()
	if s.hw != nil {
		err = errors.Join(err, s.hw.sync(), s.hw.close())
	}
	return errors.Join(err, s.driver().Close())
}
