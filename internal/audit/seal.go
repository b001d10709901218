package audit

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// SealEvery is after how many records a seal is made.
const SealEvery = 1000

// Seal says that the trail had Number records, of which the last has this digest, when the log was at a position.
type Seal struct {
	Trail  string // names the trail: the first 16 hex digits of the SHA-256 of its public key
	Number uint64
	Digest [32]byte
	Log    string
	Seq    uint64 // of the last record's batch
	At     int64  // microseconds since 1970, by the log
}

const sealMagic = "laaster-audit-1"

// text is what is signed: the line of the seal up to its signature.
func (s *Seal) text() []byte {
	b := append([]byte(sealMagic+" "+s.Trail+" "), strconv.FormatUint(s.Number, 10)...)
	b = append(b, ' ')
	b = hex.AppendEncode(b, s.Digest[:])
	b = append(b, " "+s.Log+" "...)
	b = strconv.AppendUint(b, s.Seq, 10)
	b = append(b, ' ')
	return strconv.AppendInt(b, s.At, 10)
}

// line returns the signed seal with the end of line.
func (s *Seal) line(key ed25519.PrivateKey) []byte {
	b := s.text()
	sig := ed25519.Sign(key, b)
	b = append(b, ' ')
	b = base64.RawURLEncoding.AppendEncode(b, sig)
	return append(b, '\n')
}

var errSeal = errors.New("it is not a seal of an audit trail")

// parseSeal reads a line without its end and checks its signature.
func parseSeal(line []byte, key ed25519.PublicKey) (s Seal, err error) {
	f := strings.Split(string(line), " ")
	if len(f) != 8 || f[0] != sealMagic {
		return s, errSeal
	}
	s.Trail, s.Log = f[1], f[4]
	var sum []byte
	var e1, e2, e3, e4 error
	s.Number, e1 = strconv.ParseUint(f[2], 10, 64)
	sum, e2 = hex.DecodeString(f[3])
	s.Seq, e3 = strconv.ParseUint(f[5], 10, 64)
	s.At, e4 = strconv.ParseInt(f[6], 10, 64)
	sig, e5 := base64.RawURLEncoding.DecodeString(f[7])
	if err := errors.Join(e1, e2, e3, e4, e5); err != nil || len(sum) != len(s.Digest) {
		return s, errSeal
	}
	s.Digest = [32]byte(sum)
	text := s.text()
	if string(line) != string(text)+" "+base64.RawURLEncoding.EncodeToString(sig) { // one form only, down to the unused bits at the end of base64
		return s, errSeal
	}
	if !ed25519.Verify(key, text, sig) {
		return s, fmt.Errorf("the seal of record %d is not signed by the trail's key", s.Number)
	}
	return s, nil
}
