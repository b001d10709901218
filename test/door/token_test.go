package door

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// ruledSQL is the app of the attacks with tokens: everybody has his own notes.
const ruledSQL = `CREATE ROLE member;
CREATE TABLE votes (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(), contestant text NOT NULL, extra jsonb
) WITH (append_only);
CREATE TABLE notes (id integer PRIMARY KEY, owner text NOT NULL DEFAULT auth_subject(), secret text);
CREATE MATERIALIZED VIEW tally AS SELECT contestant, count(*) AS votes FROM votes GROUP BY contestant;
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON notes USING (owner = auth_subject());
GRANT INSERT ON votes TO member;
GRANT SELECT ON tally TO member;
GRANT ALL ON notes TO member;
`

// signer makes tokens as an issuer does, and as somebody does who only pretends to.
type signer struct {
	issuer, kid string
	key         ed25519.PrivateKey
}

func newSigner(t testing.TB, issuer, kid string) *signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{issuer, kid, key}
}

func (s *signer) public() ed25519.PublicKey { return s.key.Public().(ed25519.PublicKey) }

// jwks returns the signer's keys as it publishes them.
func (s *signer) jwks() []byte {
	return fmt.Appendf(nil, `{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","use":"sig","kid":"%s","x":"%s"}]}`, s.kid, part(s.public()))
}

func part(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

type object map[string]any

func (o object) with(name string, v any) object {
	out := object{}
	for k, v := range o {
		out[k] = v
	}
	if v == nil {
		delete(out, name)
	} else {
		out[name] = v
	}
	return out
}

func (s *signer) header() object { return object{"alg": "EdDSA", "typ": "JWT", "kid": s.kid} }

func (s *signer) claims(subject string) object {
	now := time.Now().Unix()
	return object{"iss": s.issuer, "aud": "door", "sub": subject, "iat": now, "exp": now + 600, "roles": []string{"member"}}
}

func (s *signer) sign(header, claims any) string {
	return s.signText(text(header), text(claims))
}

func text(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	b, _ := json.Marshal(v) // of plain values
	return string(b)
}

func (s *signer) signText(header, claims string) string {
	signed := part([]byte(header)) + "." + part([]byte(claims))
	return signed + "." + part(ed25519.Sign(s.key, []byte(signed)))
}

func (s *signer) token(subject string) string { return s.sign(s.header(), s.claims(subject)) }

// TestTokenAttacks are those on identity.
func TestTokenAttacks(t *testing.T) {
	one, two, three := newSigner(t, "https://one.example", "k1"), newSigner(t, "https://two.example", "k1"), newSigner(t, "", "k1")
	var fetched atomic.Int64
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetched.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(three.jwks())
	}))
	defer keys.Close()
	three.issuer = keys.URL
	x := startVictim(t, ruledSQL, quick+"auth:\n  issuers:\n"+
		"    - {issuer: https://one.example, audience: door, jwks: one.json, subject_prefix: '1:'}\n"+
		"    - {issuer: https://two.example, audience: door, jwks: two.json, subject_prefix: '2:'}\n"+
		"    - {issuer: '"+three.issuer+"', audience: door, jwks: '"+keys.URL+"', subject_prefix: '3:'}\n",
		map[string][]byte{"one.json": one.jwks(), "two.json": two.jwks()})
	x.token = one.token("good")
	if status, body, err := x.call("POST", "/v1/tables/notes", `{"id":1,"secret":"s3cret"}`, "Authorization", "Bearer "+x.token); err != nil || status != http.StatusOK {
		t.Fatal(status, body, err)
	}
	for _, s := range []*signer{one, two, three} { // each is believed, and sees nothing of the others'
		if status, body, err := x.call("GET", "/v1/views/notes", "", "Authorization", "Bearer "+s.token("somebody")); err != nil || status != http.StatusOK || body != "[]" {
			t.Fatalf("%s: %d %s %v", s.issuer, status, body, err)
		}
	}
	under(t, x, []attack{
		{name: "forged tokens", workers: 1, rounds: 1, pause: 200 * time.Millisecond, round: func(x *victim) error { return forged(x, one, two) }},
		{name: "dots", workers: 2, rounds: 1, pause: 200 * time.Millisecond, round: func(x *victim) error { return dots(x, one) }},
		{name: "unknown keys", workers: 4, rounds: 50, pause: 2 * time.Millisecond, round: func(x *victim) error { return unknownKeys(x, three, &fetched) }},
		{name: "rows of others", workers: 1, rounds: 1, pause: 100 * time.Millisecond, round: func(x *victim) error { return rowsOfOthers(x, two.token("attacker")) }},
	})
	if strings.Contains(x.Log(), x.token) || strings.Contains(x.Log(), "s3cret") {
		t.Error("the server's log has a token or a row")
	}
}

