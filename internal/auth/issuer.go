package auth

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"laaster/app"
	"laaster/internal/kit/run"
	"laaster/internal/wire"
)

// How long keys are believed, and how often they are asked for.
const (
	refreshURL  = 10 * time.Minute // after a fetch that went well
	refreshFile = 10 * time.Second
	leastURL    = 10 * time.Second // between two attempts, however many tokens name a key that is not known
	leastFile   = time.Second
	refetch     = 10 * time.Second // after an attempt that failed; twice as long each time
	refetchMost = time.Minute      // between attempts that fail
	staleKeys   = time.Hour        // how long keys are used while they cannot be fetched
)

// issuer is one of auth.issuers: what his tokens must say, and his keys. The keys are his alone: nothing is looked up by a kid without the issuer.
type issuer struct {
	name, audience   string
	types            map[string]bool
	algorithms       map[string]bool
	lifetime, leeway time.Duration
	prefix           string
	rolesClaim       string
	roleMap          []app.RoleMapping
	defaultRole      string

	source source // nil: the keys are fixed
	clock  run.Clock
	logger *slog.Logger
	ask    chan struct{} // an attempt is wanted; capacity 1

	changed func() // nil: nobody is told

	mu struct {
		sync.Mutex
		keys    keySet
		gone    map[keyID]goneKey // which the issuer has taken back: they verify what may still be under way
		fetched time.Time         // when keys were last had
		tried   time.Time         // when an attempt was last begun
		done    chan struct{}     // closed when the attempt that is under way or wanted ends; nil: there is none
		failed  error             // of the last attempt
	}
}

type goneKey struct {
	key   any
	until time.Time
}

// source is where keys come from.
type source interface {
	fetch(ctx context.Context) ([]byte, error)
	every() time.Duration // between two attempts that go well
	least() time.Duration // between two attempts, whatever tokens name
}

func newIssuer(s *app.Issuer, a *app.Auth) *issuer {
	i := &issuer{name: s.Issuer, audience: s.Audience, types: map[string]bool{}, algorithms: map[string]bool{},
		lifetime: time.Duration(a.MaxLifetime), leeway: time.Duration(a.Leeway), prefix: s.SubjectPrefix,
		rolesClaim: s.RolesClaim, roleMap: s.RoleMap, defaultRole: s.DefaultRole, ask: make(chan struct{}, 1)}
	for _, t := range s.Types {
		i.types[strings.ToLower(strings.TrimPrefix(t, "application/"))] = true
	}
	if len(i.types) == 0 {
		i.types["jwt"], i.types["at+jwt"] = true, true
	}
	for _, alg := range s.Algorithms {
		i.algorithms[alg] = true
	}
	if len(i.algorithms) == 0 {
		i.algorithms[algEdDSA], i.algorithms[algES256], i.algorithms[algRS256] = true, true, true
	}
	if i.rolesClaim == "" {
		i.rolesClaim = "roles"
	}
	i.mu.gone = map[keyID]goneKey{}
	return i
}

// roles returns the roles that claims stand for: those that they name, those of the settings' table, or the one for who has none.
func (s *issuer) roles(claims []byte) []string {
	var out []string
	add := func(role string) {
		if role != "" && role != public && len(role) <= maxRole && !slices.Contains(out, role) {
			out = append(out, role)
		}
	}
	if v, ok := claimAt(claims, s.rolesClaim); ok {
		for _, text := range texts(v) {
			if v[0] == '"' { // a text may name several, as scope does
				for _, role := range strings.Fields(text) {
					add(role)
				}
				continue
			}
			add(text)
		}
	}
	for _, m := range s.roleMap {
		v, ok := claimAt(claims, m.Claim)
		if text, there := claimText(v); ok && there && (m.Value == "" && given(v) || m.Value != "" && (text == m.Value || slices.Contains(texts(v), m.Value))) {
			add(m.Role)
		}
	}
	if len(out) == 0 {
		add(s.defaultRole)
	}
	return out
}

