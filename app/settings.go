package app

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Settings is laaster.yaml: what is about running, not about data. [DefaultSettings] is what holds without a file; flags of
// the command line win over the file.
type Settings struct {
	Listen    string   `yaml:"listen"`     // public listener, host:port; port 0 picks a free one. Default 127.0.0.1:8080
	Admin     string   `yaml:"admin"`      // admin listener: metrics, health. Default 127.0.0.1:8081
	Data      string   `yaml:"data"`       // data folder, relative to the app folder. Default .laaster
	Backbone  string   `yaml:"backbone"`   // "embedded" (default), "memory", or nats://host:port of an external server
	Stream    string   `yaml:"stream"`     // name of the log on an external server: each app there needs its own. Default LAASTER
	Auth      Auth     `yaml:"auth"`       // whose tokens are believed. Default: nobody's, and loopback only
	PlainHTTP bool     `yaml:"plain_http"` // TLS ends elsewhere: serve other addresses than loopback without it
	TLS       TLS      `yaml:"tls"`        // the listeners' own certificate. Default: none
	Origins   []string `yaml:"origins"`    // browser origins allowed besides the server's own and loopback, as scheme://host[:port]
	Drain     Duration `yaml:"drain"`      // longest graceful stop. Default 8s, 0s to 9s
	// Durability is what an acknowledgement promises, named in each answer: durable (default: synced to disk), buffered (survives the process,
	// not a power cut) or memory (survives nothing). replicated is reserved: it needs a cluster.
	Durability string     `yaml:"durability"`
	Checkpoint Checkpoint `yaml:"checkpoint"`
	Retention  Retention  `yaml:"retention"`
	Disk       Disk       `yaml:"disk"`
	Encryption Encryption `yaml:"encryption"`
	Scrub      Scrub      `yaml:"scrub"`
	Audit      Audit      `yaml:"audit"`
	Limits     Limits     `yaml:"limits"`
}

// Checkpoint says how often the state is written beside the log.
type Checkpoint struct {
	Every     Duration `yaml:"every"`      // at most this long after the last one when something changed. Default 30s, 100ms to 1h
	LogBytes  Bytes    `yaml:"log_bytes"`  // or once the log grew by this much. Default 64MiB, 64KiB to 16GiB
	CopyEvery Duration `yaml:"copy_every"` // a second copy, physically apart from the first. Default 1h, 1s to 24h
	Copy      string   `yaml:"copy"`       // folder of the second copy, relative to the app folder, better on another disk. Default: copy in the data folder
}

// Retention says how much of the log is kept. What a checkpoint, its second copy or a reader needs is kept in any case.
type Retention struct {
	Age   Duration `yaml:"age"`   // batches older than this go. Default 0s: none
	Bytes Bytes    `yaml:"bytes"` // the oldest batches beyond this size go. Default 0B: none
}

// Disk says when writes are refused before the disk is full.
type Disk struct {
	LowWater Bytes `yaml:"low_water"` // less free space than this: busy. Default 256MiB, 0B to 1TiB
	Reserve  Bytes `yaml:"reserve"`   // a file that is given up when the disk is full all the same. Default 16MiB, 0B to 16GiB
}

// Encryption says how log and checkpoints are encrypted at rest.
type Encryption struct {
	Keys string `yaml:"keys"` // a key file, relative to the app folder, or env:NAME of a variable with its content. Default "": not encrypted
}

// Scrub says how fast everything at rest is read and checked.
type Scrub struct {
	Rate  Bytes    `yaml:"rate"`  // per second. Default 5MiB, 0B (never) to 1GiB
	Every Duration `yaml:"every"` // a whole pass begins this often. Default 24h, 1s to 30 days
}

// Audit says what holds the audit trail together beside the log.
type Audit struct {
	Witness string `yaml:"witness"` // a file, relative to the app folder, better on another disk, that gets each seal of the trail. Default ""
}

