package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"laaster/app"
	"laaster/internal/auth"
	"laaster/internal/kit/run"
	"laaster/internal/node"
)

type tokenCommand struct {
	Keys   tokenKeysCommand   `cmd:"" help:"Make a key that signs tokens, and publish its public half in a key set (JWKS)."`
	Make   tokenMakeCommand   `cmd:"" help:"Print a token that a key signs: for development, tests and programs."`
	Check  tokenCheckCommand  `cmd:"" help:"Say whom a token on standard input speaks for, or why it is refused."`
	Revoke tokenRevokeCommand `cmd:"" help:"Have a running server take tokens back that have not expired."`
}

// The files of `laaster token keys`, in the app folder.
const (
	tokenKeyFile = "token-key.pem"
	tokenSetFile = "jwks.json"
)

type tokenKeysCommand struct {
	App string `arg:"" help:"The app folder."`
	Alg string `help:"EdDSA, ES256 or RS256; HS256 makes a secret, which only laaster dev takes." enum:"EdDSA,ES256,RS256,HS256" default:"EdDSA"`
	Key string `help:"File of the private key, which must not be there yet. Default: token-key.pem in the app folder." placeholder:"FILE"`
	Set string `name:"jwks" help:"File of the key set; the new key is put before those that it has. Default: jwks.json in the app folder." placeholder:"FILE"`
}

// Help implements kong.HelpProvider.
func (c *tokenKeysCommand) Help() string {
	return "The private key stays with whoever signs tokens (mode 0600, never in the repository); a server needs the key set alone. To rotate, make a second\n" +
		"key with another --key and the same --jwks: running servers read the set within ten seconds. Take the old key out of the set when its last\n" +
		"token has expired.\n\n" +
		"Examples:\n  laaster token keys my-app\n  laaster token keys my-app --key /etc/clinic/next.pem"
}

// Run implements the command.
func (c *tokenKeysCommand) Run(s *streams) error {
	key, set := orIn(c.Key, c.App, tokenKeyFile), orIn(c.Set, c.App, tokenSetFile)
	if _, err := os.Stat(c.App); err != nil {
		return err
	}
	signer, err := auth.NewSigner(c.Alg)
	if err != nil {
		return err
	}
	private, err := signer.Private()
	if err != nil {
		return err
	}
	public, err := withKey(set, signer)
	if err != nil {
		return err
	}
	if err := writeNew(key, private); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "private key  %s\n", key)
	from := "secret: " + filepath.Base(key)
	if public != nil {
		if err := os.WriteFile(set, public, 0o644); err != nil {
			return err
		}
		from = "jwks: " + filepath.Base(set)
		fmt.Fprintf(s.out, "key set      %s (kid %s)\n", set, signer.KeyID())
	}
	settings, err := readSettings(c.App)
	if err == nil && len(settings.Auth.Issuers) == 0 {
		fmt.Fprintf(s.out, "\nlaaster.yaml has no issuer yet; this one believes the key:\n\nauth:\n  issuers:\n    - issuer: local\n      audience: %s\n      %s\n", audienceOf(c.App), from)
	}
	return nil
}

// withKey returns the key set in a file with a further key; nil for a secret, which is in none.
func withKey(file string, signer *auth.Signer) ([]byte, error) {
	if signer.PublicKey() == nil {
		return nil, nil
	}
	before, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	set, err := auth.KeySet(before, signer)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return set, nil
}

