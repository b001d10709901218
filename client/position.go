package client

import (
	"strconv"
	"strings"
)

// place is a position that could be read: <log>.<shard>-<seq>. Clients need not read positions; this one does to notice frames that go back.
type place struct {
	log string // and shard
	seq uint64
}

func parsePosition(text string) (place, bool) {
	dot, dash := strings.LastIndexByte(text, '.'), strings.LastIndexByte(text, '-')
	if dot < 1 || dash < dot || strings.Contains(text, ",") {
		return place{}, false
	}
	seq, err := strconv.ParseUint(text[dash+1:], 10, 64)
	return place{text[:dash], seq}, err == nil
}

// before reports whether a is certainly earlier than b: both can be read and are of one log.
func before(a, b string) bool {
	if a == b {
		return false
	}
	x, ok := parsePosition(a)
	y, also := parsePosition(b)
	return ok && also && x.log == y.log && x.seq < y.seq
}