// Limits bounds what the server holds. Each has a behaviour at the bound, named here.
type Limits struct {
	Row            Bytes    `yaml:"row"`             // one encoded row; larger: too_large. Default 256KiB, 1KiB to 512KiB
	Body           Bytes    `yaml:"body"`            // one request body; larger: too_large. Default 8MiB, 1KiB to 64MiB
	Inflated       Bytes    `yaml:"inflated"`        // one that comes as gzip, inflated; larger: too_large. 0, the default: compressed bodies are refused. At most 64MiB
	Pending        Bytes    `yaml:"pending"`         // writes waiting for the log; full: wait, then busy. Default 32MiB, 2MiB to 1GiB
	PendingWait    Duration `yaml:"pending_wait"`    // how long a write waits for room before busy. Default 2s, 0s to 30s
	DedupeWindow   Duration `yaml:"dedupe_window"`   // how long ids and idempotency keys are remembered. Default 10m, 1s to 24h
	DedupeMemory   Bytes    `yaml:"dedupe_memory"`   // memory for them; full: busy. Default 256MiB, 1MiB to 16GiB
	MemoryLog      Bytes    `yaml:"memory_log"`      // the whole log with backbone: memory; full: no more writes. Default 1GiB, 1MiB to 64GiB
	ViewState      Bytes    `yaml:"view_state"`      // what one view's operators keep; more: it stops. Default 1GiB, 1MiB to 64GiB
	State          Bytes    `yaml:"state"`           // what all keep together; more: the largest stops. Default 4GiB, 1MiB to 256GiB
	Memory         Bytes    `yaml:"memory"`          // of state and rows held in memory; what is beyond is read from the checkpoint when needed. Default 8GiB, 1MiB to 1TiB
	JoinRows       int      `yaml:"join_rows"`       // rows of one side of a join under one key; more: the view stops. Default 10000000, 1 to 1000000000
	Ring           Bytes    `yaml:"ring"`            // recent epochs for resuming clients; older: a snapshot. Default 16MiB, 64KiB to 1GiB
	Connections    int      `yaml:"connections"`     // live connections; more: busy. Default 10000, 1 to 1000000
	Subscriptions  int      `yaml:"subscriptions"`   // of one connection; more: too_many. Default 1000, 1 to 10000
	Frame          Bytes    `yaml:"frame"`           // one frame from a client; larger: too_large and close. Default 1MiB, 1KiB to 16MiB
	Requests       Bytes    `yaml:"requests"`        // all requests being read, checked, answered; full: busy. Default 64MiB, 1MiB to 16GiB
	Sockets        int      `yaml:"sockets"`         // open HTTP connections, WebSockets apart; more: busy, closed. Default 8000, 8 to 1000000
	AddressSockets int      `yaml:"address_sockets"` // of these from one address, IPv6 by its /64; not counted for loopback and with plain_http. Default 1000, 1 to 1000000
	RequestHeader  Duration `yaml:"request_header"`  // longest wait for a request's header. Default 5s, 1s to 60s
	RequestBody    Duration `yaml:"request_body"`    // longest wait for its body; later: 408 and close. Default 30s, 1s to 10m
	Stall          Duration `yaml:"stall"`           // longest wait for a client to take a part of its answer; later: cut. Default 30s, 1s to 10m
	ReadTime       Duration `yaml:"read_time"`       // computing the answer to one read; longer: too_large. Default 10s, 100ms to 10m
	ReadMemory     Bytes    `yaml:"read_memory"`     // sorting the rows of one read; more: too_large. Default 32MiB, 64KiB to 1GiB
	Rates          Rates    `yaml:"rates"`           // how much each caller may do; more: rate_limited. Default: as much as there is room for
	Abuse          Abuse    `yaml:"abuse"`           // callers who do nothing but harm
}

// Bytes is a size: a number with an optional unit B, KiB, MiB or GiB.
type Bytes int64

// Duration is a length of time as Go writes it: 250ms, 10s, 1h30m.
type Duration time.Duration

// DefaultSettings returns what holds without a settings file.
func DefaultSettings() Settings {
	return Settings{
		Listen: "127.0.0.1:8080", Admin: "127.0.0.1:8081", Data: ".laaster", Backbone: "embedded", Stream: "LAASTER", Drain: Duration(8 * time.Second),
		Durability: "durable", Auth: defaultAuth(),
		Checkpoint: Checkpoint{Every: Duration(30 * time.Second), LogBytes: 64 << 20, CopyEvery: Duration(time.Hour)},
		Disk:       Disk{LowWater: 256 << 20, Reserve: 16 << 20},
		Scrub:      Scrub{Rate: 5 << 20, Every: Duration(24 * time.Hour)},
		TLS:        TLS{HSTS: Duration(365 * 24 * time.Hour)},
		Limits: Limits{
			Row: 256 << 10, Body: 8 << 20, Pending: 32 << 20, PendingWait: Duration(2 * time.Second),
			DedupeWindow: Duration(10 * time.Minute), DedupeMemory: 256 << 20, MemoryLog: 1 << 30, ViewState: 1 << 30, State: 4 << 30, Memory: 8 << 30, JoinRows: 10_000_000, Ring: 16 << 20,
			Connections: 10000, Subscriptions: 1000, Frame: 1 << 20, Requests: 64 << 20, Sockets: 8000, AddressSockets: 1000,
			RequestHeader: Duration(5 * time.Second), RequestBody: Duration(30 * time.Second), Stall: Duration(30 * time.Second),
			ReadTime: Duration(10 * time.Second), ReadMemory: 32 << 20,
			Rates: defaultRates(), Abuse: defaultAbuse(),
		},
	}
}

