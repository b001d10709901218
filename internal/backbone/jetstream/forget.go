package jetstream

import (
	"path/filepath"

	"laaster/internal/backbone"
	"laaster/internal/kit/disk"
)

var _ backbone.Forgetter = (*Driver)(nil)

// Forget implements [backbone.Forgetter] for an embedded store: the system drops what it caches of the block files. The server keeps a block that it has read
// for some seconds of its own.
func (d *Driver) Forget() {
	if d.embedded == nil {
		return
	}
	in := inspector{dir: filepath.Join(streamDir(d.o.Dir, d.stream), "msgs")}
	blocks, err := in.blocks()
	if err != nil {
		return // whoever reads says so
	}
	for _, n := range blocks {
		f, err := (disk.OS{}).Open(in.path(n))
		if err != nil { // it is gone by now
			continue
		}
		f.Forget(0, 0)
		if f.Close() != nil { // it was only read
			return
		}
	}
}
