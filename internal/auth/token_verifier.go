package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"laaster/app"
	"laaster/internal/kit/run"
	"laaster/internal/wire"
)

// minSecret is the shortest secret of HS256, in bytes.
const minSecret = 32

// Verifier says whose tokens are whose. Safe for concurrent use.
type Verifier struct {
	issuers map[string]*issuer
	clock   run.Clock
	known   atomic.Pointer[map[string]bool] // roles that the app declares
	cache   tokenCache
	// Revocations is what was taken back.
	Revocations *Revocations
	// Changed, when it is set before Run, is called when what Failing says may have changed.
	Changed func()
}

// NewVerifier returns the verifier of settings. dir is the app folder; develop allows secrets. The keys come with Run.
func NewVerifier(a *app.Auth, dir string, develop bool, clock run.Clock, logger *slog.Logger) (*Verifier, error) {
	v := &Verifier{issuers: map[string]*issuer{}, clock: clock, Revocations: NewRevocations(time.Duration(a.MaxLifetime), time.Duration(a.Leeway))}
	for n := range a.Issuers {
		s := &a.Issuers[n]
		i := newIssuer(s, a)
		i.clock, i.logger = clock, logger
		var err error
		switch {
		case s.Secret != "":
			err = i.secret(s.Secret, dir, develop)
		case s.Discovery:
			i.source, err = newURLKeys(s.Issuer, true, s.Private)
		case strings.Contains(s.JWKS, "://"):
			i.source, err = newURLKeys(s.JWKS, false, s.Private)
		case filepath.IsAbs(s.JWKS):
			i.source = fileKeys(s.JWKS)
		default:
			i.source = fileKeys(filepath.Join(dir, s.JWKS))
		}
		if err != nil {
			return nil, fmt.Errorf("auth.issuers[%d]: %w", n, err)
		}
		if f, ok := i.source.(fileKeys); ok { // a file that is wrong at the start is a mistake, not a failure
			if err := i.attempt(context.Background()); err != nil {
				return nil, fmt.Errorf("auth.issuers[%d]: %s: %w", n, f, err)
			}
		}
		v.issuers[s.Issuer] = i
	}
	v.Declare(nil)
	return v, nil
}

// secret takes the key of HS256.
func (s *issuer) secret(from, dir string, develop bool) error {
	if !develop {
		return errors.New("secret: who verifies by a secret can sign, too: it is for `laaster dev` alone; publish keys as jwks")
	}
	var text string
	if name, ok := strings.CutPrefix(from, "env:"); ok {
		text = os.Getenv(name)
	} else {
		if !filepath.IsAbs(from) {
			from = filepath.Join(dir, from)
		}
		b, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		text = string(b)
	}
	text = strings.TrimSpace(text)
	if len(text) < minSecret {
		return fmt.Errorf("secret: it has %d bytes, and %d are the least", len(text), minSecret)
	}
	s.algorithms = map[string]bool{algHS256: true}
	s.mu.keys = keySet{keyID{"", algHS256}: hmacKey(text)}
	return nil
}

// Run fetches keys until the group ends. The function that it returns waits until every issuer was asked once, or ctx has ended.
func (v *Verifier) Run(group *run.Group) (asked func(ctx context.Context)) {
	var first []<-chan struct{}
	for _, i := range v.issuers {
		if i.source == nil {
			continue
		}
		i.mu.Lock()
		if i.mu.done == nil {
			i.mu.done = make(chan struct{})
		}
		first = append(first, i.mu.done)
		i.mu.Unlock()
		i.changed = v.Changed
		group.Go("issuer keys", i.run)
	}
	return func(ctx context.Context) {
		for _, done := range first {
			select {
			case <-done:
			case <-ctx.Done():
			case <-group.Context().Done():
			}
		}
	}
}

// Any reports whether there is an issuer whose tokens are believed.
func (v *Verifier) Any() bool { return len(v.issuers) > 0 }

