package ingest

import (
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/wire"
)

// HTTP serves POST, PATCH and DELETE of /v1/tables/{table}. The node tells who calls and makes the request id.
type HTTP struct {
	Door      *Door
	Principal func(*http.Request) (auth.Principal, *wire.Problem)
	RequestID func(*http.Request) string
	Answer    func(http.ResponseWriter, *http.Request, *wire.Problem) // writes a problem, logs it
	// BodyTime is how long a request's body may take to arrive, for the message: the node sets the connection's read deadline.
	BodyTime  time.Duration
	bodies    sync.Pool // *[]byte
	inflaters sync.Pool // *gzip.Reader
	waste     sync.Pool // *[]byte of skipPiece
	skipping  atomic.Int32
}

// ServeHTTP implements http.Handler.
func (h *HTTP) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	received := h.Door.opt.Clock.Now()
	r := &Request{Table: q.PathValue("table"), Received: received, ID: h.RequestID(q), Key: q.Header.Get("Idempotency-Key"), Trace: trace(q)}
	defer r.share.free()
	who, problem := h.Principal(q)
	if problem == nil {
		r.share.begin(&h.Door.budget, who, h.Door.known(r.Table))
		if problem = h.Door.refuses(q.Context(), who, r.Table, int(min(max(q.ContentLength, 0), int64(h.Door.opt.Limits.Body)))); problem != nil {
			h.skip(q)
		}
	}
	if problem == nil {
		if problem = r.parameters(q); problem != nil {
			h.Door.opt.Limiter.Wrote(who, problem.Code)
		}
	}
	if problem != nil {
		h.refuse(w, q, problem)
		return
	}
	buf, _ := h.bodies.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	defer h.bodies.Put(buf)
	if problem := h.read(w, q, r, buf); problem != nil {
		h.Door.opt.Limiter.Wrote(who, problem.Code)
		h.refuse(w, q, problem)
		return
	}
	if more := len(r.Rows) - int(max(q.ContentLength, 0)); more > 0 { // than was known before: it came in chunks, or inflated
		h.Door.opt.Limiter.Came(who, more)
	}
	result, problem := h.Door.write(q.Context(), who, r)
	if problem != nil {
		h.refuse(w, q, problem)
		return
	}
	status := http.StatusOK
	if result.Accepted == 0 && result.Duplicates == 0 && len(result.Rejected) > 0 {
		status = http.StatusUnprocessableEntity
	}
	for i := range result.Rejected {
		result.Rejected[i].Error.Request = r.ID
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Laaster-Position", result.Position)
	w.WriteHeader(status)
	_, _ = result.WriteTo(w) // the caller may be gone; the write stands
}

// What is read of a refused body so that its connection can be used again. The HTTP server reads as much by itself, in small pieces, which is most of
// what a refusal costs.
const (
	skipMost  = 256 << 10
	skipPiece = 64 << 10
	skippers  = 8 // at one time; others leave it to the HTTP server
)

// skip reads the body of a refused request.
func (h *HTTP) skip(q *http.Request) {
	if q.ContentLength <= 8<<10 || q.ContentLength > skipMost {
		return
	}
	defer h.skipping.Add(-1)
	if h.skipping.Add(1) > skippers {
		return
	}
	buf, _ := h.waste.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
		*buf = make([]byte, skipPiece)
	}
	defer h.waste.Put(buf)
	for left := q.ContentLength; left > 0; {
		n, err := q.Body.Read(*buf)
		if left -= int64(n); err != nil { // the end, or the HTTP server meets the same error
			return
		}
	}
}

func (h *HTTP) refuse(w http.ResponseWriter, q *http.Request, p *wire.Problem) {
	h.Door.opt.Metrics.Refused.WithLabelValues(string(p.Code)).Inc()
	h.Answer(w, q, p)
}

// maxTrace bounds a traceparent: version, trace id, parent id and flags take 55 bytes.
const maxTrace = 64

func trace(q *http.Request) string {
	t := q.Header.Get("traceparent")
	if len(t) > maxTrace {
		return ""
	}
	return t
}

