package audit

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"laaster/internal/change"
	"laaster/internal/kit/disk"
	"laaster/internal/kit/fault"
)

// The files of a trail.
const (
	trailFile = "trail"
	sealsFile = "seals"
	keyFile   = "key"
	pubFile   = "key.pub"
)

// Trail appends records to the files of a folder. One goroutine uses it.
type Trail struct {
	dir     string
	witness string
	kin     map[string]bool
	key     ed25519.PrivateKey
	name    string
	trail   *os.File
	seals   *os.File
	last    digest
	number  uint64 // of the last record; 0: none
	log     string // of the last record
	seq     uint64
	index   int
	sealed  uint64 // the last record that a seal covers
	buf     []byte
}

// Open opens the trail in dir, or begins one. An end that a crash cut short is taken away: the log brings it again. Any other line that does not
// fit is a [*Broken], and nothing is changed: what is there is evidence. Each seal also goes to the file witness, unless that is empty. kin are
// the ids of the logs of one lineage, in which a batch has one sequence: after a repair the log brings the same records under another id.
// each, unless it is nil, is called with the act of every record.
func Open(dir, witness string, kin []string, each func(act []byte)) (_ *Trail, err error) {
	if err := disk.Folder(dir); err != nil {
		return nil, err
	}
	t := &Trail{dir: dir, witness: witness, kin: map[string]bool{}}
	for _, log := range kin {
		t.kin[log] = true
	}
	if err := t.openKey(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
		}
	}()
	if t.trail, err = os.OpenFile(filepath.Join(dir, trailFile), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	if t.seals, err = os.OpenFile(filepath.Join(dir, sealsFile), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	whole, err := t.read(each)
	if err != nil {
		return nil, err
	}
	if err := t.trail.Truncate(whole); err != nil {
		return nil, err
	}
	if _, err := t.trail.Seek(whole, io.SeekStart); err != nil {
		return nil, err
	}
	if err := t.readSeals(); err != nil {
		return nil, err
	}
	return t, disk.SyncFolder(dir)
}

// openKey reads the key, or makes one for a new trail.
func (t *Trail) openKey() error {
	path := filepath.Join(t.dir, keyFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(t.dir, trailFile)); err == nil {
			return &Broken{File: path, Reason: "the trail's key is missing", Remedy: "Put it back; or move the folder audit away, as evidence, to begin a new trail"}
		}
		return t.makeKey(path)
	}
	if err != nil {
		return err
	}
	seed, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return &Broken{File: path, Reason: "the trail's key cannot be read", Remedy: "Put back the right one; or move the folder audit away, as evidence, to begin a new trail"}
	}
	t.key = ed25519.NewKeyFromSeed(seed)
	t.name = nameOf(t.key.Public().(ed25519.PublicKey))
	return nil
}

func (t *Trail) makeKey(path string) error {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	t.key, t.name = key, nameOf(pub)
	if err := disk.Replace(filepath.Join(t.dir, pubFile), []byte(hex.EncodeToString(pub)+"\n"), 0o644); err != nil {
		return err
	}
	return disk.Replace(path, []byte(hex.EncodeToString(key.Seed())+"\n"), 0o600)
}

// nameOf names a trail by its public key.
func nameOf(pub ed25519.PublicKey) string {
	sum := sha256.Sum256(pub)
	return hex.EncodeToString(sum[:8])
}

// read goes through the whole trail, so that nothing is appended to a broken one, and returns where its last whole line ends.
func (t *Trail) read(each func(act []byte)) (whole int64, err error) {
	err = eachLine(t.trail, func(n int, line []byte, ended bool) error {
		if !ended {
			return nil // a write that a crash cut short
		}
		r, d, err := parseLine(line, t.last)
		if err == nil && r.Number != t.number+1 {
			err = fmt.Errorf("it has number %d and follows number %d", r.Number, t.number)
		}
		if err != nil {
			return &Broken{File: t.trail.Name(), Line: n, Reason: err.Error(), Remedy: remedyTrail}
		}
		t.last, t.number, t.log, t.seq, t.index = d, r.Number, r.Log, r.Seq, r.Index
		whole += int64(len(line)) + 1
		if each != nil {
			each(r.Act)
		}
		return nil
	})
	return whole, err
}

