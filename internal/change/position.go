package change

import (
	"errors"
	"strconv"
	"strings"
)

// LogID names one log for ever: 16 lowercase base32 characters ([a-z2-7]), random, made when the log is created, so
// that a wiped log is never mistaken for the old one. The zero value is no log.
type LogID [16]byte

// String returns the 16 characters.
func (id LogID) String() string { return string(id[:]) }

// ParseLogID reads what String wrote.
func ParseLogID(s string) (LogID, error) {
	var id LogID
	if len(s) != len(id) {
		return id, errors.New("a log id has 16 characters")
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return id, errors.New("a log id has only the characters a-z and 2-7")
		}
		id[i] = s[i]
	}
	return id, nil
}

// Position names a prefix of the history: everything up to and including batch Seq of one shard of one log. Seq 0 is
// the empty prefix. As text it is "<log>.<shard>-<seq>"; several shards will be a comma-separated list, which today's
// parser refuses with an error that says so.
type Position struct {
	Log   LogID
	Shard uint32
	Seq   uint64
}

// String returns the text form.
func (p Position) String() string { return string(p.Append(nil)) }

// Append appends the text form to dst.
func (p Position) Append(dst []byte) []byte {
	dst = append(dst, p.Log[:]...)
	dst = append(dst, '.')
	dst = strconv.AppendUint(dst, uint64(p.Shard), 10)
	dst = append(dst, '-')
	return strconv.AppendUint(dst, p.Seq, 10)
}

// ParsePosition reads the text form. Errors say what is wrong in words for the client that sent it.
func ParsePosition(s string) (Position, error) {
	var p Position
	log, rest, ok := strings.Cut(s, ".")
	if !ok || len(s) > 64 {
		return p, errors.New("a position has the form <log>.<shard>-<seq>")
	}
	id, err := ParseLogID(log)
	if err != nil {
		return p, err
	}
	if strings.Contains(rest, ",") {
		return p, errors.New("a position of several shards cannot be read by this server")
	}
	shard, seq, ok := strings.Cut(rest, "-")
	if !ok {
		return p, errors.New("a position has the form <log>.<shard>-<seq>")
	}
	n, err := strconv.ParseUint(shard, 10, 32)
	if err != nil {
		return p, errors.New("the shard of a position is a number")
	}
	m, err := strconv.ParseUint(seq, 10, 64)
	if err != nil {
		return p, errors.New("the sequence of a position is a number")
	}
	return Position{Log: id, Shard: uint32(n), Seq: m}, nil
}
