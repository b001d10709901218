package checkpoint

import (
	"errors"
	"slices"
)

const scrubSize = 256 << 10 // bytes read at once

// Scrub reads files of both folders from the disk, not from memory where the system allows, and verifies every byte, oldest verified first, until about limit
// bytes are read or each was looked at once; it returns damage found, and goes on there next time. What is damaged is said by List from then on, and
// the next checkpoint does not build on it. Files that could not be used when the store was opened are passed over. One at a time.
func (s *Store) Scrub(limit int64) (read int64, damage []error) {
	s.scrub.Lock()
	defer s.scrub.Unlock()
	began := s.scrub.count
	for read < limit {
		f := s.scrubbed(began)
		if f == nil {
			break
		}
		n, found := s.scrubSome(f, limit-read)
		read += n
		damage = append(damage, found...)
		select {
		case <-s.closed:
			return read, damage
		default:
		}
	}
	return read, damage
}

// scrubbed returns the file to go on with, nil when every one was verified since began. The lock is held.
func (s *Store) scrubbed(began int64) *file {
	s.mu.Lock()
	files := slices.Concat(s.mu.files, s.mu.copies)
	s.mu.Unlock()
	files = slices.DeleteFunc(files, func(f *file) bool { return f.err != nil || f.verified > began })
	if s.scrub.file != nil && slices.Contains(files, s.scrub.file) {
		return s.scrub.file
	}
	s.scrub.file, s.scrub.at = nil, 0
	for _, f := range files {
		if s.scrub.file == nil || f.verified < s.scrub.file.verified {
			s.scrub.file = f
		}
	}
	return s.scrub.file
}

// scrubSome verifies a part of a file, at least one page, and moves on. The lock is held.
func (s *Store) scrubSome(f *file, limit int64) (read int64, damage []error) {
	fail := func(err error) {
		f.injured(err)
		damage = append(damage, err)
	}
	at := s.scrub.at
	if at == 0 {
		read += headerSize
		if err := f.scrubHeader(); err != nil {
			fail(err)
		}
		at = headerSize
	}
	if at < f.foot.at {
		n, err := s.scrubPages(f, at, min(limit, scrubSize))
		read += n
		at += n
		if err != nil {
			fail(err)
			at = s.behind(f, at)
		}
	}
	if at >= f.foot.at {
		read += f.foot.size + footerSize
		if err := f.scrubTail(); err != nil {
			fail(err)
		}
		s.scrub.count++
		f.verified, s.scrub.file, at = s.scrub.count, nil, 0
	}
	s.scrub.at = at
	return read, damage
}

func (f *file) scrubHeader() error {
	f.h.f.Forget(0, headerSize)
	head, err := f.bytes(0, headerSize)
	if err == nil && [headerSize]byte(head) != f.raw {
		err = f.damage(0, "its header changed since it was opened")
	}
	return err
}

func (f *file) scrubTail() error {
	if size, err := f.h.f.Size(); err != nil {
		return &fileError{f.path, err}
	} else if size != f.size {
		return f.damage(min(size, f.size), "its length changed since it was opened")
	}
	f.h.f.Forget(f.foot.at, 0)
	stored, err := f.bytes(f.foot.at, f.foot.size+footerSize)
	if err != nil {
		return err
	}
	tail, end := stored[:f.foot.size], stored[f.foot.size:]
	if tailSum(f.identity, tail) != f.foot.sum {
		return f.damage(f.foot.at, "its index has a wrong SHA-256")
	}
	if string(end) != string(appendFooter(nil, &f.foot)) {
		return f.damage(f.size-footerSize, "its footer changed since it was opened")
	}
	return nil
}

// scrubPages verifies pages from at on, about limit bytes of them, and returns how many bytes of good ones there were.
func (s *Store) scrubPages(f *file, at, limit int64) (good int64, err error) {
	want := min(max(limit, frameSize+64<<10), f.foot.at-at)
	for {
		f.h.f.Forget(at, want)
		b, err := f.bytes(at, want)
		if err != nil {
			return good, err
		}
		for int64(len(b)) > 0 {
			n, err := f.scrubPage(b)
			if n > len(b) { // it goes on behind what was read
				break
			}
			if err != nil {
				if d := (*Damage)(nil); errors.As(err, &d) {
					d.Offset = at + good
				}
				return good, err
			}
			good += int64(n)
			b = b[n:]
		}
		if good > 0 {
			return good, nil
		}
		n, _ := f.scrubPage(b)
		if int64(n) > f.foot.at-at || int64(n) <= want {
			return 0, f.damage(at, "the page's length is wrong")
		}
		want = int64(n)
	}
}

// scrubPage verifies the page at the beginning of b. A length greater than b's is how many bytes it takes to do that.
func (f *file) scrubPage(b []byte) (int, error) {
	if len(b) < frameSize {
		return frameSize, nil
	}
	n := frameSize + storedLength(b)
	if n > frameSize+maxStored {
		return 0, f.damage(0, "the page's length is wrong")
	}
	if n > len(b) {
		return n, nil
	}
	fr, err := parseFrame(b[:n], f.identity)
	if err == nil {
		_, _, err = fr.open(f.identity, f.keys)
	}
	if err != nil {
		return n, f.wrong(0, err)
	}
	return n, nil
}

// behind returns where the next page that is in use is behind a damaged one, or the end of the pages: the length of the damaged one cannot be trusted.
func (s *Store) behind(f *file, at int64) int64 {
	s.mu.Lock()
	c := s.mu.base
	s.mu.Unlock()
	next := f.foot.at
	if c == nil {
		return next
	}
	for _, o := range c.index.sorted() {
		c.index.objects[o].Scan(func(_ uint32, p *stored) bool {
			if w := p.at.Load(); w.f == f && w.at > at {
				next = min(next, w.at)
			}
			return true
		})
	}
	return next
}