// Read tells each of the acts of a trail that is not open: that of a log before this one. Nothing is changed. No trail has no acts.
func Read(dir string, each func(act []byte)) error {
	f, err := os.Open(filepath.Join(dir, trailFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	_, err = (&Trail{trail: f}).read(each)
	return err
}

const remedyTrail = "Keep the folder audit as evidence; laaster audit verify says what is wrong; move it away to begin a new trail"

// readSeals finds the newest seal; one that covers more than the trail has is a trail that was cut.
func (t *Trail) readSeals() error {
	whole := int64(0)
	err := eachLine(t.seals, func(n int, line []byte, ended bool) error {
		if !ended {
			return nil
		}
		s, err := parseSeal(line, t.key.Public().(ed25519.PublicKey))
		if err == nil && s.Number > t.number {
			// Records are synced before their seal is, so this is no crash.
			err = fmt.Errorf("it covers %d records and the trail has %d: the trail was cut", s.Number, t.number)
		}
		if err == nil && s.Number == t.number && s.Digest != [32]byte(t.last) {
			err = fmt.Errorf("record %d is another one than the sealed", s.Number)
		}
		if err != nil {
			return &Broken{File: t.seals.Name(), Line: n, Reason: err.Error(), Remedy: remedyTrail}
		}
		t.sealed = s.Number
		whole += int64(len(line)) + 1
		return nil
	})
	if err != nil {
		return err
	}
	if err := t.seals.Truncate(whole); err != nil {
		return err
	}
	_, err = t.seals.Seek(whole, io.SeekStart)
	return err
}

// eachLine calls f for each line of a file, counted from 1; ended is false for a last one without its end.
func eachLine(f *os.File, fn func(n int, line []byte, ended bool) error) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r := bufio.NewReaderSize(f, 64<<10)
	var long []byte
	for n := 1; ; {
		part, err := r.ReadSlice('\n')
		long = append(long, part...)
		if len(long) > maxLine {
			return &Broken{File: f.Name(), Line: n, Reason: "it is too long for a record", Remedy: remedyTrail}
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			if len(long) > 0 {
				return fn(n, long, false)
			}
			return nil
		case err != nil:
			return err
		}
		if err := fn(n, long[:len(long)-1], true); err != nil {
			return err
		}
		n, long = n+1, long[:0]
	}
}

// Applied takes over the audit entries of a batch that the engine applied. Those that the trail has already are passed over: a replay
// brings them again. Audit entries come before a batch's writes.
func (t *Trail) Applied(b *change.Batch) error {
	h := b.Header()
	log := h.Log.String()
	index := -1
	it, e := b.Entries(), change.Entry{}
	for it.Next(&e) {
		if e.Kind == change.EntryWrite {
			break
		}
		if e.Kind != change.EntryAudit {
			continue
		}
		if index++; (log == t.log || t.kin[log] && t.kin[t.log]) && (h.Seq < t.seq || h.Seq == t.seq && index <= t.index) {
			continue
		}
		if err := t.add(&Record{Number: t.number + 1, Log: log, Seq: h.Seq, Index: index, Act: newRecord(e.Body)}); err != nil {
			return err
		}
		if t.number-t.sealed >= SealEvery {
			if err := t.Seal(h.Stamp); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *Trail) add(r *Record) error {
	line, d, err := appendLine(t.buf[:0], t.last, r)
	t.buf = line
	if err != nil {
		return err
	}
	if _, err := t.trail.Write(line); err != nil {
		return fmt.Errorf("the audit trail: %w", err)
	}
	fault.Point("audit.written")
	t.last, t.number, t.log, t.seq, t.index = d, r.Number, r.Log, r.Seq, r.Index
	return nil
}

// Sync makes the records durable: a checkpoint must not be ahead of them, since the replay behind it does not bring them again. Unlike the other methods it may be called
// from any goroutine while the trail is open.
func (t *Trail) Sync() error {
	if err := disk.SyncData(t.trail); err != nil {
		return fmt.Errorf("sync the audit trail: %w", err)
	}
	return nil
}

// Number returns how many records the trail has.
func (t *Trail) Number() uint64 { return t.number }

// Seal makes the records durable and signs for them, unless a seal does already. stamp is the log's time, microseconds since 1970.
func (t *Trail) Seal(stamp int64) error {
	if t.number == t.sealed {
		return nil
	}
	if err := disk.SyncData(t.trail); err != nil {
		return fmt.Errorf("sync the audit trail: %w", err)
	}
	fault.Point("audit.synced")
	s := Seal{Trail: t.name, Number: t.number, Digest: t.last, Log: t.log, Seq: t.seq, At: stamp}
	line := s.line(t.key)
	if _, err := t.seals.Write(line); err != nil {
		return fmt.Errorf("the seals of the audit trail: %w", err)
	}
	if err := disk.SyncData(t.seals); err != nil {
		return fmt.Errorf("sync the seals of the audit trail: %w", err)
	}
	fault.Point("audit.sealed")
	t.sealed = t.number
	return t.tell(line)
}

// tell appends a seal to the witness.
func (t *Trail) tell(line []byte) error {
	if t.witness == "" {
		return nil
	}
	f, err := os.OpenFile(t.witness, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = f.Write(line)
		err = errors.Join(err, disk.SyncData(f), f.Close())
	}
	if err != nil {
		return fmt.Errorf("the witness of the audit trail did not get a seal: %w", err)
	}
	return nil
}

// Close seals and closes the files.
func (t *Trail) Close(stamp int64) error { return errors.Join(t.Seal(stamp), t.close()) }

func (t *Trail) close() error {
	var err error
	for _, f := range []*os.File{t.trail, t.seals} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// Broken says that the files of a trail are not what was written.
type Broken struct {
	File   string
	Line   int // from 1; 0: the file as a whole
	Reason string
	Remedy string
}

// Error implements error.
func (e *Broken) Error() string {
	where := e.File
	if e.Line > 0 {
		where = fmt.Sprintf("%s, line %d", e.File, e.Line)
	}
	return fmt.Sprintf("the audit trail is broken (%s): %s. %s", where, e.Reason, e.Remedy)
}
