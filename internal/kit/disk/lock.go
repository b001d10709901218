package disk

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// LockedError says that another process holds a lock.
type LockedError struct {
	Path string
	PID  int // of the holder, 0 when it is not known
}

// Error implements error.
func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%s is locked by another process", e.Path)
	}
	return fmt.Sprintf("%s is locked by process %d", e.Path, e.PID)
}

// Lock holds a lock file until it is closed or the process ends, however it ends.
type Lock struct{ f *os.File }

// LockFile takes the lock on path, which it creates when needed and writes the process id to. It does not wait: when
// another process, or another Lock of this one, holds it, the error is a [*LockedError].
func LockFile(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		b := make([]byte, 20)
		n, _ := f.ReadAt(b, 0) // a holder that has not written its id yet is only not named
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b[:n])))
		return nil, &LockedError{Path: path, PID: pid}
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil && !IsFull(err) { // a lock without a name on it is a lock all the same
		return nil, errors.Join(err, f.Close())
	}
	return &Lock{f: f}, nil
}

// Close releases the lock. The file stays: removing it would let two processes lock two files of one name.
func (l *Lock) Close() error { return l.f.Close() }

// IsFull reports whether err is a full disk or a used up quota.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