// writeNew writes a file that only its owner may read, and never over another one.
func writeNew(file string, text []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already\n  hint: a key is never written over: name another file with --key", file)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

func orIn(name, dir, standard string) string {
	if name == "" {
		return filepath.Join(dir, standard)
	}
	return name
}

// audienceOf proposes an audience: the name of the app folder.
func audienceOf(dir string) string {
	if path, err := filepath.Abs(dir); err == nil {
		return filepath.Base(path)
	}
	return "app"
}

type tokenMakeCommand struct {
	App      string        `arg:"" help:"The app folder: issuer and audience are those of its laaster.yaml."`
	Subject  string        `required:"" help:"Whom the token speaks for: auth_subject()." placeholder:"WHO"`
	Role     []string      `help:"A role; may be given several times." placeholder:"ROLE"`
	Claim    []string      `help:"A further claim, name=value; the value is JSON, or else a text. May be given several times." placeholder:"NAME=VALUE"`
	Session  string        `help:"The claim sid, by which all tokens of a session can be revoked." placeholder:"ID"`
	Expires  time.Duration `help:"How long it is good." default:"15m"`
	Key      string        `help:"File of the private key. Default: token-key.pem in the app folder." placeholder:"FILE"`
	Issuer   string        `help:"The claim iss. Default: the issuer of laaster.yaml, when there is one only." placeholder:"NAME"`
	Audience string        `help:"The claim aud. Default: the issuer's of laaster.yaml." placeholder:"NAME"`
}

// Help implements kong.HelpProvider.
func (c *tokenMakeCommand) Help() string {
	return "Prints the token alone, so that a shell can take it up. Whoever has it is its subject until it expires or is revoked.\n\n" +
		"Examples:\n  laaster token make my-app --subject u1 --role nurse\n" +
		"  curl -H \"Authorization: Bearer $(laaster token make my-app --subject u1 --role nurse)\" http://127.0.0.1:8080/v1/views/board\n" +
		"  laaster token make my-app --subject robot --claim org=12 --claim 'wards=[\"a\",\"b\"]' --expires 1m"
}

// Run implements the command.
func (c *tokenMakeCommand) Run(s *streams) error {
	settings, err := readSettings(c.App)
	if err != nil {
		return err
	}
	issuer, err := issuerOf(&settings, c.Issuer, c.Audience)
	if err != nil {
		return err
	}
	signer, err := readSigner(orIn(c.Key, c.App, tokenKeyFile))
	if err != nil {
		return err
	}
	claims, err := c.claims(issuer, run.System{}.Now())
	if err != nil {
		return err
	}
	token, err := signer.Sign(claims)
	if err != nil {
		return err
	}
	if c.Expires > time.Duration(settings.Auth.MaxLifetime) {
		fmt.Fprintf(s.err, "laaster: the token lives longer than auth.max_lifetime (%s): the server refuses it\n", time.Duration(settings.Auth.MaxLifetime))
	}
	_, err = fmt.Fprintln(s.out, token)
	return err
}

// claims returns what the token says.
func (c *tokenMakeCommand) claims(issuer *app.Issuer, now time.Time) (map[string]any, error) {
	claims := map[string]any{}
	for _, pair := range c.Claim {
		name, text, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--claim %q is not name=value", pair)
		}
		var value any
		if json.Unmarshal([]byte(text), &value) == nil {
			claims[name] = json.RawMessage(text) // digits as they are
		} else {
			claims[name] = text
		}
	}
	claims["iss"], claims["aud"], claims["sub"] = issuer.Issuer, issuer.Audience, strings.TrimPrefix(c.Subject, issuer.SubjectPrefix)
	claims["iat"], claims["exp"], claims["jti"] = now.Unix(), now.Add(c.Expires).Unix(), rand.Text()
	if c.Session != "" {
		claims["sid"] = c.Session
	}
	if len(c.Role) > 0 {
		at := claims
		names := []string{orText(issuer.RolesClaim, "roles")}
		if !strings.Contains(names[0], "/") { // a name that is an address has dots of its own
			names = strings.Split(names[0], ".")
		}
		for _, name := range names[:len(names)-1] {
			inner := map[string]any{}
			at[name], at = inner, inner
		}
		at[names[len(names)-1]] = c.Role
	}
	return claims, nil
}

func orText(text, standard string) string {
	if text == "" {
		return standard
	}
	return text
}

// issuerOf returns the issuer of settings that is meant.
func issuerOf(s *app.Settings, name, audience string) (*app.Issuer, error) {
	var found *app.Issuer
	for i := range s.Auth.Issuers {
		x := &s.Auth.Issuers[i]
		if name == x.Issuer || name == "" && len(s.Auth.Issuers) == 1 {
			own := *x
			found = &own
		}
	}
	switch {
	case found == nil && name != "" && audience != "":
		found = &app.Issuer{Issuer: name}
	case found == nil && len(s.Auth.Issuers) == 0:
		return nil, errors.New("laaster.yaml names no issuer under auth\n  hint: `laaster token keys` says what to write there; or give --issuer and --audience")
	case found == nil:
		return nil, errors.New("laaster.yaml names several issuers, or others than --issuer does\n  hint: give --issuer, and --audience for one that is not there")
	}
	if audience != "" {
		found.Audience = audience
	}
	return found, nil
}

