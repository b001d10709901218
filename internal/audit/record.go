package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// Act is what the body of an audit entry of the log says. Times are microseconds since 1970 UTC.
type Act struct {
	At      int64           `json:"at"`
	Subject string          `json:"subject"`           // who did it: auth_subject(), or "operator" for the command line and the admin listener
	Role    string          `json:"role"`              // in which role
	Act     string          `json:"act"`               // deploy, backup, restore, repair, checkpoint, start, stop, read, subscribe, write …
	Object  string          `json:"object"`            // what it was done to: a table, a file, a position
	Outcome string          `json:"outcome"`           // begun, done, failed, refused
	Details json.RawMessage `json:"details,omitempty"` // an object
}

// Encode returns the body of the entry. Texts are cut at 1,000 bytes.
func (a Act) Encode() []byte {
	for _, s := range []*string{&a.Subject, &a.Role, &a.Act, &a.Object, &a.Outcome} {
		if len(*s) > maxText {
			*s = (*s)[:maxText]
		}
	}
	b, err := json.Marshal(a)
	if err != nil { // Details is not JSON
		a.Details = nil
		b, _ = json.Marshal(a)
	}
	return b
}

const maxText = 1000

// Record is one line of the trail.
type Record struct {
	Number uint64          `json:"number"` // from 1, without holes
	Log    string          `json:"log"`
	Seq    uint64          `json:"seq"`   // the batch that it came in
	Index  int             `json:"index"` // among the batch's audit entries
	Act    json.RawMessage `json:"act"`   // the entry's body when it is JSON, else the body as a JSON string
}

// digest is SHA-256 over the digest before and a line's JSON.
type digest [sha256.Size]byte

func (d digest) next(line []byte) digest {
	h := sha256.New()
	h.Write(d[:])
	h.Write(line)
	return digest(h.Sum(nil))
}

// appendLine appends the line of a record: the digest, a space, the record as JSON, the end of line. It returns the digest too.
func appendLine(dst []byte, before digest, r *Record) ([]byte, digest, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return dst, before, err
	}
	d := before.next(text)
	dst = hex.AppendEncode(dst, d[:])
	dst = append(dst, ' ')
	return append(append(dst, text...), '\n'), d, nil
}

// maxLine bounds a line of the trail: a batch's largest body as JSON text.
const maxLine = 8 << 20

var errLine = errors.New("it is not a digest and a record")

// parseLine reads a line without its end and checks that its digest follows before.
func parseLine(line []byte, before digest) (r Record, d digest, err error) {
	sum, text, ok := bytes.Cut(line, []byte{' '})
	if !ok || len(sum) != 2*sha256.Size {
		return r, d, errLine
	}
	if _, err := hex.Decode(d[:], sum); err != nil {
		return r, d, errLine
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, d, fmt.Errorf("%w: %w", errLine, err)
	}
	if want := before.next(text); want != d || !bytes.Equal(hex.AppendEncode(nil, d[:]), sum) {
		return r, d, errors.New("its digest does not follow from the line before: this line was changed, or lines before it were taken away, added or moved")
	}
	return r, d, nil
}

// newRecord makes the record of an entry's body.
func newRecord(body []byte) (act json.RawMessage) {
	var compact bytes.Buffer
	if json.Valid(body) && json.Compact(&compact, body) == nil {
		return compact.Bytes()
	}
	text, _ := json.Marshal(string(body)) // a string always has a form
	return text
}