// SettingsError is one thing wrong in laaster.yaml. Line and Col count from 1; 0 when the place is not known.
type SettingsError struct {
	File      string
	Line, Col int
	Msg, Hint string
}

// Error returns file:line:col: message, and the hint on a line of its own.
func (e *SettingsError) Error() string {
	s := fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Msg)
	if e.Hint != "" {
		s += "\n  hint: " + e.Hint
	}
	return s
}

// ParseSettings reads a settings file over the defaults. Unknown keys, wrong types, values out of range and impossible
// combinations are errors, all that can be found at once, joined by errors.Join.
func ParseSettings(file string, src []byte) (Settings, error) {
	s := DefaultSettings()
	if len(bytes.TrimSpace(src)) == 0 {
		return s, nil
	}
	tree, err := parser.ParseBytes(src, 0)
	if err != nil {
		return s, settingsError(file, err)
	}
	var all []error
	for lines := bytes.Split(src, []byte("\n")); ; {
		s = DefaultSettings()
		err := yaml.NewDecoder(bytes.NewReader(bytes.Join(lines, []byte("\n"))), yaml.Strict()).Decode(&s)
		if err == nil || errors.Is(err, io.EOF) {
			break
		}
		// The library stops at the first error: say it, blank its line and look for the next.
		found := settingsError(file, err)
		all = append(all, found)
		var e *SettingsError
		if !errors.As(found, &e) || e.Line < 1 || e.Line > len(lines) || len(bytes.TrimSpace(lines[e.Line-1])) == 0 {
			return DefaultSettings(), errors.Join(all...)
		}
		lines[e.Line-1] = nil
	}
	for _, b := range s.bounds() {
		if b.problem == "" {
			continue
		}
		line, col := place(tree, b.key)
		all = append(all, &SettingsError{file, line, col, b.key + ": " + b.problem, b.hint})
	}
	return s, errors.Join(all...)
}

// settingsError turns an error of the YAML library into ours. Its short message begins with "[line:col] ".
func settingsError(file string, err error) error {
	text, _, _ := strings.Cut(yaml.FormatError(err, false, false), "\n")
	e := &SettingsError{File: file, Line: 1, Col: 1, Msg: text}
	var wrong *SettingsError
	if errors.As(err, &wrong) {
		wrong.File = file
		return wrong
	}
	var at yaml.Error
	if errors.As(err, &at) && at.GetToken() != nil {
		e.Line, e.Col, e.Msg = at.GetToken().Position.Line, at.GetToken().Position.Column, at.GetMessage()
	}
	if name, ok := strings.CutPrefix(e.Msg, "unknown field "); ok {
		e.Hint = "the keys are: " + strings.Join(keys(), ", ")
		e.Msg = "unknown key " + name
	}
	return e
}

func place(tree *ast.File, key string) (line, col int) {
	path, err := yaml.PathString("$." + key)
	if err != nil {
		return 0, 0
	}
	node, err := path.FilterFile(tree)
	if err != nil || node == nil || node.GetToken() == nil {
		return 0, 0
	}
	p := node.GetToken().Position
	return p.Line, p.Column
}

type bound struct{ key, problem, hint string }

// Validate checks the settings once flags have been laid over the file. The error names field, value and bound.
func (s *Settings) Validate() error {
	var all []error
	for _, b := range s.bounds() {
		if b.problem != "" {
			all = append(all, fmt.Errorf("%s: %s (%s)", b.key, b.problem, b.hint))
		}
	}
	return errors.Join(all...)
}

func keys() []string {
	d := DefaultSettings()
	var out []string
	for _, b := range d.bounds() {
		out = append(out, b.key)
	}
	return append(out, "auth", "auth.issuers", "plain_http", "origins", "checkpoint.copy", "encryption.keys", "audit.witness")
}

