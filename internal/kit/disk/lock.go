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

// Lock holds a lock file, if there is one, until it is closed or the process ends, however it ends.
type Lock struct{ f *os.File }

// LockFile takes the lock on path, which it creates when needed and writes the process id to. It does not wait: when
// another process, or another Lock of this one, holds it, the error is a [*LockedError].
func LockFile(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := take(f, path); err != nil {
		return nil, err
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

// HoldFile takes the lock on path as LockFile does, and changes nothing: when there is no such file, nobody is kept out.
func HoldFile(path string) (*Lock, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return &Lock{}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := take(f, path); err != nil {
		return nil, err
	}
	return &Lock{f: f}, nil
}

// take locks f or closes it.
func take(f *os.File, path string) error {
	err := flock(f)
	if err == nil {
		return nil
	}
	defer f.Close()
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("lock %s: %w", path, err)
	}
	b := make([]byte, 20)
	n, _ := f.ReadAt(b, 0) // a holder that has not written its id yet is only not named
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	return &LockedError{Path: path, PID: pid}
}

// Close releases the lock. The file stays: removing it would let two processes lock two files of one name.
func (l *Lock) Close() error {
	if l.f == nil {
		return nil
	}
	return l.f.Close()
}

// IsFull reports whether err is a full disk or a used up quota.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
