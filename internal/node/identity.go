package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"laaster/app"
	"laaster/internal/audit"
	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/flow"
	"laaster/internal/kit/run"
	"laaster/internal/wire"
)

// How long requests wait for the keys of an issuer, and how many at one time: others are told to come again.
const (
	keysWait    = 5 * time.Second
	keysWaiting = 256
)

// callers says who calls.
type callers struct {
	verifier *auth.Verifier
	tickets  *tickets
	waiting  atomic.Int64
	keys     func(ctx context.Context) // returns when every issuer was asked for his keys once
}

// openCallers reads the settings' issuers.
func (n *Node) openCallers() error {
	var err error
	n.callers.verifier, err = auth.NewVerifier(&n.opt.Settings.Auth, n.opt.Dir, n.opt.Develop, n.opt.Clock, n.opt.Logger)
	n.callers.tickets = newTickets(n.opt.Clock)
	return err
}

// askIssuers begins to fetch keys.
func (n *Node) askIssuers() {
	v := n.callers.verifier
	v.Changed = func() {
		failing := v.Failing()
		if len(failing) == 0 {
			n.restore("issuer")
		}
		for _, name := range slices.Sorted(maps.Keys(failing)) {
			n.degrade("issuer", "the keys of "+name+" cannot be fetched: "+failing[name])
		}
	}
	n.callers.keys = v.Run(n.serving)
}

// awaitKeys gives issuers a moment, so that the first requests find their keys.
func (n *Node) awaitKeys(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, keysWait)
	defer cancel()
	n.callers.keys(ctx)
}

// use makes a definition what requests are judged by.
func (n *Node) use(program *flow.Program) {
	def := program.Definition
	n.rules.Use(def, program.Relations...)
	if n.limits != nil {
		n.limits.Use(def)
	}
	if v := n.callers.verifier; v != nil { // a node that only reads its log has none
		v.Declare(def)
	}
}

// principal says who calls: whom the token of a request speaks for, or whom its ticket was given to; without either anon.
func (n *Node) principal(q *http.Request) (auth.Principal, *wire.Problem) {
	all := q.Header["Authorization"]
	if len(all) == 0 {
		if p, ok := q.Context().Value(ticketKey{}).(*auth.Principal); ok {
			return p.At(q.RemoteAddr), nil
		}
		return auth.Anonymous().At(q.RemoteAddr), nil
	}
	scheme, token, _ := strings.Cut(all[0], " ")
	if len(all) > 1 || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return auth.Principal{}, wire.NewProblem(wire.Unauthenticated, "the header does not bring one token").
			WithField("Authorization", "send Authorization: Bearer and the token, or leave the header out to be anon")
	}
	p, wait, problem := n.callers.verifier.Identify(token)
	if problem != nil && wait != nil && n.callers.await(q.Context(), wait) {
		p, _, problem = n.callers.verifier.Identify(token)
	}
	if problem != nil {
		problem = n.lingering(q.Context(), n.distrust(auth.Principal{}.At(q.RemoteAddr), problem))
		if problem.Field == "token" {
			problem.Field = "Authorization"
		}
		return auth.Principal{}, problem
	}
	return p.At(q.RemoteAddr), nil
}

// await waits for an attempt to fetch keys, and reports whether it has ended.
func (c *callers) await(ctx context.Context, keys <-chan struct{}) bool {
	defer c.waiting.Add(-1)
	if c.waiting.Add(1) > keysWaiting {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, keysWait)
	defer cancel()
	select {
	case <-keys:
		return true
	case <-ctx.Done():
		return false
	}
}

// bearer says whom the token in a frame speaks for, on a connection of was. It does not wait.
func (n *Node) bearer(token string, was auth.Principal) (auth.Principal, *wire.Problem) {
	p, _, problem := n.callers.verifier.Identify(token)
	if problem != nil {
		problem = n.distrust(was, problem)
	}
	p.From = was.From
	return p, problem
}

// challenge is the WWW-Authenticate header of a refusal (RFC 6750).
func challenge(q *http.Request, p *wire.Problem) string {
	const realm = `Bearer realm="laaster"`
	switch {
	case p.Code == wire.TokenExpired:
		return realm + `, error="invalid_token", error_description="the token has expired"`
	case q.Header.Get("Authorization") != "":
		return realm + `, error="invalid_token"`
	}
	return realm
}

// routeIdentity adds what is about tokens to the admin listener.
func (n *Node) routeIdentity(mux *http.ServeMux) {
	mux.HandleFunc("POST /admin/v1/revoke", n.ready(n.serveRevoke))
}

// maxRevoke bounds the body of a revocation, in bytes.
const maxRevoke = 16 << 10

// Revoked is what POST /admin/v1/revoke answers.
type Revoked struct {
	Revoked     auth.Revocation `json:"revoked"`
	Revocations int             `json:"revocations"` // that hold now
}