func (s *Settings) bounds() []bound {
	l := &s.Limits
	out := []bound{
		address("listen", s.Listen, s.Auth.Open(), s.TLS.On() || s.PlainHTTP),
		address("admin", s.Admin, s.TLS.Admin(), s.TLS.Admin()),
		backbone(s.Backbone),
		stream(s.Stream),
		duration("drain", s.Drain, 0, 9*time.Second),
		durability(s.Durability),
		duration("checkpoint.every", s.Checkpoint.Every, 100*time.Millisecond, time.Hour),
		size("checkpoint.log_bytes", s.Checkpoint.LogBytes, 64<<10, 16<<30),
		duration("checkpoint.copy_every", s.Checkpoint.CopyEvery, time.Second, 24*time.Hour),
		duration("retention.age", s.Retention.Age, 0, 100*365*24*time.Hour),
		size("retention.bytes", s.Retention.Bytes, 0, 1<<50),
		size("disk.low_water", s.Disk.LowWater, 0, 1<<40),
		size("disk.reserve", s.Disk.Reserve, 0, 16<<30),
		size("scrub.rate", s.Scrub.Rate, 0, 1<<30),
		duration("scrub.every", s.Scrub.Every, time.Second, 30*24*time.Hour),
		size("limits.row", l.Row, 1<<10, 512<<10),
		size("limits.body", l.Body, 1<<10, 64<<20),
		size("limits.pending", l.Pending, 2<<20, 1<<30),
		duration("limits.pending_wait", l.PendingWait, 0, 30*time.Second),
		duration("limits.dedupe_window", l.DedupeWindow, time.Second, 24*time.Hour),
		size("limits.dedupe_memory", l.DedupeMemory, 1<<20, 16<<30),
		size("limits.memory_log", l.MemoryLog, 1<<20, 64<<30),
		size("limits.view_state", l.ViewState, 1<<20, 64<<30),
		size("limits.state", l.State, 1<<20, 256<<30),
		size("limits.memory", l.Memory, 1<<20, 1<<40),
		count("limits.join_rows", l.JoinRows, 1, 1_000_000_000),
		size("limits.ring", l.Ring, 64<<10, 1<<30),
		count("limits.connections", l.Connections, 1, 1000000),
		count("limits.subscriptions", l.Subscriptions, 1, 10000),
		size("limits.inflated", l.Inflated, 0, 64<<20),
		size("limits.frame", l.Frame, 1<<10, 16<<20),
		size("limits.requests", l.Requests, 1<<20, 16<<30),
		count("limits.sockets", l.Sockets, 8, 1000000),
		count("limits.address_sockets", l.AddressSockets, 1, 1000000),
		duration("limits.request_header", l.RequestHeader, time.Second, time.Minute),
		duration("limits.request_body", l.RequestBody, time.Second, 10*time.Minute),
		duration("limits.stall", l.Stall, time.Second, 10*time.Minute),
		duration("limits.read_time", l.ReadTime, 100*time.Millisecond, 10*time.Minute),
		size("limits.read_memory", l.ReadMemory, 64<<10, 1<<30),
	}
	out = append(out, s.TLS.bounds()...)
	out = append(append(out, l.Rates.bounds()...), l.Abuse.bounds()...)
	if l.Requests < 2*l.Inflated {
		out = append(out, bound{"limits.requests", l.Requests.String() + " is too small for limits.inflated " + l.Inflated.String(), "at least twice limits.inflated"})
	}
	if l.Requests < 2*l.Body {
		out = append(out, bound{"limits.requests", l.Requests.String() + " is too small for limits.body " + l.Body.String(),
			"at least twice limits.body: a request is held as it came and as rows"})
	}
	if s.Data == "" {
		out = append(out, bound{"data", "is empty", "name a folder, such as .laaster"})
	}
	out = append(out, s.Auth.bounds()...)
	for i, o := range s.Origins {
		if u, err := url.Parse(o); err != nil || u.Host == "" || u.Scheme == "" || u.Path != "" || u.RawQuery != "" {
			out = append(out, bound{fmt.Sprintf("origins[%d]", i), strconv.Quote(o) + " is not an origin", "write scheme://host[:port], without a path"})
		}
	}
	return out
}

