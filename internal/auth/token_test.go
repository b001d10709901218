package auth

import (
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"laaster/app"
	"laaster/internal/kit/run"
	"laaster/internal/wire"
)

const (
	testIssuer   = "https://id.example.org/"
	testAudience = "clinic"
)

// world is a verifier of one issuer with keys in a file.
type world struct {
	t      *testing.T
	clock  *run.Manual
	signer *Signer
	v      *Verifier
	dir    string
}

func newWorld(t *testing.T, alg string, change ...func(*app.Issuer)) *world {
	t.Helper()
	w := &world{t: t, clock: run.NewManual(time.Unix(1_790_000_000, 0)), dir: t.TempDir()}
	w.signer = signerOf(t, alg)
	w.publish(w.signer)
	s := app.DefaultSettings().Auth
	i := app.Issuer{Issuer: testIssuer, Audience: testAudience, JWKS: "jwks.json"}
	for _, f := range change {
		f(&i)
	}
	s.Issuers = []app.Issuer{i}
	var err error
	if w.v, err = NewVerifier(&s, w.dir, false, w.clock, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	w.v.Declare(&app.Definition{Roles: []string{"nurse", "doctor"}})
	return w
}

func signerOf(t *testing.T, alg string) *Signer {
	t.Helper()
	s, err := NewSigner(alg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *world) publish(signers ...*Signer) {
	w.t.Helper()
	set, err := KeySet(nil, signers...)
	if err == nil {
		err = os.WriteFile(filepath.Join(w.dir, "jwks.json"), set, 0o600)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// claims returns good ones.
func (w *world) claims() map[string]any {
	now := w.clock.Now().Unix()
	return map[string]any{"iss": testIssuer, "aud": testAudience, "sub": "u1", "iat": now, "exp": now + 600, "roles": []string{"visitor", "nurse"}}
}

// token signs good claims after change.
func (w *world) token(change func(header, claims map[string]any)) string {
	w.t.Helper()
	header := map[string]any{"typ": "JWT", "alg": w.signer.Algorithm(), "kid": w.signer.KeyID()}
	claims := w.claims()
	if change != nil {
		change(header, claims)
	}
	text, err := w.signer.SignWith(header, claims)
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

func (w *world) code(token string) wire.Code {
	w.t.Helper()
	p, _, problem := w.v.Identify(token)
	if problem == nil {
		if p.Token == nil || p.Subject == "" {
			w.t.Errorf("no problem and no principal: %+v", p)
		}
		return ""
	}
	if strings.Contains(problem.Detail+problem.Hint, token) && len(token) > 3 {
		w.t.Errorf("the problem repeats the token: %v", problem)
	}
	return problem.Code
}

func TestTokens(t *testing.T) {
	for _, alg := range []string{"EdDSA", "ES256", "RS256"} {
		w := newWorld(t, alg)
		p, _, problem := w.v.Identify(w.token(nil))
		if problem != nil {
			t.Fatalf("%s: %v %s", alg, problem, problem.Hint)
		}
		if p.Subject != "u1" || p.Role != "nurse" || !p.HasRole("visitor") || !p.HasRole("public") || p.HasRole("doctor") || p.HasRole("anon") {
			t.Errorf("%s: %+v", alg, p)
		}
		again, _, _ := w.v.Identify(w.token(nil))
		if alg == "EdDSA" && again != p { // the same text, since the signature is the same
			t.Error("the same token gives two principals")
		}
	}
}

// TestRefusedTokens has each rule broken alone.
func TestRefusedTokens(t *testing.T) {
	w := newWorld(t, "ES256")
	now := w.clock.Now().Unix()
	type m = map[string]any
	set := func(name string, value any) func(h, c m) { return func(_, c m) { c[name] = value } }
	drop := func(name string) func(h, c m) { return func(_, c m) { delete(c, name) } }
	head := func(name string, value any) func(h, c m) { return func(h, _ m) { h[name] = value } }
	for name, x := range map[string]struct {
		change func(h, c m)
		want   wire.Code
	}{
		"good":                             {nil, ""},
		"aud in a list":                    {set("aud", []string{"other", testAudience}), ""},
		"fractions of seconds":             {set("iat", float64(now)+0.5), ""},
		"just within the leeway":           {set("iat", now+2), ""},
		"not before, and it is":            {set("nbf", now), ""},
		"at+jwt":                           {head("typ", "at+jwt"), ""},
		"application/at+jwt":               {head("typ", "application/at+jwt"), ""},
		"without kid, one key":             {func(h, _ m) { delete(h, "kid") }, ""},
		"alg none":                         {head("alg", "none"), wire.Unauthenticated},
		"alg None":                         {head("alg", "None"), wire.Unauthenticated},
		"alg of another key":               {head("alg", "RS256"), wire.Unauthenticated},
		"alg HS256":                        {head("alg", "HS256"), wire.Unauthenticated},
		"alg ES384":                        {head("alg", "ES384"), wire.Unauthenticated},
		"no alg":                           {func(h, _ m) { delete(h, "alg") }, wire.Unauthenticated},
		"no typ":                           {func(h, _ m) { delete(h, "typ") }, wire.Unauthenticated},
		"another typ":                      {head("typ", "dpop+jwt"), wire.Unauthenticated},
		"crit":                             {head("crit", []string{"exp"}), wire.Unauthenticated},
		"zip":                              {head("zip", "DEF"), wire.Unauthenticated},
		"enc":                              {head("enc", "A128GCM"), wire.Unauthenticated},
		"jku":                              {head("jku", "https://evil.example/jwks"), wire.Unauthenticated},
		"jwk":                              {head("jwk", w.signer.PublicKey()), wire.Unauthenticated},
		"x5u":                              {head("x5u", "https://evil.example/c.pem"), wire.Unauthenticated},
		"nested":                           {head("cty", "JWT"), wire.Unauthenticated},
		"another kid":                      {head("kid", "x"), wire.Unauthenticated},
		"kid no text":                      {head("kid", 7), wire.Unauthenticated},
		"no iss":                           {drop("iss"), wire.Unauthenticated},
		"iss of somebody else":             {set("iss", "https://evil.example/"), wire.Unauthenticated},
		"iss without its slash":            {set("iss", "https://id.example.org"), wire.Unauthenticated},
		"iss no text":                      {set("iss", []string{testIssuer}), wire.Unauthenticated},
		"no aud":                           {drop("aud"), wire.Unauthenticated},
		"another aud":                      {set("aud", "bank"), wire.Unauthenticated},
		"aud only begins so":               {set("aud", testAudience+"2"), wire.Unauthenticated},
		"no sub":                           {drop("sub"), wire.Unauthenticated},
		"empty sub":                        {set("sub", ""), wire.Unauthenticated},
		"sub no text":                      {set("sub", 5), wire.Unauthenticated},
		"sub with a line end":              {set("sub", "u1\nrole: admin"), wire.Unauthenticated},
		"long sub":                         {set("sub", strings.Repeat("u", 256)), wire.Unauthenticated},
		"sub anon":                         {set("sub", "anon"), wire.Unauthenticated},
		"sub operator":                     {set("sub", "operator"), wire.Unauthenticated},
		"jti no text":                      {set("jti", 5), wire.Unauthenticated},
		"no iat":                           {drop("iat"), wire.Unauthenticated},
		"iat as text":                      {set("iat", "1790000000"), wire.Unauthenticated},
		"iat negative":                     {set("iat", -1), wire.Unauthenticated},
		"issued in the future":             {func(_, c m) { c["iat"], c["exp"] = now+3, now+100 }, wire.Unauthenticated},
		"no exp":                           {drop("exp"), wire.Unauthenticated},
		"exp huge":                         {set("exp", 1e300), wire.Unauthenticated},
		"exp before iat":                   {set("exp", now-1), wire.Unauthenticated},
		"lives too long":                   {set("exp", now+901), wire.Unauthenticated},
		"expired":                          {func(_, c m) { c["iat"], c["exp"] = now-700, now-2 }, wire.TokenExpired},
		"expired within the leeway":        {func(_, c m) { c["iat"], c["exp"] = now-700, now-1 }, ""},
		"not yet":                          {set("nbf", now+3), wire.Unauthenticated},
		"nbf no number":                    {set("nbf", "now"), wire.Unauthenticated},
		"too many roles":                   {set("roles", strings.Fields(strings.Repeat("r ", 1)+manyRoles())), wire.Unauthenticated},
		"too large":                        {set("junk", strings.Repeat("x", 8<<10)), wire.Unauthenticated},
		"an array deep in the claims":      {set("junk", []any{[]any{map[string]any{"a": 1}}}), ""},
		"a kid of a path, for other tools": {head("kid", "../../etc/passwd"), wire.Unauthenticated},
	} {
		if got := w.code(w.token(x.change)); got != x.want {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
	}
}

func manyRoles() string {
	var b strings.Builder
	for i := range 65 {
		b.WriteString("role" + string(rune('a'+i%26)) + string(rune('a'+i/26)) + " ")
	}
	return b.String()
}

// TestForms breaks the text of a good token.
func TestForms(t *testing.T) {
	w := newWorld(t, "EdDSA")
	good := w.token(nil)
	parts := strings.Split(good, ".")
	b64 := base64.RawURLEncoding.EncodeToString
	raw := func(header, claims string) string {
		text, err := w.signer.signText([]byte(header), []byte(claims))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	header := `{"typ":"JWT","alg":"EdDSA","kid":"` + w.signer.KeyID() + `"}`
	claims, _ := json.Marshal(w.claims())
	body := string(claims)
	sum := []byte(parts[2])
	sum[0] ^= 1
	if p := w.code(raw(header, body)); p != "" {
		t.Fatalf("the raw form is not good: %s", p)
	}
	for name, token := range map[string]string{
		"empty":                        "",
		"a word":                       "opensesame",
		"two parts":                    parts[0] + "." + parts[1],
		"five parts":                   good + ".x.y",
		"no signature":                 parts[0] + "." + parts[1] + ".",
		"a million dots":               strings.Repeat(".", 1_000_000),
		"8000 dots":                    strings.Repeat(".", 8000),
		"another signature":            parts[0] + "." + parts[1] + "." + string(sum),
		"signature of another":         parts[0] + "." + parts[1] + "." + strings.Split(w.token(func(_, c map[string]any) { c["sub"] = "u2" }), ".")[2],
		"claims of another":            parts[0] + "." + b64([]byte(strings.Replace(body, `"u1"`, `"u2"`, 1))) + "." + parts[2],
		"padded":                       parts[0] + "=." + parts[1] + "." + parts[2],
		"a line end inside":            parts[0] + ".\n" + parts[1] + "." + parts[2],
		"a space behind":               good + " ",
		"standard alphabet":            parts[0] + "." + parts[1] + "." + strings.NewReplacer("-", "+", "_", "/").Replace(parts[2]) + "+",
		"a name twice in the header":   raw(`{"typ":"JWT","alg":"none","alg":"EdDSA","kid":"`+w.signer.KeyID()+`"}`, body),
		"a name twice in the claims":   raw(header, strings.Replace(body, `{`, `{"sub":"root",`, 1)),
		"a name twice, escaped":        raw(header, strings.Replace(body, `{`, `{"s\u0075b":"root",`, 1)),
		"a name twice, deep":           raw(header, strings.Replace(body, `{`, `{"a":{"b":[{"c":1,"c":2}]},`, 1)),
		"claims no object":             raw(header, `["u1"]`),
		"claims and more":              raw(header, body+"{}"),
		"claims not UTF-8":             raw(header, strings.Replace(body, `"u1"`, "\"u\xff\"", 1)),
		"claims with half a surrogate": raw(header, strings.Replace(body, `{`, `{"\ud800":1,`, 1)),
		"deeper than anybody needs":    raw(header, strings.Replace(body, `{`, `{"a":`+strings.Repeat("[", 70)+strings.Repeat("]", 70)+`,`, 1)),
		"names in other letters":       raw(header, strings.Replace(body, `"sub"`, `"SUB"`, 1)),
		"an empty header":              raw(`{}`, body),
	} {
		if got := w.code(token); got != wire.Unauthenticated {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestConfusion: a public key is no secret, and a key of one algorithm verifies no other.
func TestConfusion(t *testing.T) {
	w := newWorld(t, "RS256")
	set, err := os.ReadFile(filepath.Join(w.dir, "jwks.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range [][]byte{set, []byte(w.signer.PublicKey()["n"])} {
		forger, err := SecretSigner(secret)
		if err != nil {
			t.Fatal(err)
		}
		for _, alg := range []string{"HS256", "RS256"} {
			text, err := forger.SignWith(map[string]any{"typ": "JWT", "alg": alg, "kid": w.signer.KeyID()}, w.claims())
			if err != nil {
				t.Fatal(err)
			}
			if got := w.code(text); got != wire.Unauthenticated {
				t.Errorf("%s by a public key: %q", alg, got)
			}
		}
	}
	es := newWorld(t, "ES256")
	ed := signerOf(t, "EdDSA")
	text, _ := ed.SignWith(map[string]any{"typ": "JWT", "alg": "EdDSA", "kid": es.signer.KeyID()}, es.claims())
	if got := es.code(text); got != wire.Unauthenticated {
		t.Errorf("another algorithm under a known kid: %q", got)
	}
	only := newWorld(t, "RS256", func(i *app.Issuer) { i.Algorithms = []string{"ES256"} })
	if got := only.code(only.token(nil)); got != wire.Unauthenticated {
		t.Errorf("an algorithm that the settings do not name: %q", got)
	}
}

// TestSameKid: two issuers whose keys have one kid do not sign for each other, in whatever order they are asked.
func TestSameKid(t *testing.T) {
	clock, dir := run.NewManual(time.Unix(1_790_000_000, 0)), t.TempDir()
	s := app.DefaultSettings().Auth
	signers := map[string]*Signer{}
	for _, name := range []string{"a", "b"} {
		signer := signerOf(t, "ES256")
		signer.kid = "one"
		signers[name] = signer
		set, _ := KeySet(nil, signer)
		if err := os.WriteFile(filepath.Join(dir, name+".json"), set, 0o600); err != nil {
			t.Fatal(err)
		}
		s.Issuers = append(s.Issuers, app.Issuer{Issuer: name, Audience: "x", JWKS: name + ".json"})
	}
	v, err := NewVerifier(&s, dir, false, clock, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	now := clock.Now().Unix()
	for range 2 {
		for by, signer := range signers {
			for says := range maps.Keys(signers) {
				text, _ := signer.Sign(map[string]any{"iss": says, "aud": "x", "sub": "u", "iat": now, "exp": now + 60})
				_, _, p := v.Identify(text)
				if (p == nil) != (by == says) {
					t.Errorf("signed by %s for %s: %v", by, says, p)
				}
			}
		}
	}
}

func TestClaimsToRoles(t *testing.T) {
	for name, x := range map[string]struct {
		change func(*app.Issuer)
		claims string
		want   string
	}{
		"a list":               {nil, `{"roles":["b","a","b"]}`, "b a"},
		"a text":               {nil, `{"roles":"a b"}`, "a b"},
		"what is no text":      {nil, `{"roles":[1,null,{"a":1},"a"]}`, "a"},
		"public is no role":    {nil, `{"roles":["public"]}`, ""},
		"a path":               {func(i *app.Issuer) { i.RolesClaim = "realm_access.roles" }, `{"realm_access":{"roles":["a"]}}`, "a"},
		"a name with dots":     {func(i *app.Issuer) { i.RolesClaim = "https://x.org/roles" }, `{"https://x.org/roles":["a"]}`, "a"},
		"nothing":              {nil, `{}`, ""},
		"nothing, by default":  {func(i *app.Issuer) { i.DefaultRole = "member" }, `{"roles":[]}`, "member"},
		"the table":            {table, `{"groups":["x","staff"],"roles":"a"}`, "a nurse"},
		"the table, a bool":    {table, `{"admin":true}`, "boss"},
		"the table, a number":  {table, `{"level":3}`, "third"},
		"the table, any value": {table, `{"email":"a@b"}`, "mailed"},
		"the table, null":      {table, `{"email":null,"admin":"no","groups":"staffs"}`, ""},
	} {
		w := newWorld(t, "EdDSA", append([]func(*app.Issuer){}, nonNil(x.change)...)...)
		if got := strings.Join(w.v.issuers[testIssuer].roles([]byte(x.claims)), " "); got != x.want {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
	}
}

func nonNil(f func(*app.Issuer)) []func(*app.Issuer) {
	if f == nil {
		return nil
	}
	return []func(*app.Issuer){f}
}

func table(i *app.Issuer) {
	i.RoleMap = []app.RoleMapping{{Claim: "groups", Value: "staff", Role: "nurse"}, {Claim: "admin", Value: "true", Role: "boss"},
		{Claim: "level", Value: "3", Role: "third"}, {Claim: "email", Role: "mailed"}}
}

func TestClaim(t *testing.T) {
	p := Principal{Token: &Token{Claims: []byte(`{"org":"x","n":12.50,"t":true,"z":null,"deep":{"a":{"b":"c"},"l":[1, 2]},"a.b":{"c":"dots"},"a":{"b.c":"other"}}`)}}
	for path, want := range map[string]string{"org": "x", "n": "12.50", "t": "true", "deep.a.b": "c", "deep.l": "[1, 2]", "deep.a": `{"b":"c"}`, "a.b.c": "other"} {
		if got, ok := p.Claim(path); !ok || got != want {
			t.Errorf("%s: %q %t, want %q", path, got, ok, want)
		}
	}
	for _, path := range []string{"", "z", "none", "org.x", "deep.", "deep.a.b.c", ".org", "ORG"} {
		if got, ok := p.Claim(path); ok {
			t.Errorf("%s: %q", path, got)
		}
	}
	if _, ok := Anonymous().Claim("sub"); ok {
		t.Error("anon has a claim")
	}
}

// TestCache: a remembered token ends as others do.
func TestCache(t *testing.T) {
	w := newWorld(t, "EdDSA")
	text := w.token(nil)
	for range 3 {
		if got := w.code(text); got != "" {
			t.Fatal(got)
		}
	}
	w.clock.Advance(601 * time.Second)
	if got := w.code(text); got != "" {
		t.Fatalf("within the leeway: %q", got)
	}
	w.clock.Advance(time.Second)
	if got := w.code(text); got != wire.TokenExpired {
		t.Fatalf("behind its end: %q", got)
	}
	for i := range 60_000 { // more than fit
		w.v.cache.put(strings.Repeat("x", 500)+string(rune('a'+i%26))+strings.Repeat("y", i%300), &Token{Claims: make([]byte, 300)})
	}
	if n := len(w.v.cache.mu.young) + len(w.v.cache.mu.old); n > 2*cacheHalf/(500+300+cacheEntry)+2 {
		t.Errorf("%d tokens are remembered", n)
	}
}

func TestRoleFollowsTheApp(t *testing.T) {
	w := newWorld(t, "EdDSA")
	p, _, _ := w.v.Identify(w.token(nil))
	w.v.Declare(&app.Definition{Grants: []app.Grant{{Role: "visitor"}}})
	if again := w.v.Again(p); p.Role != "nurse" || again.Role != "visitor" || again.Token != p.Token {
		t.Errorf("%+v, then %+v", p, again)
	}
	w.v.Declare(nil)
	if p, _, _ = w.v.Identify(w.token(nil)); p.Role != "" {
		t.Errorf("%+v of an app without roles", p)
	}
}

func FuzzToken(f *testing.F) {
	signer, err := NewSigner("EdDSA")
	if err != nil {
		f.Fatal(err)
	}
	set, _ := KeySet(nil, signer)
	keys, err := parseKeySet(set)
	if err != nil {
		f.Fatal(err)
	}
	good, _ := signer.Sign(map[string]any{"iss": testIssuer, "aud": testAudience, "sub": "u1", "iat": 1_790_000_000, "exp": 1_790_000_600})
	f.Add(good)
	f.Add(good + ".x")
	f.Add("e30.e30.e30")
	f.Add("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJ1MSJ9.AA")
	s := newIssuer(&app.Issuer{Issuer: testIssuer, Audience: testAudience}, &app.Auth{MaxLifetime: app.Duration(15 * time.Minute)})
	f.Fuzz(func(t *testing.T, text string) {
		u, p := takeApart(text)
		if p != nil {
			if p.Code != wire.Unauthenticated {
				t.Fatalf("%v", p)
			}
			return
		}
		if strings.Count(text, ".") != 2 || len(text) > maxToken || u.issuer == "" && !u.members.has("iss", "") {
			t.Fatalf("%q was taken apart", text)
		}
		key, ok := keys.find(u.kid, u.alg, u.named)
		if ok && u.verify(key) && text != good {
			t.Fatalf("a forged token: %q", text)
		}
		if tok, p := u.judge(s, time.Unix(1_790_000_000, 0)); p == nil && (tok.subject == "" || tok.Expires.Sub(tok.Issued) > 15*time.Minute || tok.Issuer != testIssuer && u.issuer == testIssuer) {
			t.Fatalf("%+v", tok)
		}
	})
}

func BenchmarkIdentify(b *testing.B) {
	signer, _ := NewSigner("EdDSA")
	dir := b.TempDir()
	set, _ := KeySet(nil, signer)
	if err := os.WriteFile(filepath.Join(dir, "k"), set, 0o600); err != nil {
		b.Fatal(err)
	}
	s := app.DefaultSettings().Auth
	s.Issuers = []app.Issuer{{Issuer: "i", Audience: "a", JWKS: "k"}}
	v, err := NewVerifier(&s, dir, false, run.System{}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	now := run.System{}.Now().Unix()
	text, _ := signer.Sign(map[string]any{"iss": "i", "aud": "a", "sub": "u", "iat": now, "exp": now + 600, "roles": []string{"x", "y"}})
	b.ReportAllocs()
	for b.Loop() {
		if _, _, p := v.Identify(text); p != nil {
			b.Fatal(p)
		}
	}
}
