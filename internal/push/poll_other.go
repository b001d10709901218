//go:build !linux

package push

import (
	"context"
	"errors"
	"syscall"
)

// poller is not there on this system: every connection is read by a goroutine of its own.
type poller struct{}

func newPoller() (*poller, error) { return nil, errors.ErrUnsupported }

func pollers() int { return 0 }

func (p *poller) add(*conn, syscall.RawConn) bool { return false }
func (p *poller) remove(*conn, sink)              {}
func (p *poller) begin(*conn, []byte)             {}
func (p *poller) read(context.Context) error      { return nil }
func (p *poller) close()                          {}

func (p *poller) watched() int { return 0 }
