package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"laaster/internal/change"
)

// Report is what Verify found.
type Report struct {
	Trail    string   // its name
	Records  uint64   // of the trail, up to the first that does not fit
	Seals    int      // good ones
	Sealed   uint64   // the last record that a seal covers
	Witness  int      // seals of this trail in the witness, all of which the trail has
	Logged   int      // records that were compared with the log
	Problems []string // what is wrong, each with its place; empty: nothing
}

// Source calls a function for every batch of the log that is still there, oldest first.
type Source func(fn func(b *change.Batch) error) error

// VerifyOptions says what a trail is compared with.
type VerifyOptions struct {
	Witness string   // a file with seals; empty: none
	Key     string   // the public key in hex as it was noted elsewhere; empty: the one beside the trail
	Log     Source   // the log that the records came in; nil: it is not asked
	Kin     []string // ids of the logs of one lineage, see [Open]
	Each    func(r *Record)
}

// maxProblems is how many problems Verify lists.
const maxProblems = 100

// Verify reads the trail in dir and says everything that is wrong with it. It changes nothing. The error means that it could not be read.
func Verify(dir string, o VerifyOptions) (*Report, error) {
	v := &verifier{dir: dir, o: o, digests: map[uint64]digest{}, wanted: map[uint64]bool{}, places: map[place]string{}}
	if err := v.readKey(); err != nil {
		return nil, err
	}
	for _, step := range []func() error{v.readSeals, v.readTrail, v.matchSeals, v.matchWitness, v.matchLog} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return &v.report, nil
}

type place struct {
	log   string
	seq   uint64
	index int
}

type verifier struct {
	dir     string
	o       VerifyOptions
	report  Report
	pub     ed25519.PublicKey
	seals   []Seal
	witness []Seal
	wanted  map[uint64]bool   // numbers that a seal names
	digests map[uint64]digest // of these
	places  map[place]string  // records by where they are in the log, with the log asked only
	last    place
}

func (v *verifier) problem(format string, args ...any) {
	if len(v.report.Problems) < maxProblems {
		v.report.Problems = append(v.report.Problems, fmt.Sprintf(format, args...))
	}
}

func (v *verifier) readKey() error {
	beside, err := os.ReadFile(filepath.Join(v.dir, pubFile))
	if err != nil && !(v.o.Key != "" && errors.Is(err, os.ErrNotExist)) {
		return fmt.Errorf("the trail's public key: %w\n  hint: name the data folder of an app that has run; --key gives the key when it is kept elsewhere", err)
	}
	text := strings.TrimSpace(string(beside))
	if v.o.Key != "" {
		if text != "" && text != v.o.Key {
			v.problem("%s is another key than the one given: the trail was begun anew, or signed by somebody else", pubFile)
		}
		text = v.o.Key
	}
	pub, err := hex.DecodeString(text)
	if err != nil || len(pub) != ed25519.PublicKeySize {
		return errors.New("the public key is not 64 hex digits")
	}
	v.pub, v.report.Trail = pub, nameOf(pub)
	return nil
}

