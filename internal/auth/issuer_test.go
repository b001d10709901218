package auth

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"laaster/app"
	"laaster/internal/kit/run"
	"laaster/internal/wire"
)

// provider is an identity provider on loopback.
type provider struct {
	*httptest.Server
	set     atomic.Pointer[[]byte]
	status  atomic.Int64 // other than 200
	fetches atomic.Int64
	jwksURI atomic.Pointer[string]
}

func newProvider(t *testing.T) *provider {
	p := &provider{}
	mux := http.NewServeMux()
	mux.HandleFunc("/jwks", func(w http.ResponseWriter, _ *http.Request) {
		p.fetches.Add(1)
		if s := p.status.Load(); s != 0 {
			w.Header().Set("Location", "http://127.0.0.1:1/")
			w.WriteHeader(int(s))
			return
		}
		_, _ = w.Write(*p.set.Load())
	})
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		at := p.URL + "/jwks"
		if own := p.jwksURI.Load(); own != nil {
			at = *own
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": p.URL, "jwks_uri": at})
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func (p *provider) publish(t *testing.T, signers ...*Signer) {
	t.Helper()
	set, err := KeySet(nil, signers...)
	if err != nil {
		t.Fatal(err)
	}
	p.set.Store(&set)
}

// remote is a verifier that asks a provider.
type remote struct {
	*world
	group *run.Group
	p     *provider
}

func newRemote(t *testing.T, p *provider, change func(*app.Issuer)) *remote {
	t.Helper()
	r := &remote{world: &world{t: t, clock: run.NewManual(time.Unix(1_790_000_000, 0)), signer: signerOf(t, "EdDSA")}, p: p, group: run.New(context.Background())}
	if p.set.Load() == nil {
		p.publish(t, r.signer)
	}
	s := app.DefaultSettings().Auth
	i := app.Issuer{Issuer: testIssuer, Audience: testAudience, JWKS: p.URL + "/jwks"}
	if change != nil {
		change(&i)
	}
	s.Issuers = []app.Issuer{i}
	var err error
	if r.v, err = NewVerifier(&s, "", false, r.clock, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	r.v.Run(r.group)(t.Context())
	t.Cleanup(func() {
		r.group.Stop()
		_ = r.group.Wait()
	})
	return r
}

// by signs good claims with another key.
func (r *remote) by(s *Signer) string {
	r.t.Helper()
	text, err := s.Sign(r.claims())
	if err != nil {
		r.t.Fatal(err)
	}
	return text
}

// identify waits for keys, as a request does.
func (r *remote) identify(token string) wire.Code {
	_, wait, p := r.v.Identify(token)
	if wait != nil {
		<-wait
		_, _, p = r.v.Identify(token)
	}
	if p == nil {
		return ""
	}
	return p.Code
}

func TestRotation(t *testing.T) {
	r := newRemote(t, newProvider(t), nil)
	if got := r.identify(r.by(r.signer)); got != "" {
		t.Fatal(got)
	}
	next := signerOf(t, "ES256")
	r.p.publish(t, next)
	if got := r.identify(r.by(next)); got != wire.Unauthenticated || r.p.fetches.Load() != 1 {
		t.Fatalf("right after a fetch: %q, %d fetches", got, r.p.fetches.Load())
	}
	r.clock.AwaitSleepers(1)
	r.clock.Advance(10 * time.Second)
	if got := r.identify(r.by(next)); got != "" || r.p.fetches.Load() != 2 {
		t.Fatalf("a new key: %q, %d fetches", got, r.p.fetches.Load())
	}
	old := r.by(r.signer)
	if got := r.identify(old); got != "" {
		t.Fatalf("a token of the key before: %q", got)
	}
	r.clock.AwaitSleepers(1)
	r.clock.Advance(9 * time.Minute)
	if got := r.identify(r.by(r.signer)); got != "" {
		t.Fatalf("within a token's life: %q", got)
	}
	r.clock.Advance(7 * time.Minute) // 16 since it was gone
	if got := r.identify(r.by(r.signer)); got != wire.Unauthenticated {
		t.Fatalf("long after: %q", got)
	}
}

// TestUnknownKids: however many tokens name keys that nobody has, the provider is asked once in ten seconds.
func TestUnknownKids(t *testing.T) {
	r := newRemote(t, newProvider(t), nil)
	stranger := signerOf(t, "EdDSA")
	for second := range 60 {
		for i := range 20 {
			stranger.kid = fmt.Sprint("kid ", second, i)
			if got := r.identify(r.by(stranger)); got != wire.Unauthenticated {
				t.Fatalf("second %d: %q", second, got)
			}
		}
		r.clock.AwaitSleepers(1)
		r.clock.Advance(time.Second)
	}
	if n := r.p.fetches.Load(); n != 6 {
		t.Fatalf("%d fetches in a minute, want the first one and 5", n)
	}
	if got := r.identify(r.by(r.signer)); got != "" {
		t.Fatal(got)
	}
}

// TestStale: keys are used for an hour while the provider does not answer, and again when it does.
func TestStale(t *testing.T) {
	r := newRemote(t, newProvider(t), nil)
	for _, status := range []int{http.StatusInternalServerError, http.StatusFound} {
		r.p.status.Store(int64(status))
		for range 60 { // the attempts are a minute apart at most
			r.clock.AwaitSleepers(1)
			if got := r.identify(r.by(r.signer)); got != "" {
				t.Fatalf("%d, %s: %q", status, r.clock.Now(), got)
			}
			r.clock.Advance(59 * time.Second)
		}
		if len(r.v.Failing()) != 1 {
			t.Fatalf("%d: nobody is told", status)
		}
		r.clock.AwaitSleepers(1)
		r.clock.Advance(11 * time.Minute) // the last good fetch may have been 10 minutes after the beginning
		if got := r.identify(r.by(r.signer)); got != wire.Busy {
			t.Fatalf("%d: after more than an hour: %q", status, got)
		}
		r.p.status.Store(0)
		r.clock.AwaitSleepers(1)
		r.clock.Advance(time.Minute)
		r.clock.AwaitSleepers(1)
		if got := r.identify(r.by(r.signer)); got != "" || len(r.v.Failing()) != 0 {
			t.Fatalf("%d: it answers again: %q", status, got)
		}
	}
}

// TestNeverFetched: a provider that does not answer at the start is busy, not a refusal, and nobody waits for longer than an attempt.
func TestNeverFetched(t *testing.T) {
	p := newProvider(t)
	p.status.Store(500)
	r := newRemote(t, p, nil)
	if got := r.identify(r.by(r.signer)); got != wire.Busy {
		t.Fatal(got)
	}
	p.status.Store(0)
	r.clock.AwaitSleepers(1)
	r.clock.Advance(10 * time.Second)
	r.clock.AwaitSleepers(1)
	if got := r.identify(r.by(r.signer)); got != "" {
		t.Fatal(got)
	}
}

func TestDiscovery(t *testing.T) {
	p := newProvider(t)
	own := func(i *app.Issuer) { i.Issuer, i.JWKS, i.Discovery = p.URL, "", true }
	r := newRemote(t, p, own)
	sign := func() string {
		c := r.claims()
		c["iss"] = p.URL
		text, _ := r.signer.Sign(c)
		return text
	}
	if got := r.identify(sign()); got != "" {
		t.Fatal(got, r.v.Failing())
	}
	for name, at := range map[string]string{
		"plain":         "http://example.org/jwks",
		"another port":  strings.Replace(p.URL, "http://", "https://", 1) + "1/jwks",
		"a file":        "file:///etc/passwd",
		"nothing":       "",
		"a user":        "https://a:b@example.org/jwks",
		"no host":       "https:///jwks",
		"another issue": "http://127.0.0.1:1/jwks",
	} {
		bad := newProvider(t)
		bad.jwksURI.Store(&at)
		x := newRemote(t, bad, func(i *app.Issuer) { i.Issuer, i.JWKS, i.Discovery = bad.URL, "", true })
		if len(x.v.Failing()) != 1 || bad.fetches.Load() != 0 {
			t.Errorf("%s: %v", name, x.v.Failing())
		}
	}
	liar := newProvider(t)
	at := liar.URL + "/"
	x := newRemote(t, liar, func(i *app.Issuer) { i.Issuer, i.JWKS, i.Discovery = at, "", true }) // it calls itself otherwise
	if why := x.v.Failing()[at]; !strings.Contains(why, "another issuer") {
		t.Error(why)
	}
}

// TestGuard: what a name stands for is looked at when it is connected to.
func TestGuard(t *testing.T) {
	for addr, want := range map[string]string{ // what allows it
		"93.184.216.34": "always", "2606:2800:220:1::1": "always",
		"127.0.0.1": "loopback", "127.8.9.1": "loopback", "::1": "loopback", "::ffff:127.0.0.1": "loopback",
		"10.0.0.1": "private", "172.16.3.4": "private", "192.168.1.1": "private", "fd00::1": "private", "100.64.0.1": "private", "::ffff:10.0.0.1": "private",
		"169.254.169.254": "", "fe80::1": "", "0.0.0.0": "", "::": "", "224.0.0.1": "", "ff02::1": "", "255.255.255.255": "", "240.0.0.1": "", "0.1.2.3": "",
		"64:ff9b::7f00:1": "", "2002:7f00:1::": "", "2001::1": "", "::7f00:1": "", "fec0::1": "", "198.18.0.1": "", "192.0.0.8": "",
	} {
		a := netip.MustParseAddr(addr)
		for _, g := range []guard{{}, {loopback: true}, {private: true}} {
			allowed := want == "always" || want == "loopback" && g.loopback || want == "private" && g.private
			if got := g.control(netip.AddrPortFrom(a, 443).String()) == nil; got != allowed {
				t.Errorf("%s with %+v: %t", addr, g, got)
			}
		}
	}
	p := newProvider(t)
	p.publish(t, signerOf(t, "EdDSA"))
	_, err := guardedClient(guard{}).Get(p.URL + "/jwks")
	if err == nil || p.fetches.Load() != 0 {
		t.Fatalf("loopback was asked: %v", err)
	}
	t.Setenv("HTTP_PROXY", p.URL)
	k, err := newURLKeys("http://localhost:1/jwks", false, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.fetch(t.Context()); err == nil || p.fetches.Load() != 0 {
		t.Fatal("a proxy was asked")
	}
}

func TestTooLargeASet(t *testing.T) {
	p := newProvider(t)
	long := []byte(`{"keys":[],"x":"` + strings.Repeat("x", maxKeySet) + `"}`)
	p.set.Store(&long)
	r := newRemote(t, p, nil)
	if why := r.v.Failing()[testIssuer]; !strings.Contains(why, "more than 65536 bytes") {
		t.Fatal(why)
	}
}

func TestKeySets(t *testing.T) {
	ed, es, rs := signerOf(t, "EdDSA").PublicKey(), signerOf(t, "ES256").PublicKey(), signerOf(t, "RS256").PublicKey()
	with := func(k map[string]string, pairs ...string) string {
		m := map[string]string{}
		for name, v := range k {
			m[name] = v
		}
		for i := 0; i < len(pairs); i += 2 {
			if m[pairs[i]] = pairs[i+1]; pairs[i+1] == "" {
				delete(m, pairs[i])
			}
		}
		text, _ := json.Marshal(m)
		return string(text)
	}
	for name, x := range map[string]struct {
		keys string
		n    int // -1: wrong
	}{
		"all kinds":                {with(ed) + "," + with(es) + "," + with(rs), 3},
		"none":                     {"", 0},
		"without alg":              {with(ed, "alg", "") + "," + with(es, "alg", "") + "," + with(rs, "alg", ""), 3},
		"for encryption":           {with(ed, "use", "enc"), 0},
		"RS512, PS256":             {with(rs, "alg", "RS512") + "," + with(rs, "alg", "PS256"), 0},
		"a secret":                 {`{"kty":"oct","k":"c2VjcmV0","kid":"x"}`, 0},
		"another curve":            {with(es, "crv", "P-384") + "," + with(ed, "crv", "X25519"), 0},
		"EdDSA for an EC key":      {with(es, "alg", "EdDSA"), 0},
		"key_ops":                  {strings.Replace(with(ed), `{`, `{"key_ops":["verify"],`, 1), 1},
		"other key_ops":            {strings.Replace(with(ed), `{`, `{"key_ops":["encrypt"],`, 1), 0},
		"a private key":            {with(ed, "d", "AAAA"), -1},
		"one kid and alg twice":    {with(ed) + "," + with(ed), -1},
		"one kid for two algs":     {with(ed, "kid", "1") + "," + with(es, "kid", "1"), 2},
		"a point off the curve":    {with(es, "x", es["y"]), -1},
		"a short coordinate":       {with(es, "x", "AAAA"), -1},
		"a short modulus":          {with(rs, "n", "wQAB"), -1},
		"an even exponent":         {with(rs, "e", "BA"), -1},
		"exponent one":             {with(rs, "e", "AQ"), -1},
		"standard base64":          {with(ed, "x", "++++"), -1},
		"a member twice":           {strings.Replace(with(ed), `{`, `{"kid":"other",`, 1), -1},
		"a long kid":               {with(ed, "kid", strings.Repeat("k", 257)), -1},
		"no object":                {`"key"`, -1},
		"as many as are ever used": {strings.Repeat(`{"kty":"oct"},`, 64) + `{"kty":"oct"}`, -1},
	} {
		n, err := ParseKeySet([]byte(`{"keys":[` + x.keys + `]}`))
		if err != nil {
			n = -1
		}
		if n != x.n {
			t.Errorf("%s: %d (%v), want %d", name, n, err, x.n)
		}
	}
	for _, text := range []string{"", "null", "[]", "{}", `{"keys":{}}`, `{"keys":[]`, `{"keys":[]}x`} {
		if n, err := ParseKeySet([]byte(text)); err == nil {
			t.Errorf("%q has %d keys", text, n)
		}
	}
}

// TestSettingsOfKeys: what is wrong with files and secrets is said at the start.
func TestSettingsOfKeys(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	t.Setenv("SECRET_OF_TEST", strings.Repeat("s", 32))
	for name, x := range map[string]struct {
		issuer  app.Issuer
		develop bool
		want    string
	}{
		"no such file":        {app.Issuer{JWKS: "none.json"}, false, "no such file"},
		"a file of no keys":   {app.Issuer{JWKS: file("bad.json", "{}")}, false, "no member keys"},
		"an empty set":        {app.Issuer{JWKS: file("empty.json", `{"keys":[]}`)}, false, "no key that can verify"},
		"a secret":            {app.Issuer{Secret: "env:SECRET_OF_TEST"}, false, "laaster dev"},
		"a secret in dev":     {app.Issuer{Secret: "env:SECRET_OF_TEST"}, true, ""},
		"a short one":         {app.Issuer{Secret: file("short", "abc\n")}, true, "32 are the least"},
		"one that is not set": {app.Issuer{Secret: "env:SECRET_OF_NOBODY"}, true, "has 0 bytes"},
	} {
		s := app.DefaultSettings().Auth
		x.issuer.Issuer, x.issuer.Audience = testIssuer, testAudience
		s.Issuers = []app.Issuer{x.issuer}
		_, err := NewVerifier(&s, dir, x.develop, run.NewManual(time.Unix(0, 0)), slog.New(slog.DiscardHandler))
		if (err == nil) != (x.want == "") || err != nil && !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "sss") {
			t.Errorf("%s: the secret is told: %v", name, err)
		}
	}
}

func TestSecretInDevelopment(t *testing.T) {
	t.Setenv("SECRET_OF_TEST", strings.Repeat("s", 32))
	s := app.DefaultSettings().Auth
	s.Issuers = []app.Issuer{{Issuer: testIssuer, Audience: testAudience, Secret: "env:SECRET_OF_TEST"}}
	w := &world{t: t, clock: run.NewManual(time.Unix(1_790_000_000, 0))}
	var err error
	if w.v, err = NewVerifier(&s, "", true, w.clock, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	w.signer, _ = SecretSigner([]byte(strings.Repeat("s", 32)))
	text, _ := w.signer.Sign(w.claims())
	if got := w.code(text); got != "" {
		t.Fatal(got)
	}
	other, _ := SecretSigner([]byte(strings.Repeat("t", 32)))
	text, _ = other.Sign(w.claims())
	if got := w.code(text); got != wire.Unauthenticated {
		t.Fatal(got)
	}
}

// TestKeysRoundTrip: what a signer writes is read again.
func TestKeysRoundTrip(t *testing.T) {
	var before []byte
	for _, alg := range []string{"EdDSA", "ES256", "RS256"} {
		s := signerOf(t, alg)
		text, err := s.Private()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseSigner(text)
		if err != nil || again.KeyID() != s.KeyID() || again.Algorithm() != alg {
			t.Fatalf("%s: %+v %v", alg, again, err)
		}
		if before, err = KeySet(before, again); err != nil {
			t.Fatal(err)
		}
		set, err := parseKeySet(before)
		if err != nil {
			t.Fatal(err)
		}
		key, ok := set.find(s.KeyID(), alg, true)
		token, _ := s.Sign(map[string]any{"iss": "x"})
		u, p := takeApart(token)
		if !ok || p != nil || !u.verify(key) {
			t.Fatalf("%s: %v", alg, p)
		}
	}
	if n, err := ParseKeySet(before); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	for _, text := range []string{"", "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"} {
		if _, err := ParseSigner([]byte(text)); err == nil {
			t.Errorf("%q is a key", text)
		}
	}
}

func FuzzJWKS(f *testing.F) {
	var set []byte
	for _, alg := range []string{"EdDSA", "ES256", "RS256"} {
		s, err := NewSigner(alg)
		if err != nil {
			f.Fatal(err)
		}
		set, _ = KeySet(set, s)
	}
	f.Add(set)
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":""}]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},null,{}]}`))
	signature := make([]byte, 64)
	f.Fuzz(func(t *testing.T, text []byte) {
		set, err := parseKeySet(text)
		if err != nil {
			return
		}
		for id, key := range set {
			u := &unverified{signed: "e30.e30", signature: signature, alg: id.alg}
			if u.verify(key) {
				t.Fatalf("key %v takes a signature of zeros", id)
			}
			u.alg = "none"
			if u.verify(key) {
				t.Fatalf("key %v takes none", id)
			}
		}
	})
}

// TestGivenClaims: a mapping of any value is of claims that say something.
func TestGivenClaims(t *testing.T) {
	for value, want := range map[string]bool{
		`false`: false, `null`: false, `0`: false, `0.0`: false, `""`: false, `[]`: false, `[ ]`: false, `{}`: false,
		`true`: true, `1`: true, `-0.5`: true, `"no"`: true, `[0]`: true, `{"a":null}`: true,
	} {
		i := newIssuer(&app.Issuer{RoleMap: []app.RoleMapping{{Claim: "admin", Role: "boss"}, {Claim: "admin", Value: "false", Role: "never"}}}, &app.Auth{})
		got := i.roles([]byte(`{"admin":` + value + `}`))
		if slices.Contains(got, "boss") != want || slices.Contains(got, "never") != (value == "false") {
			t.Errorf("%s: %q", value, got)
		}
	}
}