// parameters reads the method and the query: names that begin with _ and on_conflict are ours, the rest is the filter.
func (r *Request) parameters(q *http.Request) *wire.Problem {
	values, err := url.ParseQuery(q.URL.RawQuery)
	if err != nil {
		return wire.NewProblem(wire.InvalidRequest, "the query string cannot be read: "+err.Error())
	}
	if r.Producer = q.Header.Get("Laaster-Producer"); r.Producer != "" || q.Header.Get(sequenceField) != "" {
		if r.Sequence, err = strconv.ParseUint(q.Header.Get(sequenceField), 10, 64); err != nil {
			return wire.NewProblem(wire.InvalidRequest, "a sequence is a whole number from 1").WithField(sequenceField, "number the requests of a producer 1, 2, 3, …")
		}
	}
	switch q.Method {
	case http.MethodPost:
		r.Op = change.OpInsert
	case http.MethodPatch:
		r.Op = change.OpUpdate
	case http.MethodDelete:
		r.Op = change.OpDelete
	}
	for name, vs := range values {
		if problem := r.parameter(name, vs[len(vs)-1]); problem != nil {
			return problem
		}
	}
	if r.Op == change.OpUpdate || r.Op == change.OpDelete {
		r.Filter = filterPart(q.URL.RawQuery)
	}
	return nil
}

func (r *Request) parameter(name, value string) *wire.Problem {
	bad := func(want string) *wire.Problem {
		return wire.NewProblem(wire.InvalidRequest, name+"="+clip(value)+" is not known").WithField(name, "it is "+want)
	}
	switch name {
	case "_ack":
		switch value {
		case "applied":
		case "logged":
			r.Early = true
		default:
			return bad("applied or logged")
		}
	case "_atomic":
		on, err := strconv.ParseBool(value)
		if err != nil {
			return bad("true or false")
		}
		r.Atomic = on
	case "on_conflict":
		if r.Op != change.OpInsert && r.Op != change.OpMerge && r.Op != change.OpIgnore {
			return bad("for POST only")
		}
		switch value {
		case "merge":
			r.Op = change.OpMerge
		case "ignore":
			r.Op = change.OpIgnore
		default:
			return bad("merge or ignore")
		}
	default:
		if strings.HasPrefix(name, "_") || r.Op != change.OpUpdate && r.Op != change.OpDelete {
			return wire.NewProblem(wire.InvalidRequest, "there is no parameter "+clip(name)).WithField(clip(name), "a write takes _ack, _atomic and on_conflict")
		}
	}
	return nil
}

// filterPart returns the raw query without our own parameters.
func filterPart(raw string) string {
	var kept []string
	for _, pair := range strings.Split(raw, "&") {
		if pair != "" && !strings.HasPrefix(pair, "_") {
			kept = append(kept, pair)
		}
	}
	return strings.Join(kept, "&")
}

// read takes the body into buf, at most the limit.
func (h *HTTP) read(w http.ResponseWriter, q *http.Request, r *Request, buf *[]byte) *wire.Problem {
	limit := h.Door.opt.Limits.Body
	if q.ContentLength > int64(limit) {
		w.Header().Set("Connection", "close")
		return tooLargeBody(limit)
	}
	packed, problem := h.encoding(q)
	if problem == nil {
		problem = contentType(q, r)
	}
	if problem != nil {
		return problem
	}
	b := (*buf)[:0]
	var body io.Reader = http.MaxBytesReader(w, q.Body, int64(limit))
	announced := q.ContentLength
	if packed {
		if problem := r.share.grow(inflaterBytes); problem != nil {
			w.Header().Set("Connection", "close")
			return problem
		}
		z, _ := h.inflaters.Get().(*gzip.Reader)
		if z == nil {
			z = new(gzip.Reader)
		}
		defer h.inflaters.Put(z)
		if err := z.Reset(body); err != nil {
			return h.unread(w, err)
		}
		body, announced = z, -1
	}
	for {
		if len(b) == cap(b) {
			b = append(make([]byte, 0, nextSize(cap(b), announced)), b...)
		}
		n, err := body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if problem := r.share.grow(n); problem != nil {
			w.Header().Set("Connection", "close")
			return problem
		}
		if most := h.Door.opt.Limits.Inflated; packed && len(b) > most {
			w.Header().Set("Connection", "close")
			return wire.NewProblem(wire.TooLarge, fmt.Sprintf("the body is larger than %d bytes once inflated", most)).
				WithHint("send fewer rows at once, or raise limits.inflated in laaster.yaml")
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return h.unread(w, err)
		}
	}
	// The deadline is over: it would end the request while the log works. (After an error it stays, for the rest of the body that
	// the server reads away.)
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	r.Rows = b
	if cap(b) <= 128<<10 { // what is larger is not worth keeping
		*buf = b
	}
	return nil
}