// serveRevoke takes tokens back. Its content type is one that pages of other sites may not send without asking.
func (n *Node) serveRevoke(w http.ResponseWriter, q *http.Request) {
	kind, _, _ := strings.Cut(q.Header.Get("Content-Type"), ";")
	if strings.TrimSpace(kind) != "application/json" {
		p := wire.NewProblem(wire.InvalidRequest, "the body must be JSON").WithHint("send Content-Type: application/json")
		p.Status = http.StatusUnsupportedMediaType
		n.problems.answer(w, q, p)
		return
	}
	r, problem := readRevocation(w, q)
	if problem == nil {
		r, problem = n.Revoke(q.Context(), r)
	}
	if problem != nil {
		n.problems.answer(w, q, problem)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(Revoked{r, n.callers.verifier.Revocations.Len()}) // the caller may be gone
}

func readRevocation(w http.ResponseWriter, q *http.Request) (r auth.Revocation, problem *wire.Problem) {
	const hint = `such as {"subject":"u1"}; also issuer, id, session, before (seconds since 1970)`
	d := json.NewDecoder(http.MaxBytesReader(w, q.Body, maxRevoke))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return r, wire.NewProblem(wire.InvalidJSON, "the body is not a revocation: "+err.Error()).WithHint(hint)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return r, wire.NewProblem(wire.InvalidJSON, "the body has more than a revocation").WithHint(hint)
	}
	return r, nil
}

// Revoke takes tokens back. It returns once the log has it: whatever runs on this log refuses them from then on, and open connections end within seconds.
func (n *Node) Revoke(ctx context.Context, r auth.Revocation) (auth.Revocation, *wire.Problem) {
	table, now := n.callers.verifier.Revocations, n.opt.Clock.Now()
	r, err := auth.NewRevocation(r, now)
	if err != nil {
		return r, wire.NewProblem(wire.InvalidRequest, err.Error()).WithHint("name subject, id, session or before, and issuer besides")
	}
	if p := table.Full(&r, now); p != nil {
		return r, p
	}
	details, err := r.Details()
	if err != nil {
		return r, wire.NewProblem(wire.InvalidRequest, err.Error())
	}
	ended, problem := n.privileged(ctx, auth.ActRevoke, r.String(), details)
	if problem != nil {
		return r, problem
	}
	table.Add(r, now)
	ended(nil)
	return r, nil
}

// revoked takes the revocations of a batch over: those that others on the log made, or that were made before the start.
func (n *Node) revoked(b *change.Batch) {
	if n.callers.verifier == nil {
		return
	}
	it, e := b.Entries(), change.Entry{}
	for it.Next(&e) && e.Kind != change.EntryWrite { // audit entries come before a batch's writes
		if e.Kind == change.EntryAudit {
			n.revokedBy(e.Body)
		}
	}
}

// revokedBy takes over what a record of the audit trail revokes, if it does.
func (n *Node) revokedBy(record []byte) {
	if n.callers.verifier == nil || !bytes.Contains(record, []byte(`"act":"`+auth.ActRevoke+`"`)) {
		return
	}
	var act audit.Act
	if json.Unmarshal(record, &act) != nil || act.Act != auth.ActRevoke || act.Outcome != "begun" {
		return
	}
	if r, ok := auth.FromAct(act.Details); ok {
		n.callers.verifier.Revocations.Add(r, n.opt.Clock.Now())
	}
}

// CheckedToken is whom a token speaks for.
type CheckedToken struct {
	Subject string          `json:"subject"`
	Roles   []string        `json:"roles"`
	Issuer  string          `json:"issuer"`
	ID      string          `json:"id,omitempty"`
	Session string          `json:"session,omitempty"`
	Issued  time.Time       `json:"issued"`
	Expires time.Time       `json:"expires"`
	Claims  json.RawMessage `json:"claims"`
}

// CheckToken checks a token as a server with these settings does, secrets included. Keys are fetched anew.
func CheckToken(ctx context.Context, dir string, s *app.Settings, token string) (*CheckedToken, error) {
	v, err := auth.NewVerifier(&s.Auth, dir, true, run.System{}, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	group := run.New(ctx)
	defer func() {
		group.Stop()
		_ = group.Wait()
	}()
	v.Run(group)(ctx)
	p, _, problem := v.Identify(token)
	if problem != nil {
		err := problem.Detail
		for issuer, why := range v.Failing() {
			err += "\n  the keys of " + issuer + " cannot be fetched: " + why
		}
		if problem.Hint != "" {
			err += "\n  hint: " + problem.Hint
		}
		return nil, errors.New(err)
	}
	t := p.Token
	return &CheckedToken{p.Subject, append([]string{}, t.Roles...), t.Issuer, t.ID, t.Session, t.Issued, t.Expires, t.Claims}, nil
}