// Failing names the issuers whose keys cannot be fetched, and why.
func (v *Verifier) Failing() map[string]string {
	var out map[string]string
	for name, i := range v.issuers {
		if why := i.state(); why != "" {
			if out == nil {
				out = map[string]string{}
			}
			out[name] = why
		}
	}
	return out
}

// Declare says which roles the app has: a caller's role is the first of them in his token.
func (v *Verifier) Declare(def *app.Definition) {
	known := map[string]bool{}
	if def != nil {
		for _, r := range def.Roles {
			known[r] = true
		}
		for i := range def.Grants {
			known[def.Grants[i].Role] = true
		}
		for i := range def.Policies {
			for _, r := range def.Policies[i].Roles {
				known[r] = true
			}
		}
	}
	delete(known, public)
	v.known.Store(&known)
}

// Identify returns whom a token speaks for; the address is the caller's business. Where the keys of its issuer have to be fetched first, the problem is
// busy, and wait is closed when that was tried.
func (v *Verifier) Identify(text string) (p Principal, wait <-chan struct{}, problem *wire.Problem) {
	if len(v.issuers) == 0 {
		return p, nil, refused("this server has no token issuer, so no token can be verified", "leave the token out to be anon; issuers are named under auth in laaster.yaml")
	}
	t := v.cache.get(text)
	if t == nil {
		u, problem := takeApart(text)
		if problem != nil {
			return p, nil, problem
		}
		s := v.issuers[u.issuer]
		if s == nil {
			return p, nil, refused("the token is of an issuer that this server does not know", "auth.issuers in laaster.yaml names those that it believes")
		}
		now := v.clock.Now()
		key, wait, problem := s.key(u, now)
		if problem != nil {
			return p, wait, problem
		}
		if !u.verify(key) {
			return p, nil, refused("the token's signature is wrong", "get a new one from its issuer")
		}
		if t, problem = u.judge(s, now); problem != nil {
			return p, nil, problem
		}
		t.leeway = s.leeway
		v.cache.put(strings.Clone(text), t)
	}
	p = Principal{Subject: t.subject, Role: v.role(t), Token: t}
	return p, nil, v.Ended(p)
}

// role returns the first role of a token that the app has.
func (v *Verifier) role(t *Token) string {
	known := *v.known.Load()
	for _, r := range t.Roles {
		if known[r] {
			return r
		}
	}
	return ""
}

// Again returns p as the app's present roles make it.
func (v *Verifier) Again(p Principal) Principal {
	if p.Token != nil {
		p.Role = v.role(p.Token)
	}
	return p
}

// Ended says why a caller's token is not good any more; nil: it is, or he has none.
func (v *Verifier) Ended(p Principal) *wire.Problem {
	switch t := p.Token; {
	case t == nil:
		return nil
	case !v.clock.Now().Before(t.Ends()):
		return expired()
	case v.Revocations.Revoked(t):
		return refused("the token was revoked", "log in again")
	}
	return nil
}

// tokenCache remembers verified tokens by their text: the newest half of what was used, and the half before. Texts and claims are what it is bounded by.
type tokenCache struct {
	mu struct {
		sync.RWMutex
		young, old map[string]*Token
		bytes      int // of young
	}
}

const (
	cacheHalf  = 8 << 20 // bytes
	cacheEntry = 512     // bytes that a token takes besides its text and claims
)

func (c *tokenCache) get(text string) *Token {
	c.mu.RLock()
	t, young := c.mu.young[text]
	if !young {
		t = c.mu.old[text]
	}
	c.mu.RUnlock()
	if t != nil && !young {
		c.put(strings.Clone(text), t)
	}
	return t
}

func (c *tokenCache) put(text string, t *Token) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.young == nil || c.mu.bytes >= cacheHalf {
		c.mu.old, c.mu.young, c.mu.bytes = c.mu.young, map[string]*Token{}, 0
	}
	if _, there := c.mu.young[text]; !there {
		c.mu.bytes += len(text) + len(t.Claims) + cacheEntry
	}
	c.mu.young[text] = t
}