// nextSize is the next capacity of a body's buffer: memory follows what has arrived, not what is announced.
func nextSize(size int, announced int64) int {
	next := max(2*size, 4<<10)
	if announced >= 0 && announced < int64(next) {
		next = max(int(announced)+1, size+1) // and a byte to meet the end
	}
	return next
}

// unread is the problem of a body that did not arrive.
func (h *HTTP) unread(w http.ResponseWriter, err error) *wire.Problem {
	w.Header().Set("Connection", "close")
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return tooLargeBody(h.Door.opt.Limits.Body)
	}
	if corrupt := flate.CorruptInputError(0); errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.As(err, &corrupt) {
		return wire.NewProblem(wire.InvalidRequest, "the body is not gzip: "+err.Error()).WithField("Content-Encoding", "send the body as it is, or whole as gzip")
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p := wire.NewProblem(wire.InvalidRequest, "the body did not arrive within "+h.BodyTime.String()).
			WithHint("send less at once, or raise limits.request_body in laaster.yaml")
		p.Status = http.StatusRequestTimeout
		return p
	}
	return wire.NewProblem(wire.InvalidRequest, "the body did not arrive whole: "+err.Error()).WithHint("send it again")
}

// inflaterBytes is about what inflating a body takes beside what comes out: the window of 32 KiB, tables and a buffer.
const inflaterBytes = 48 << 10

// encoding reports whether a body comes compressed, in a way that is asked for.
func (h *HTTP) encoding(q *http.Request) (packed bool, p *wire.Problem) {
	all := q.Header.Values("Content-Encoding")
	coding := strings.ToLower(strings.TrimSpace(strings.Join(all, ",")))
	switch {
	case coding == "", coding == "identity":
		return false, nil
	case coding == "gzip" && h.Door.opt.Limits.Inflated > 0:
		return true, nil
	}
	p = wire.NewProblem(wire.InvalidRequest, "bodies are not read with content encoding "+clip(coding)).WithField("Content-Encoding", "send the body as it is")
	if h.Door.opt.Limits.Inflated > 0 {
		p.WithField("Content-Encoding", "send the body as it is, or as gzip")
	}
	p.Status = http.StatusUnsupportedMediaType
	return false, p
}

func contentType(q *http.Request, r *Request) *wire.Problem {
	text := q.Header.Get("Content-Type")
	if !strings.HasPrefix(text, "application/cloudevents") {
		r.eventHeaders(q.Header)
	}
	if text == "" || r.Op == change.OpDelete {
		return nil
	}
	kind, _, err := mime.ParseMediaType(text)
	switch {
	case err != nil:
	case r.Events == EventBinary && isJSON(text):
		return nil
	case r.Events == EventBinary:
	case kind == "application/cloudevents+json":
		r.Events = EventStructured
		return nil
	case kind == "application/cloudevents-batch+json":
		r.Events = EventBatch
		return nil
	case kind == "application/json", kind == "text/json", kind == "application/x-www-form-urlencoded": // curl -d without a header
		return nil
	case kind == "application/x-ndjson" && r.Op != change.OpUpdate:
		r.Lines = true
		return nil
	}
	p := wire.NewProblem(wire.InvalidRequest, "content type "+clip(text)+" is not known").
		WithField("Content-Type", "send application/json, application/x-ndjson with one object per line, or CloudEvents as application/cloudevents+json")
	p.Status = http.StatusUnsupportedMediaType
	return p
}

func filterProblem(err error) *wire.Problem {
	var f *expr.FilterError
	if !errors.As(err, &f) {
		return wire.NewProblem(wire.BadFilter, err.Error())
	}
	return wire.NewProblem(wire.Code(f.Code), f.Msg).WithField(f.Field, f.Hint)
}