// LoopbackHost reports whether a host, without a port, is this machine by its name or number.
func LoopbackHost(host string) bool {
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// address checks a listen address: what is not loopback is served only to callers who can be told apart, over lines that nobody reads on; or when the
// settings say so in words.
func address(key, value string, identified, encrypted bool) bound {
	host, port, err := net.SplitHostPort(value)
	if err != nil {
		return bound{key, strconv.Quote(value) + " is not an address", "write host:port, such as 127.0.0.1:8080"}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n > 65535 {
		return bound{key, "port " + strconv.Quote(port) + " is not a number from 0 to 65535", "write host:port, such as 127.0.0.1:8080"}
	}
	if LoopbackHost(host) || identified && encrypted {
		return bound{key: key}
	}
	if key == "admin" {
		return bound{key, value + " is not a loopback address", "keep it on 127.0.0.1, or have it ask for certificates: tls: {cert, key, client_ca}"}
	}
	const tokens, tls = "name a token issuer under auth, or say auth: anonymous", "set tls: {cert, key}, or plain_http: true (or --plain-http) when TLS ends elsewhere"
	switch {
	case identified:
		return bound{key, value + " is not a loopback address, and there is no TLS", tls}
	case encrypted:
		return bound{key, value + " is not a loopback address, and there is no token issuer", tokens}
	}
	return bound{key, value + " is not a loopback address, and there is neither a token issuer nor TLS", tokens + "; and " + tls}
}

func backbone(value string) bound {
	u, err := url.Parse(value)
	ok := value == "embedded" || value == "memory" || err == nil && (u.Scheme == "nats" || u.Scheme == "tls") && u.Host != ""
	if ok {
		return bound{key: "backbone"}
	}
	return bound{"backbone", strconv.Quote(value) + " is not known", "embedded, memory, or nats://host:port"}
}

func durability(value string) bound {
	switch {
	case value == "replicated":
		return bound{"durability", "replicated is reserved: it needs a log of several servers", "durable, buffered or memory"}
	case value != "durable" && value != "buffered" && value != "memory":
		return bound{"durability", strconv.Quote(value) + " is not known", "durable, buffered or memory"}
	}
	return bound{key: "durability"}
}

func stream(name string) bound {
	ok := name != "" && len(name) <= 64
	for _, c := range name {
		ok = ok && (c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-')
	}
	if ok {
		return bound{key: "stream"}
	}
	return bound{"stream", strconv.Quote(name) + " is not a name of a stream", "up to 64 letters, digits, _ and -"}
}

func size(key string, v, low, high Bytes) bound {
	if v >= low && v <= high {
		return bound{key: key}
	}
	return bound{key, v.String() + " is out of range", "from " + low.String() + " to " + high.String()}
}

func duration(key string, v Duration, low, high time.Duration) bound {
	if d := time.Duration(v); d >= low && d <= high {
		return bound{key: key}
	}
	return bound{key, time.Duration(v).String() + " is out of range", "from " + low.String() + " to " + high.String()}
}

func count(key string, v, low, high int) bound {
	if v >= low && v <= high {
		return bound{key: key}
	}
	return bound{key, strconv.Itoa(v) + " is out of range", fmt.Sprintf("from %d to %d", low, high)}
}

// String returns the size with the largest unit that divides it.
func (b Bytes) String() string {
	for _, u := range units() {
		if b >= u.size && b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10) + "B"
}

type unit struct {
	name string
	size Bytes
}

func units() []unit { return []unit{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}} }

// UnmarshalYAML implements yaml.NodeUnmarshaler.
func (b *Bytes) UnmarshalYAML(n ast.Node) error {
	text := n.GetToken().Value
	s := strings.TrimSpace(text)
	mul := Bytes(1)
	for _, u := range units() {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			s, mul = strings.TrimSpace(rest), u.size
			break
		}
	}
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil || v < 0 || v > int64(1<<62/mul) {
		return wrongValue(n, fmt.Sprintf("%q is not a size: write a number with B, KiB, MiB or GiB", text))
	}
	*b = Bytes(v) * mul
	return nil
}

// UnmarshalYAML implements yaml.NodeUnmarshaler.
func (d *Duration) UnmarshalYAML(n ast.Node) error {
	v, err := time.ParseDuration(strings.TrimSpace(n.GetToken().Value))
	if err != nil {
		return wrongValue(n, fmt.Sprintf("%q is not a duration: write 250ms, 10s or 5m", n.GetToken().Value))
	}
	*d = Duration(v)
	return nil
}

// wrongValue is the error of a value at n; settingsError fills in the file.
func wrongValue(n ast.Node, msg string) error {
	p := n.GetToken().Position
	return &SettingsError{Line: p.Line, Col: p.Column, Msg: msg}
}
