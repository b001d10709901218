package wire

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// DefaultLimits returns the limits of a connection unless settings say otherwise.
func DefaultLimits() Limits {
	return Limits{FrameBytes: 1 << 20, Subscriptions: 1000, WritesInFlight: 64, RowBytes: 256 << 10, HeartbeatSeconds: 15}
}

// Limits of a frame that are no settings: no honest frame comes near.
const (
	MaxDepth    = 64       // levels of nesting, the frame itself included
	MaxID       = 64       // bytes of an id
	MaxFilter   = 16 << 10 // bytes of a filter, select or order
	MaxProducer = 64       // bytes of a producer's name
	MinInstance = 16       // bytes of an instance: nobody should guess it
	MaxInstance = 64       // bytes of an instance
	MaxSequence = 1 << 53  // the greatest sequence: JavaScript has to hold it
	maxName     = 256      // bytes of a table or view name, a position, a version
	maxKey      = 256      // bytes of an idempotency key
	maxToken    = 8 << 10  // bytes of a token
	maxMembers  = 32       // members of a frame or of a subscription
)

// DecodeClient reads one frame of a client. On a problem, id is the frame's id if it could be read, so that the answer can
// name it. The frame's RawJSON members alias data.
func DecodeClient(data []byte, lim Limits) (frame ClientFrame, id string, problem *Problem) {
	if len(data) > lim.FrameBytes {
		return nil, "", NewProblem(TooLarge, fmt.Sprintf("a frame has at most %d bytes", lim.FrameBytes)).
			WithHint("split the rows over several writes")
	}
	if !utf8.Valid(data) {
		return nil, "", NewProblem(InvalidJSON, "the frame is not valid UTF-8")
	}
	s := &scanner{b: data, max: MaxDepth}
	o := readObject(s, "")
	if s.space(); o.problem == nil && s.i < len(s.b) {
		s.fail("expected nothing after the frame")
		o.problem = syntaxProblem(s.err)
	}
	kind := o.text("type", required, maxName)
	if o.problem != nil {
		return nil, "", o.problem
	}
	id = o.peekID()
	frame = o.frame(kind, lim)
	if o.problem == nil {
		o.done()
	}
	if o.problem != nil {
		return nil, id, o.problem
	}
	return frame, id, nil
}

// frame reads the members that a frame of this kind has.
func (o *object) frame(kind string, lim Limits) ClientFrame {
	switch kind {
	case "hello":
		return o.hello(lim)
	case "subscribe":
		return &SubscribeFrame{o.subscription()}
	case "unsubscribe":
		return &UnsubscribeFrame{ID: o.text("id", required, MaxID)}
	case "write":
		return o.write()
	case "call":
		return &CallFrame{o.text("id", required, MaxID), o.text("command", required, maxName), o.raw("args"), o.text("key", 0, maxKey)}
	case "signal":
		return o.signal()
	case "token":
		return &TokenFrame{o.text("token", required, maxToken)}
	case "ping":
		return &PingFrame{o.number("t", required)}
	case "seen":
		return &SeenFrame{o.text("position", required, maxName), o.number("shown_ms", required)}
	}
	o.refuse("type", fmt.Sprintf("no frame has the type %s", quoteShort(kind)),
		"hello, subscribe, unsubscribe, write, signal, token, ping and seen are understood")
	return nil
}

func (o *object) hello(lim Limits) *HelloFrame {
	h := &HelloFrame{
		Token:  o.text("token", 0, maxToken),
		Resume: o.text("resume", 0, maxName),
		Rate:   o.number("rate", 0),
		Every:  o.boolean("every"),
		Exact:  o.boolean("exact"),

		Instance: o.text("instance", 0, MaxInstance),
	}
	if h.Instance != "" && len(h.Instance) < MinInstance {
		o.refuse("instance", fmt.Sprintf("an instance has at least %d bytes", MinInstance), "others could guess it: take a random UUID")
	}
	if h.Rate != 0 && (h.Rate < 0.01 || h.Rate > 1e6) {
		o.refuse("rate", "rate is a number of frames per second from 0.01 to 1000000", "leave it out for no limit")
	}
	if h.Rate != 0 && h.Every {
		o.refuse("every", "every and rate exclude each other", "rate merges epochs, every wants each")
	}
	if c := o.object("client"); c != nil {
		h.Client = &Client{c.text("name", 0, maxName), c.text("version", 0, maxName)}
		c.done()
		o.take(c)
	}
	o.list("subscribe", lim.Subscriptions, func(sub *object) {
		h.Subscribe = append(h.Subscribe, sub.subscription())
		sub.done()
	})
	return h
}

