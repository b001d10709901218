package wire

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// The encoders of this file append one frame as JSON text and never fail. Those of frames that are sent often do not
// reflect; a test holds them against the structs of frames.go.

// AppendString appends s as a JSON string. s must be UTF-8.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := range len(s) {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			const hex = "0123456789abcdef"
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(append(dst, s[start:]...), '"')
}

// AppendStrings appends list as a JSON array.
func AppendStrings(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendString(dst, s)
	}
	return append(dst, ']')
}

// Millis returns a time of the wire: microseconds since 1970 UTC as milliseconds with a fraction.
func Millis(micros int64) float64 { return float64(micros) / 1000 }

// AppendMillis appends Millis(micros) exactly, without trailing zeros.
func AppendMillis(dst []byte, micros int64) []byte {
	if micros < 0 {
		dst, micros = append(dst, '-'), -micros
	}
	dst = strconv.AppendInt(dst, micros/1000, 10)
	rest := micros % 1000
	if rest == 0 {
		return dst
	}
	dst = append(dst, '.', byte('0'+rest/100), byte('0'+rest/10%10), byte('0'+rest%10))
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}

// AppendEpochHead appends what an epoch says besides its changes, as members without braces. An empty from is left out.
func AppendEpochHead(dst []byte, position, from []byte, stamp int64) []byte {
	dst = append(dst, `"position":"`...)
	dst = append(append(dst, position...), '"')
	if len(from) > 0 {
		dst = append(dst, `,"from":"`...)
		dst = append(append(dst, from...), '"')
	}
	dst = append(dst, `,"at":`...)
	return AppendMillis(dst, stamp)
}

// AppendSnapshotHead appends what a snapshot page says before its rows, as members without braces. key is the JSON array
// of the names of the key columns.
func AppendSnapshotHead(dst []byte, position, key []byte) []byte {
	dst = append(dst, `"position":"`...)
	dst = append(dst, position...)
	dst = append(dst, `","key":`...)
	return append(dst, key...)
}

// AppendStart appends the beginning of a frame: its type and, when not empty, its id. The frame lacks its closing brace.
func AppendStart(dst []byte, kind, id string) []byte {
	dst = append(dst, `{"type":"`...)
	dst = append(append(dst, kind...), '"')
	if id != "" {
		dst = append(dst, `,"id":`...)
		dst = AppendString(dst, id)
	}
	return dst
}

// Append appends the whole frame.
func (f *PongFrame) Append(dst []byte) []byte {
	dst = AppendStart(dst, "pong", "")
	dst = append(dst, `,"t":`...)
	dst = strconv.AppendFloat(dst, f.T, 'f', -1, 64)
	dst = append(dst, `,"now":`...)
	dst = strconv.AppendFloat(dst, f.Now, 'f', -1, 64)
	return append(dst, '}')
}

// Append appends the whole frame.
func (f *WelcomeFrame) Append(dst []byte) []byte { return appendAny(dst, "welcome", f) }

// Append appends the whole frame.
func (f *ResumedFrame) Append(dst []byte) []byte {
	dst = AppendStart(dst, "resumed", f.ID)
	dst = append(dst, `,"position":`...)
	dst = AppendString(dst, f.Position)
	if len(f.Key) > 0 {
		dst = AppendStrings(append(dst, `,"key":`...), f.Key)
	}
	return append(dst, '}')
}

// Append appends the whole frame.
func (f *GapFrame) Append(dst []byte) []byte {
	dst = AppendStart(dst, "gap", f.ID)
	dst = append(dst, `,"kept_from":`...)
	return append(AppendString(dst, f.KeptFrom), '}')
}

// AppendSignalsHead appends the beginning of a SignalsFrame: what it says before its rows, without its closing brace. key is the JSON array of
// the names of the key columns, with full; count is told when it is not negative.
func AppendSignalsHead(dst []byte, id string, full bool, key []byte, count int) []byte {
	dst = AppendStart(dst, "signals", id)
	if full {
		dst = append(append(dst, `,"full":true,"key":`...), key...)
	}
	if count >= 0 {
		dst = strconv.AppendInt(append(dst, `,"count":`...), int64(count), 10)
	}
	return dst
}

// Append appends the whole frame.
func (f *ResultFrame) Append(dst []byte) []byte {
	dst = AppendStart(dst, "result", f.ID)
	dst = append(dst, ',')
	dst = f.WriteResult.appendMembers(dst)
	return append(dst, '}')
}

// appendMembers appends the members of the result without braces.
func (r *WriteResult) appendMembers(dst []byte) []byte {
	dst = append(r.appendHead(dst), '[')
	for i := range r.Rejected {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = r.Rejected[i].append(dst)
	}
	return append(dst, ']')
}

// appendHead appends the members of the result up to the list of refusals.
func (r *WriteResult) appendHead(dst []byte) []byte {
	dst = append(dst, `"position":`...)
	dst = AppendString(dst, r.Position)
	dst = append(dst, `,"final":`...)
	dst = strconv.AppendBool(dst, r.Final)
	if r.Ack != "" {
		dst = append(dst, `,"ack":`...)
		dst = AppendString(dst, r.Ack)
	}
	dst = append(dst, `,"accepted":`...)
	dst = strconv.AppendInt(dst, int64(r.Accepted), 10)
	dst = append(dst, `,"duplicates":`...)
	dst = strconv.AppendInt(dst, int64(r.Duplicates), 10)
	return append(dst, `,"rejected":`...)
}

// Append appends the whole frame.
func (f *FreshnessFrame) Append(dst []byte) []byte { return appendAny(dst, "freshness", f) }

// Append appends the whole frame.
func (f *ErrorFrame) Append(dst []byte) []byte {
	dst = AppendStart(dst, "error", f.ID)
	dst = append(dst, `,"error":`...)
	return append(appendJSON(dst, f.Error), '}')
}

// Append appends the whole frame.
func (f *GoodbyeFrame) Append(dst []byte) []byte { return appendAny(dst, "goodbye", f) }

// appendAny appends a frame that is sent seldom: its type before the members that its struct has.
func appendAny(dst []byte, kind string, frame any) []byte {
	dst = AppendStart(dst, kind, "")
	at := len(dst)
	dst = appendJSON(dst, frame)
	dst[at] = ','
	return dst
}

// appendJSON marshals one of our own structs, which cannot fail. Unlike json.Marshal it leaves < and > alone.
func appendJSON(dst []byte, v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("wire: " + err.Error())
	}
	return append(dst, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
}