// forged shows tokens that nobody has signed, or not for this.
func forged(x *victim, one, two *signer) error {
	h, c := one.header(), one.claims("good")
	good := one.sign(h, c)
	parts := strings.Split(good, ".")
	mac := func(key []byte, alg string) string {
		signed := part([]byte(text(h.with("alg", alg)))) + "." + parts[1]
		m := hmac.New(sha256.New, key)
		m.Write([]byte(signed))
		return signed + "." + part(m.Sum(nil))
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	own := &signer{"https://one.example", "k1", newSigner(x.t, "", "").key}
	point, err := ec.PublicKey.Bytes()
	if err != nil {
		return err
	}
	tokens := map[string]string{
		"alg none":                       part([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + parts[1] + ".",
		"alg None with a signature":      one.sign(h.with("alg", "None"), c),
		"alg nOnE, no signature":         part([]byte(`{"alg":"nOnE","typ":"JWT","kid":"k1"}`)) + "." + parts[1] + ".",
		"no alg":                         one.sign(h.with("alg", nil), c),
		"alg in lower case":              one.sign(h.with("alg", "eddsa"), c),
		"HS256 with the public key":      mac(one.public(), "HS256"),
		"HS256 with the key's text":      mac([]byte(part(one.public())), "HS256"),
		"HS256 with the key set":         mac(one.jwks(), "HS256"),
		"HS256 with nothing":             mac(nil, "HS256"),
		"HS512 with the public key":      mac(one.public(), "HS512"),
		"RS256 over an Ed25519 key":      one.sign(h.with("alg", "RS256"), c),
		"ES256 over an Ed25519 key":      one.sign(h.with("alg", "ES256"), c),
		"Ed448":                          one.sign(h.with("alg", "Ed448"), c),
		"the other issuer's key":         two.sign(h, c),
		"the other issuer's name":        one.sign(h, c.with("iss", "https://two.example")),
		"an issuer nobody knows":         own.sign(h, c.with("iss", "https://three.example")),
		"an issuer with a slash more":    one.sign(h, c.with("iss", "https://one.example/")),
		"an issuer of a list":            one.sign(h, c.with("iss", []string{"https://one.example"})),
		"a key of one's own":             own.sign(h, c),
		"a key of one's own, brought":    own.sign(h.with("jwk", object{"kty": "OKP", "crv": "Ed25519", "x": part(own.public())}), c),
		"brought by address":             own.sign(h.with("jku", "https://one.example/keys"), c),
		"brought as a certificate":       own.sign(h.with("x5c", []string{"MIIB"}), c),
		"jku beside a good signature":    one.sign(h.with("jku", "https://evil.example/keys"), c),
		"x5u beside a good signature":    one.sign(h.with("x5u", "https://evil.example/keys"), c),
		"crit":                           one.sign(h.with("crit", []string{"b64"}).with("b64", false), c),
		"zip":                            one.sign(h.with("zip", "DEF"), c),
		"typ of another kind":            one.sign(h.with("typ", "logout+jwt"), c),
		"no typ":                         one.sign(h.with("typ", nil), c),
		"encrypted":                      strings.Join([]string{part([]byte(`{"alg":"dir","enc":"A128GCM","typ":"JWT"}`)), "", "AAAA", "AAAA", "AAAA"}, "."),
		"nested":                         one.sign(h.with("cty", "JWT"), text(good)),
		"alg twice":                      one.signText(`{"alg":"EdDSA","typ":"JWT","kid":"k1","alg":"EdDSA"}`, text(c)),
		"sub twice":                      one.signText(text(h), strings.Replace(text(c), "{", `{"sub":"good",`, 1)),
		"sub twice, once escaped":        one.signText(text(h), strings.Replace(text(c), "{", `{"\u0073ub":"good",`, 1)),
		"roles twice":                    one.signText(text(h), strings.Replace(text(c), "{", `{"roles":["member"],`, 1)),
		"another audience":               one.sign(h, c.with("aud", "window")),
		"an audience that begins so":     one.sign(h, c.with("aud", "door2")),
		"no audience":                    one.sign(h, c.with("aud", nil)),
		"no subject":                     one.sign(h, c.with("sub", nil)),
		"an empty subject":               one.sign(h, c.with("sub", "")),
		"a subject that is a number":     one.sign(h, c.with("sub", 7)),
		"no time of issue":               one.sign(h, c.with("iat", nil)),
		"no end":                         one.sign(h, c.with("exp", nil)),
		"an end as text":                 one.sign(h, c.with("exp", fmt.Sprint(time.Now().Unix()+600))),
		"expired":                        one.sign(h, c.with("iat", time.Now().Unix()-1200).with("exp", time.Now().Unix()-600)),
		"issued in the future":           one.sign(h, c.with("iat", time.Now().Unix()+300)),
		"valid later":                    one.sign(h, c.with("nbf", time.Now().Unix()+300)),
		"valid for a day":                one.sign(h, c.with("exp", time.Now().Unix()+86400)),
		"valid for ever":                 one.signText(text(h), strings.Replace(text(c), fmt.Sprint(c["exp"]), "1e300", 1)),
		"an end below all numbers":       one.signText(text(h), strings.Replace(text(c), fmt.Sprint(c["exp"]), "-9223372036854775809", 1)),
		"a changed claim":                parts[0] + "." + part([]byte(strings.Replace(text(c), "good", "root", 1))) + "." + parts[2],
		"a changed signature":            parts[0] + "." + parts[1] + "." + part(make([]byte, 64)),
		"half a signature":               good[:len(good)-40],
		"no signature":                   parts[0] + "." + parts[1] + ".",
		"two parts":                      parts[0] + "." + parts[1],
		"four parts":                     good + "." + parts[2],
		"padding":                        good + "==",
		"other alphabet":                 parts[0] + "." + parts[1] + "." + strings.NewReplacer("-", "+", "_", "/").Replace(parts[2]) + "+",
		"a space inside":                 parts[0] + ". " + parts[1] + "." + parts[2],
		"no object":                      one.signText(text(h), `["sub"]`),
		"something behind the claims":    one.signText(text(h), text(c)+"{}"),
		"9 KiB":                          one.sign(h, c.with("x", strings.Repeat("x", 9<<10))),
		"deep claims":                    one.signText(text(h), strings.Replace(text(c), "{", `{"x":`+strings.Repeat("[", 2500)+strings.Repeat("]", 2500)+",", 1)),
		"a kid that is a path":           one.sign(h.with("kid", "../../../../etc/passwd"), c),
		"a kid that is SQL":              one.sign(h.with("kid", "k1' UNION SELECT 'x"), c),
		"a kid that is a list":           one.sign(h.with("kid", []string{"k1"}), c),
		"nothing":                        "",
		"an unsigned curve point as key": part(point) + "." + parts[1] + "." + parts[2],
	}
	for name, token := range tokens {
		status, body, err := x.call("GET", "/v1/views/notes", "", "Authorization", "Bearer "+token)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if status != http.StatusUnauthorized && status != http.StatusTooManyRequests || strings.Contains(body, "s3cret") || len(parts[1]) > 0 && strings.Contains(body, parts[1]) {
			return fmt.Errorf("a token with %s: %d %s", name, status, body)
		}
		if token == "" {
			continue // without a token the caller is anon
		}
		f, err := hello(x, token)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if strings.Contains(f, "s3cret") || strings.Contains(f, `"welcome"`) {
			return fmt.Errorf("a hello with a token with %s: %s", name, f)
		}
	}
	for name, lines := range map[string][]string{"two headers": {"Authorization", "Bearer " + good, "Authorization", "Bearer " + two.token("x")}, "another scheme": {"Authorization", "Basic Z29vZDpnb29k"},
		"two tokens": {"Authorization", "Bearer " + good + ", Bearer " + good}, "no scheme": {"Authorization", good}} {
		status, body, err := x.call("GET", "/v1/views/notes", "", lines...)
		if err != nil {
			return err
		}
		if status != http.StatusUnauthorized && status != http.StatusBadRequest && status != http.StatusTooManyRequests || strings.Contains(body, "s3cret") {
			return fmt.Errorf("%s: %d %s", name, status, body)
		}
	}
	return nil
}

// hello connects with a token in the first frame and returns the first answer.
func hello(x *victim, token string) (string, error) {
	c, err := x.live(nil)
	if err != nil {
		return tooOften(err)
	}
	defer c.Close()
	b, err := json.Marshal(token)
	if err != nil {
		return "", err
	}
	if err := say(c, `{"type":"hello","token":%s,"subscribe":[{"id":"1","view":"notes"}]}`, b); err != nil {
		return "", err
	}
	return frames(c, "welcome", "error", "goodbye")
}

// tooOften passes an error over that says that the attacker is cut off for a time.
func tooOften(err error) (string, error) {
	var status ws.StatusError
	if errors.As(err, &status) && (status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable) {
		return "", nil
	}
	return "", err
}

// dots shows tokens that are nothing but separators: a million in a frame, as many as fit in a header.
func dots(x *victim, one *signer) error {
	for _, n := range []int{3, 1000, 8_000, 15_000} {
		if err := x.answers("GET /v1/views/notes HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer "+strings.Repeat(".", n)+"\r\n\r\n", "401", "431"); err != nil {
			return err
		}
		if err := x.answers("GET /v1/views/notes HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer "+one.token("x")+strings.Repeat(".", n)+"\r\n\r\n", "401", "431"); err != nil {
			return err
		}
	}
	f, err := hello(x, strings.Repeat(".", 1_000_000))
	if err == nil && strings.Contains(f, "welcome") {
		err = fmt.Errorf("a million dots: %s", f)
	}
	return err
}

// unknownKeys shows tokens whose keys nobody knows: the issuer is asked once in ten seconds at most.
func unknownKeys(x *victim, s *signer, fetched *atomic.Int64) error {
	before := fetched.Load()
	for range 10 {
		id := rand.Text()
		status, body, err := x.call("GET", "/v1/views/notes", "", "Authorization", "Bearer "+s.sign(s.header().with("kid", id), s.claims("x")))
		if err != nil {
			return err
		}
		if status != http.StatusUnauthorized && status != http.StatusTooManyRequests || strings.Contains(body, id) {
			return fmt.Errorf("an unknown key: %d %s", status, body)
		}
	}
	if n := fetched.Load() - before; n > 2 {
		return fmt.Errorf("the issuer was asked %d times for 10 tokens", n)
	}
	return nil
}

// rowsOfOthers asks for a row that is somebody else's in every way: it is as if it was not there.
func rowsOfOthers(x *victim, token string) error {
	bearer := []string{"Authorization", "Bearer " + token}
	for _, q := range []struct{ method, path, body, want string }{
		{"GET", "/v1/views/notes", "", "[]"},
		{"GET", "/v1/views/notes?id=eq.1", "", "[]"},
		{"GET", "/v1/views/notes?owner=eq.good", "", "[]"},
		{"GET", "/v1/views/notes?or=(owner.eq.good,id.gt.0)", "", "[]"},
		{"GET", "/v1/views/notes?owner=eq.attacker&or=(id.eq.1)", "", "[]"},
		{"GET", "/v1/views/notes?not.and=(owner.eq.attacker)", "", "[]"},
		{"GET", "/v1/views/notes?secret=like.s*", "", "[]"},
		{"GET", "/v1/views/notes?order=secret.desc&limit=1", "", "[]"},
		{"PATCH", "/v1/tables/notes?id=eq.1", `{"secret":"mine"}`, `"accepted":0`},
		{"DELETE", "/v1/tables/notes?id=eq.1", "", `"accepted":0`},
		{"DELETE", "/v1/tables/notes?or=(id.eq.1,owner.eq.good)", "", `"accepted":0`},
	} {
		status, body, err := x.call(q.method, q.path, q.body, bearer...)
		if err != nil {
			return err
		}
		if status != http.StatusTooManyRequests && (status != http.StatusOK || !strings.Contains(body, q.want)) || strings.Contains(body, "s3cret") {
			return fmt.Errorf("%s %s: %d %s", q.method, q.path, status, body)
		}
	}
	for _, body := range []string{`{"id":2,"owner":"good","secret":"x"}`, `[{"id":1,"owner":"good","secret":"x"}]`} {
		status, text, err := x.call("POST", "/v1/tables/notes", body, bearer...)
		if err != nil {
			return err
		}
		if status == http.StatusOK || strings.Contains(text, "s3cret") {
			return fmt.Errorf("a row in somebody else's name: %d %s", status, text)
		}
	}
	text, err := x.good.once("GET", "/v1/views/notes", "")
	if err == nil && (!strings.Contains(text, `"secret":"s3cret"`) || strings.Contains(text, `"id":2`)) {
		err = fmt.Errorf("the notes of the good client are %s", text)
	}
	return err
}