// given reports whether a claim says something: false, null, 0, "", [] and {} do not.
func given(claim []byte) bool {
	var v any
	if json.Unmarshal(claim, &v) != nil {
		return false
	}
	switch v := v.(type) {
	case bool:
		return v
	case string:
		return v != ""
	case float64:
		return v != 0
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return false
}

// key returns the key that a token names. While it is not known and may be fetched, wait is closed when that was tried.
func (s *issuer) key(u *unverified, now time.Time) (key any, wait <-chan struct{}, problem *wire.Problem) {
	if !s.algorithms[u.alg] {
		return nil, nil, refused("the token is signed by an algorithm that is not taken from its issuer", "auth.issuers in laaster.yaml says which are")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.source == nil || now.Sub(s.mu.fetched) <= staleKeys {
		if key, ok := s.mu.keys.find(u.kid, u.alg, u.named); ok {
			return key, nil, nil
		}
		if g, ok := s.mu.gone[keyID{u.kid, u.alg}]; ok && now.Before(g.until) {
			return g.key, nil, nil
		}
	}
	switch {
	case s.mu.done != nil:
		return nil, s.mu.done, keysOnTheWay()
	case s.source != nil && now.Sub(s.mu.tried) >= s.source.least():
		s.mu.done = make(chan struct{})
		s.ask <- struct{}{} // empty while done is nil
		return nil, s.mu.done, keysOnTheWay()
	case s.source != nil && now.Sub(s.mu.fetched) > staleKeys:
		return nil, nil, noKeys()
	}
	return nil, nil, refused("the token is signed by a key that its issuer does not publish", "has it been rotated away? get a new token")
}

func keysOnTheWay() *wire.Problem {
	p := wire.NewProblem(wire.Busy, "the keys of the token's issuer are being fetched").WithHint("send the same again")
	p.RetryAfterMS = 1000
	return p
}

func noKeys() *wire.Problem {
	p := wire.NewProblem(wire.Busy, "the keys of the token's issuer cannot be had").WithHint("an operator has to look: the server's log says why")
	p.RetryAfterMS = int(refetch / time.Millisecond)
	return p
}

// run fetches the keys again and again.
func (s *issuer) run(ctx context.Context) error {
	failures := 0
	for {
		if err := s.attempt(ctx); err != nil {
			failures++
		} else {
			failures = 0
		}
		next := s.source.every()
		if failures > 0 {
			next = min(refetch<<min(failures-1, 4), refetchMost)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.ask:
		case <-s.clock.After(next):
		}
	}
}

// attempt fetches the keys once.
func (s *issuer) attempt(ctx context.Context) error {
	s.mu.Lock()
	s.mu.tried = s.clock.Now()
	if s.mu.done == nil {
		s.mu.done = make(chan struct{})
	}
	s.mu.Unlock()
	text, err := s.source.fetch(ctx)
	var set keySet
	if err == nil {
		set, err = parseKeySet(text)
	}
	if err == nil && len(set) == 0 {
		err = errors.New("the key set has no key that can verify tokens")
	}
	s.take(set, err)
	if s.changed != nil {
		s.changed()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select { // what was asked for meanwhile is answered by this attempt
	case <-s.ask:
	default:
	}
	close(s.mu.done)
	s.mu.done = nil
	return err
}

// take notes how an attempt ended.
func (s *issuer) take(set keySet, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.mu.failed != nil && err != nil && s.mu.failed.Error() == err.Error()
	if s.mu.failed = err; err != nil {
		if !known {
			s.logger.Warn("the keys of an issuer cannot be fetched", "issuer", s.name, "error", err.Error())
		}
		return
	}
	s.replaceLocked(set, s.clock.Now())
}

// replaceLocked takes over a set. A key that is gone verifies what it signed until that has expired.
func (s *issuer) replaceLocked(set keySet, now time.Time) {
	for id, g := range s.mu.gone {
		if !now.Before(g.until) {
			delete(s.mu.gone, id)
		}
	}
	for id, key := range s.mu.keys {
		if _, stays := set[id]; !stays && len(s.mu.gone) < maxKeys {
			s.mu.gone[id] = goneKey{key, now.Add(s.lifetime + s.leeway)}
		}
	}
	for id := range set {
		delete(s.mu.gone, id)
	}
	if len(set) != len(s.mu.keys) {
		s.logger.Info("keys of an issuer", "issuer", s.name, "keys", len(set))
	}
	s.mu.keys, s.mu.fetched = set, now
}

// state says what is wrong with the keys now; empty: nothing.
func (s *issuer) state() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.failed == nil {
		return ""
	}
	return s.mu.failed.Error()
}
