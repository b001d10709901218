//go:build !linux

package load

import (
	"context"
	"errors"
	"io"
)

// Bare is the bound that a run is compared with, on Linux.
func Bare(context.Context, io.Writer) error {
	return errors.New("the bare loop to compare with needs Linux")
}