func (o *object) subscription() Subscription {
	s := Subscription{
		ID:     o.text("id", required, MaxID),
		View:   o.text("view", required, maxName),
		Filter: o.text("filter", 0, MaxFilter),
		Select: o.text("select", 0, MaxFilter),
		Order:  o.text("order", 0, MaxFilter),
		Limit:  o.count("limit"),
		Offset: o.count("offset"),
	}
	if m := o.member("from"); m != nil {
		s.From.Given = true
		if string(m) != "null" {
			s.From.Position = o.text("from", required, maxName)
		}
	}
	return s
}

func (o *object) signal() *SignalFrame {
	f := &SignalFrame{ID: o.text("id", required, MaxID), Table: o.text("table", required, maxName), Key: o.raw("key")}
	switch v := o.member("value"); {
	case v == nil:
		o.refuse("value", "needed here", "null clears the value of the key")
	case string(v) != "null":
		f.Value = RawJSON(v)
	}
	switch {
	case f.Key != nil && f.Key[0] != '{':
		o.refuse("key", "key is an object of the key columns", "")
	case f.Value != nil && f.Value[0] != '{':
		o.refuse("value", "value is an object of the other columns, or null", "")
	}
	return f
}

func (o *object) write() *WriteFrame {
	w := &WriteFrame{
		ID:         o.text("id", required, MaxID),
		Table:      o.text("table", required, maxName),
		Rows:       o.raw("rows"),
		Patch:      o.raw("patch"),
		Delete:     o.boolean("delete"),
		Filter:     o.text("filter", 0, MaxFilter),
		Key:        o.text("key", 0, maxKey),
		Atomic:     o.boolean("atomic"),
		OnConflict: o.text("on_conflict", 0, maxName, "merge", "ignore"),
		Ack:        o.text("ack", 0, maxName, "applied", "logged"),
		Producer:   o.text("producer", 0, MaxProducer),
		Sequence:   o.sequence("sequence"),
	}
	kinds := 0
	for _, is := range []bool{w.Rows != nil, w.Patch != nil, w.Delete} {
		if is {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		o.refuse("rows", "a write has exactly one of rows, patch and delete", "")
	case (w.Producer == "") != (w.Sequence == 0):
		o.refuse("sequence", "producer and sequence go together", "")
	case w.Producer != "" && w.Key != "":
		o.refuse("key", "a write has a key or a producer with a sequence, not both", "")
	case w.Rows != nil && w.Filter != "":
		o.refuse("filter", "a filter goes with patch or delete", "")
	case w.Rows != nil && w.Rows[0] != '{' && w.Rows[0] != '[':
		o.refuse("rows", "rows is a row or an array of rows", "")
	case w.Patch != nil && w.Patch[0] != '{':
		o.refuse("patch", "patch is an object of columns", "")
	case w.Rows == nil && w.Filter == "":
		o.refuse("filter", "patch and delete need a filter", "name the rows, such as id=eq.7")
	}
	return w
}

// object is a JSON object whose members are taken one by one by the code that knows them; what is left at the end is
// unknown and refused. The first problem stays.
type object struct {
	names   []string
	values  [][]byte
	used    []bool
	path    string // of the object in its frame, for problems
	problem *Problem
}

const required = 1

// readObject reads the object that s stands before.
func readObject(s *scanner, path string) *object {
	o := &object{path: path}
	ok := s.object(func(quoted, value []byte) bool {
		name, ok := unquote(quoted)
		if !ok {
			return s.fail("half of a surrogate pair")
		}
		if slices.Contains(o.names, name) {
			o.refuse(name, "given twice", "")
			return false
		}
		if len(o.names) == maxMembers {
			o.refuse("", "no frame has so many members", "")
			return false
		}
		o.names, o.values = append(o.names, name), append(o.values, value)
		return true
	})
	if !ok && o.problem == nil {
		o.problem = syntaxProblem(s.err)
	}
	o.used = make([]bool, len(o.names))
	return o
}

func syntaxProblem(e *jsonError) *Problem {
	if e.deep {
		return NewProblem(TooLarge, e.what)
	}
	return NewProblem(InvalidJSON, fmt.Sprintf("%s at byte %d", e.what, e.at))
}

func (o *object) refuse(name, detail, hint string) {
	if o.problem == nil {
		o.problem = NewProblem(InvalidRequest, detail).WithField(o.field(name), hint)
	}
}

func (o *object) field(name string) string {
	if o.path == "" || name == "" {
		return o.path + name
	}
	return o.path + "." + name
}

// take makes a problem of an inner object the frame's.
func (o *object) take(inner *object) {
	if o.problem == nil {
		o.problem = inner.problem
	}
}

// done refuses members that nobody took.
func (o *object) done() {
	for i, used := range o.used {
		if !used {
			o.refuse(o.names[i], "no such member here", "check the spelling")
			return
		}
	}
}

// member returns the text of a member, nil when it is not there.
func (o *object) member(name string) []byte {
	i := slices.Index(o.names, name)
	if i < 0 {
		return nil
	}
	o.used[i] = true
	return o.values[i]
}

// present is member, but null counts as not there and a required one must be there.
func (o *object) present(name string, need int) []byte {
	m := o.member(name)
	if m == nil || string(m) == "null" {
		if need == required {
			o.refuse(name, "needed here", "")
		}
		return nil
	}
	return m
}

func (o *object) text(name string, need, limit int, allowed ...string) string {
	m := o.present(name, need)
	if m == nil {
		return ""
	}
	if m[0] != '"' {
		o.refuse(name, "must be a string", "")
		return ""
	}
	v, ok := unquote(m)
	switch {
	case !ok:
		o.refuse(name, "has half of a surrogate pair", "")
	case need == required && v == "":
		o.refuse(name, "must not be empty", "")
	case len(v) > limit:
		o.refuse(name, fmt.Sprintf("has at most %d bytes", limit), "")
	case v != "" && allowed != nil && !slices.Contains(allowed, v):
		o.refuse(name, "must be one of "+strings.Join(allowed, ", "), "")
	}
	return v
}

func (o *object) boolean(name string) bool {
	m := o.present(name, 0)
	switch string(m) {
	case "", "false":
		return false
	case "true":
		return true
	}
	o.refuse(name, "must be true or false", "")
	return false
}

func (o *object) number(name string, need int) float64 {
	m := o.present(name, need)
	if m == nil {
		return 0
	}
	v, err := strconv.ParseFloat(string(m), 64)
	if err != nil {
		o.refuse(name, "must be a number", "")
	}
	return v
}

func (o *object) count(name string) *int {
	m := o.present(name, 0)
	if m == nil {
		return nil
	}
	v, err := strconv.Atoi(string(m))
	if err != nil || v < 0 {
		o.refuse(name, "must be a whole number from 0", "")
	}
	return &v
}

// sequence returns a number from 1 to 2^53, 0 when it is not there: JavaScript has to hold it.
func (o *object) sequence(name string) uint64 {
	m := o.present(name, 0)
	if m == nil {
		return 0
	}
	v, err := strconv.ParseUint(string(m), 10, 64)
	if err != nil || v == 0 || v > MaxSequence {
		o.refuse(name, "must be a whole number from 1 to 2^53", "")
	}
	return v
}

// raw returns the text of a member; null counts as not there.
func (o *object) raw(name string) RawJSON { return RawJSON(o.present(name, 0)) }

func (o *object) object(name string) *object {
	m := o.present(name, 0)
	if m == nil {
		return nil
	}
	if m[0] != '{' {
		o.refuse(name, "must be an object", "")
		return nil
	}
	inner := readObject(&scanner{b: m, max: MaxDepth}, o.field(name))
	o.take(inner)
	return inner
}

// list calls each for every object of an array of at most limit.
func (o *object) list(name string, limit int, each func(*object)) {
	m := o.present(name, 0)
	if m == nil || o.problem != nil {
		return
	}
	if m[0] != '[' {
		o.refuse(name, "must be an array", "")
		return
	}
	n := 0
	count := &scanner{b: m, max: MaxDepth} // first: taking a thousand apart to refuse the next one costs milliseconds
	count.array(func([]byte) bool { n++; return n <= limit })
	if n > limit {
		o.problem = NewProblem(TooMany, fmt.Sprintf("at most %d", limit)).WithField(o.field(name), "")
		return
	}
	n = 0
	s := &scanner{b: m, max: MaxDepth}
	s.array(func(value []byte) bool {
		path := fmt.Sprintf("%s[%d]", o.field(name), n)
		n++
		if value[0] != '{' {
			o.problem = NewProblem(InvalidRequest, "must be an object").WithField(path, "")
			return false
		}
		inner := readObject(&scanner{b: value, max: MaxDepth}, path)
		if inner.problem == nil {
			each(inner)
		}
		o.take(inner)
		return o.problem == nil
	})
}

// peekID returns the id of a frame whatever else is wrong with it, or nothing.
func (o *object) peekID() string {
	i := slices.Index(o.names, "id")
	if i < 0 || o.values[i][0] != '"' || len(o.values[i]) > MaxID+2 || bytes.IndexByte(o.values[i], '\\') >= 0 {
		return ""
	}
	return string(o.values[i][1 : len(o.values[i])-1])
}

// quoteShort quotes what a client sent, cut to a length that fits a message.
func quoteShort(s string) string {
	if len(s) > 40 {
		s = strings.ToValidUTF8(s[:40], "") + "…"
	}
	return strconv.Quote(s)
}
