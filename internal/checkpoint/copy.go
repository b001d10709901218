package checkpoint

import (
	"errors"
	"fmt"
	"slices"
)

// Copy makes the second copy of the newest checkpoint, verified page by page as it is read: one file with everything, no byte of which is shared. The copy
// before goes when the new one is durable. It may run beside a Writer, and writes at the same rate; one at a time.
func (s *Store) Copy() (Info, error) {
	if s.o.ReadOnly {
		return Info{}, errReadOnly
	}
	if s.o.Copy == "" {
		return Info{}, errors.New("there is no folder for the second copy")
	}
	s.copying.Lock()
	defer s.copying.Unlock()
	s.mu.Lock()
	c, seq := s.mu.base, s.mu.copy
	s.mu.copy++
	s.mu.Unlock()
	if c == nil {
		return Info{}, errors.New("there is no checkpoint to copy yet")
	}
	if err := s.fs.MkdirAll(s.o.Copy); err != nil {
		return Info{}, fmt.Errorf("folder of the second copy: %w", err)
	}
	n, err := s.whole(c, s.o.Copy, seq, true)
	if err != nil {
		return Info{}, err
	}
	s.mu.Lock()
	old := slices.Clone(s.mu.copies)
	s.mu.copies = append(s.mu.copies, n.file)
	s.mu.Unlock()
	s.remove(old, func(*file) bool { return true }, &s.mu.copies)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.info(n.file, s.mu.copies), nil
}

// copyBack makes of a checkpoint of the second copy one in the folder of the first. writing is held.
func (s *Store) copyBack(c *checkpoint) (*checkpoint, error) {
	s.mu.Lock()
	seq := s.mu.next
	s.mu.next++
	s.mu.Unlock()
	n, err := s.whole(c, s.o.Dir, seq, false)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.mu.files = append(s.mu.files, n.file)
	s.mu.Unlock()
	return n, nil
}

// whole writes a checkpoint as one file. Pages are verified as they are read and bound anew.
func (s *Store) whole(c *checkpoint, folder string, seq uint64, copied bool) (*checkpoint, error) {
	o, err := s.newOutput(folder, seq, copied)
	if err != nil {
		return nil, err
	}
	o.hurry = !copied // a start waits for it
	n, err := s.fill(o, c)
	return n, errors.Join(err, o.abandon())
}

func (s *Store) fill(o *output, c *checkpoint) (*checkpoint, error) {
	n := &checkpoint{file: o.file, parts: c.parts, index: newIndex(), chain: []*file{o.file}}
	t := &tail{header: c.file.header, made: s.o.Clock.Now().UnixMicro(), objects: s.objects.Load(), parts: c.parts, full: true, parent: -1}
	for _, object := range c.index.sorted() {
		tree, ot := &pages{}, objectTail{object: object}
		var err error
		c.index.objects[object].Scan(func(_ uint32, p *stored) bool {
			var at *place
			if e := p.read(p.at.Load(), func(data, meta []byte) { at, err = o.page(object, p.page, meta, data) }); e != nil {
				err = e
			}
			if err != nil {
				return false
			}
			meta := p.meta[:p.metaN]
			n.index.put(tree, newStored(object, p.page, meta, int(p.length), at), at)
			ot.puts = append(ot.puts, putTail{page: p.page, at: at.at, n: at.n, meta: meta})
			return true
		})
		if err != nil {
			return nil, err
		}
		n.index.objects[object] = tree
		t.changes = append(t.changes, ot)
	}
	return n, o.finish(t)
}