func (v *verifier) readSeals() error {
	f, err := os.Open(filepath.Join(v.dir, sealsFile))
	if errors.Is(err, os.ErrNotExist) {
		v.problem("%s is missing", sealsFile)
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	err = eachLine(f, func(n int, line []byte, ended bool) error {
		s, err := parseSeal(line, v.pub)
		switch {
		case !ended:
			v.problem("%s, line %d: the file ends in the middle of a line", sealsFile, n)
			return nil
		case err != nil:
			v.problem("%s, line %d: %v", sealsFile, n, err)
			return nil
		case len(v.seals) > 0 && s.Number <= v.seals[len(v.seals)-1].Number:
			v.problem("%s, line %d: it covers %d records and follows one that covers %d", sealsFile, n, s.Number, v.seals[len(v.seals)-1].Number)
			return nil
		}
		v.seals = append(v.seals, s)
		v.wanted[s.Number] = true
		return nil
	})
	if err != nil {
		return v.broken(err)
	}
	if v.o.Witness == "" {
		return nil
	}
	lines, err := os.ReadFile(v.o.Witness)
	if err != nil {
		return fmt.Errorf("the witness: %w", err)
	}
	for i, line := range bytes.Split(bytes.TrimSuffix(lines, []byte{'\n'}), []byte{'\n'}) {
		if !bytes.HasPrefix(line, []byte(sealMagic+" "+v.report.Trail+" ")) {
			continue // another trail's
		}
		s, err := parseSeal(line, v.pub)
		if err != nil {
			v.problem("the witness, line %d: %v", i+1, err)
			continue
		}
		v.witness = append(v.witness, s)
		v.wanted[s.Number] = true
	}
	return nil
}

// broken turns a file that cannot be gone through into a problem.
func (v *verifier) broken(err error) error {
	if b := (*Broken)(nil); errors.As(err, &b) {
		v.problem("%s, line %d: %s", filepath.Base(b.File), b.Line, b.Reason)
		return nil
	}
	return err
}

func (v *verifier) readTrail() error {
	f, err := os.Open(filepath.Join(v.dir, trailFile))
	if errors.Is(err, os.ErrNotExist) {
		v.problem("%s is missing", trailFile)
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	before := digest{}
	return v.broken(eachLine(f, func(n int, line []byte, ended bool) error {
		if !ended {
			v.problem("%s, line %d: the file ends in the middle of a line (a crash may do that, and the next start mends it)", trailFile, n)
			return nil
		}
		r, d, err := parseLine(line, before)
		if err == nil && r.Number != v.report.Records+1 {
			err = fmt.Errorf("it has number %d and should have %d", r.Number, v.report.Records+1)
		}
		if at := (place{v.lineage(r.Log), r.Seq, r.Index}); err == nil && at.log == v.last.log && (at.seq < v.last.seq || at.seq == v.last.seq && at.index <= v.last.index) {
			err = fmt.Errorf("it is of batch %d and follows one of batch %d", at.seq, v.last.seq)
		}
		if err != nil {
			return &Broken{File: trailFile, Line: n, Reason: err.Error()}
		}
		before, v.report.Records, v.last = d, r.Number, place{v.lineage(r.Log), r.Seq, r.Index}
		if v.wanted[r.Number] {
			v.digests[r.Number] = d
		}
		if v.o.Log != nil {
			v.places[v.last] = string(r.Act)
		}
		if v.o.Each != nil {
			v.o.Each(&r)
		}
		return nil
	}))
}

// matchSeals compares the seals beside the trail with its records.
func (v *verifier) matchSeals() error {
	for i := range v.seals {
		if v.match(&v.seals[i], "the seal") {
			v.report.Seals++
			v.report.Sealed = max(v.report.Sealed, v.seals[i].Number)
		}
	}
	if v.report.Records > v.report.Sealed+2*SealEvery {
		v.problem("%d records behind the last seal (record %d): seals were taken away", v.report.Records-v.report.Sealed, v.report.Sealed)
	}
	return nil
}

func (v *verifier) match(s *Seal, what string) bool {
	switch d, there := v.digests[s.Number]; {
	case s.Trail != v.report.Trail:
		v.problem("%s of record %d is of another trail (%s)", what, s.Number, s.Trail)
	case !there:
		v.problem("%s of record %d: the trail has no such record: it was cut, or an older state of it was put back", what, s.Number)
	case [32]byte(d) != s.Digest:
		v.problem("%s of record %d: the trail has another record there, or others before it", what, s.Number)
	default:
		return true
	}
	return false
}

func (v *verifier) matchWitness() error {
	for i := range v.witness {
		if v.match(&v.witness[i], "the witness's seal") {
			v.report.Witness++
		}
	}
	if n := len(v.witness); n > 0 && v.witness[n-1].Number > v.report.Sealed {
		v.problem("the witness has a seal of record %d and the newest seal beside the trail is of record %d: seals were taken away", v.witness[n-1].Number, v.report.Sealed)
	}
	return nil
}

// lineage names the history that a log is a part of.
func (v *verifier) lineage(log string) string {
	if slices.Contains(v.o.Kin, log) {
		return ""
	}
	return log
}

// matchLog compares the records with the entries of the log that is still there.
func (v *verifier) matchLog() error {
	if v.o.Log == nil {
		return nil
	}
	return v.o.Log(func(b *change.Batch) error {
		h := b.Header()
		at := place{v.lineage(h.Log.String()), h.Seq, -1}
		it, e := b.Entries(), change.Entry{}
		for it.Next(&e) {
			if e.Kind != change.EntryAudit {
				continue
			}
			at.index++
			switch act, there := v.places[at]; {
			case !there:
				v.problem("batch %d of the log has an audit entry (number %d of the batch) that the trail has not: it was cut, or an older state of it was put back", at.seq, at.index)
			case act != string(newRecord(e.Body)):
				v.problem("batch %d of the log has another audit entry (number %d of the batch) than the trail", at.seq, at.index)
			default:
				v.report.Logged++
			}
		}
		return nil
	})
}