// readSigner reads a private key, or a secret.
func readSigner(file string) (*auth.Signer, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w\n  hint: `laaster token keys` makes one; --key names another file", err)
	}
	if err != nil {
		return nil, err
	}
	var signer *auth.Signer
	if bytes.Contains(text, []byte("-----BEGIN")) {
		signer, err = auth.ParseSigner(text)
	} else {
		signer, err = auth.SecretSigner(bytes.TrimSpace(text))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return signer, nil
}

type tokenCheckCommand struct {
	App  string `arg:"" help:"The app folder."`
	JSON bool   `name:"json" help:"Print JSON."`
}

// Help implements kong.HelpProvider.
func (c *tokenCheckCommand) Help() string {
	return "Reads a token from standard input, never from the command line, where other users of the machine could see it, and checks it as the server\n" +
		"would. What was revoked is known to the server alone.\n\n" +
		"Example:\n  pbpaste | laaster token check my-app"
}

// Run implements the command.
func (c *tokenCheckCommand) Run(s *streams) error {
	settings, err := readSettings(c.App)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(os.Stdin, 64<<10))
	if err != nil {
		return err
	}
	checked, err := node.CheckToken(context.Background(), c.App, &settings, strings.TrimSpace(string(text)))
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(s.out).Encode(checked)
	}
	fmt.Fprintf(s.out, "subject  %s\nroles    %s\nissuer   %s\nissued   %s\nexpires  %s\n", checked.Subject, strings.Join(checked.Roles, ", "), checked.Issuer,
		checked.Issued.Format(time.RFC3339), checked.Expires.Format(time.RFC3339))
	return nil
}

type tokenRevokeCommand struct {
	Server  string `help:"Admin listener of the running server." default:"127.0.0.1:8081" placeholder:"ADDR"`
	Subject string `help:"Tokens of this subject that were issued until now." placeholder:"WHO"`
	ID      string `name:"id" help:"The token with this jti." placeholder:"ID"`
	Session string `help:"Tokens of this session (sid), also later ones." placeholder:"ID"`
	Before  string `help:"Tokens that were issued at or before a time: RFC 3339, seconds since 1970, or now. Alone it means all of them." placeholder:"TIME"`
	Issuer  string `help:"Only tokens of this issuer." placeholder:"NAME"`
	JSON    bool   `name:"json" help:"Print the answer as JSON."`
}

// Help implements kong.HelpProvider.
func (c *tokenRevokeCommand) Help() string {
	return "The revocation is an act of the audit trail and is in the log: it holds after a restart, and ends when every token that it concerns would have\n" +
		"expired anyway. Open connections end within two seconds. What is given has to fit altogether.\n\n" +
		"Examples:\n  laaster token revoke --subject u1\n  laaster token revoke --session 7f3a\n  laaster token revoke --issuer https://id.example.org/ --before now"
}

// Run implements the command.
func (c *tokenRevokeCommand) Run(s *streams) error {
	r := auth.Revocation{Issuer: c.Issuer, Subject: c.Subject, ID: c.ID, Session: c.Session}
	now := run.System{}.Now()
	var err error
	if r.Before, err = parseBefore(c.Before, now); err != nil {
		return err
	}
	if _, err := auth.NewRevocation(r, now); err != nil {
		return fmt.Errorf("%w\n  hint: give --subject, --id, --session or --before", err)
	}
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	srv, err := newServer(c.Server)
	if err != nil {
		return err
	}
	answer, err := srv.send(context.Background(), http.MethodPost, "/admin/v1/revoke", "application/json", body)
	if err != nil {
		return err
	}
	defer answer.Close()
	if c.JSON {
		_, err := io.Copy(s.out, answer)
		return err
	}
	var revoked node.Revoked
	if err := json.NewDecoder(answer).Decode(&revoked); err != nil {
		return fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	_, err = fmt.Fprintf(s.out, "revoked: %s\n", revoked.Revoked)
	return err
}

func parseBefore(text string, now time.Time) (int64, error) {
	switch text {
	case "":
		return 0, nil
	case "now":
		return now.Unix(), nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 {
		return n, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, fmt.Errorf("--before %q is not a time\n  hint: 2026-01-31T12:00:00Z, seconds since 1970, or now", text)
	}
	return at.Unix(), nil
}

// ownToken returns the token that this command shows to servers. It comes by the environment, since other users see command lines.
func ownToken() string { return os.Getenv("LAASTER_TOKEN") }
