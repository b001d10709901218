package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"laaster/internal/auth"
	"laaster/internal/kit/run"
)

// said runs the program and returns what it printed.
func said(t *testing.T, want int, args ...string) (out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	if code := Main(args, &o, &e); code != want {
		t.Fatalf("%v: exit code %d\n%s%s", args, code, o.String(), e.String())
	}
	return o.String(), e.String()
}

// TestTokenCommands makes keys as the help says, puts what it prints into the settings, and checks the tokens of each algorithm.
func TestTokenCommands(t *testing.T) {
	for _, alg := range []string{"EdDSA", "ES256", "RS256", "HS256"} {
		dir := t.TempDir()
		out, _ := said(t, 0, "token", "keys", dir, "--alg", alg)
		_, settings, ok := strings.Cut(out, "believes the key:\n\n")
		if !ok {
			t.Fatalf("%s: %s", alg, out)
		}
		if err := os.WriteFile(filepath.Join(dir, "laaster.yaml"), []byte(settings), 0o600); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, tokenKeyFile))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%s: %v %v", alg, info, err)
		}
		said(t, 1, "token", "keys", dir, "--alg", alg) // never over another key
		token, _ := said(t, 0, "token", "make", dir, "--subject", "u1", "--role", "nurse", "--role", "guest", "--claim", "org=12", "--claim", "name=Ann", "--session", "s")
		checked := check(t, dir, strings.TrimSpace(token), 0)
		var x struct {
			Subject, Session string
			Roles            []string
			Claims           struct {
				Org  int
				Name string
			}
		}
		if err := json.Unmarshal([]byte(checked), &x); err != nil || x.Subject != "u1" || x.Session != "s" || strings.Join(x.Roles, " ") != "nurse guest" || x.Claims.Org != 12 || x.Claims.Name != "Ann" {
			t.Fatalf("%s: %s %v", alg, checked, err)
		}
		if text := check(t, dir, strings.TrimSpace(token)+"x", 1); !strings.Contains(text, "laaster: the token") {
			t.Fatalf("%s: %s", alg, text)
		}
		_, warned := said(t, 0, "token", "make", dir, "--subject", "u1", "--expires", "1h")
		if !strings.Contains(warned, "auth.max_lifetime") {
			t.Fatalf("%s: %q", alg, warned)
		}
		if alg == "HS256" {
			continue
		}
		// A second key beside the first: both verify.
		said(t, 0, "token", "keys", dir, "--key", filepath.Join(dir, "next.pem"))
		set, err := os.ReadFile(filepath.Join(dir, tokenSetFile))
		if n, bad := auth.ParseKeySet(set); err != nil || bad != nil || n != 2 {
			t.Fatalf("%s: %d keys: %v %v", alg, n, err, bad)
		}
		check(t, dir, strings.TrimSpace(token), 0)
		token, _ = said(t, 0, "token", "make", dir, "--subject", "u2", "--key", filepath.Join(dir, "next.pem"))
		check(t, dir, strings.TrimSpace(token), 0)
	}
}

// check runs laaster token check with a token on standard input.
func check(t *testing.T, dir, token string, want int) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	before := os.Stdin
	os.Stdin = in
	defer func() { os.Stdin = before }()
	out, errs := said(t, want, "token", "check", dir, "--json")
	return out + errs
}

func TestTokenCommandErrors(t *testing.T) {
	dir := t.TempDir()
	for args, want := range map[string]string{
		"token make " + dir + " --subject u":                         "names no issuer",
		"token make " + dir + " --subject u --issuer i --audience a": "`laaster token keys` makes one",
		"token revoke --issuer i":                                    "a subject, a token id, a session",
		"token revoke --before yesterday":                            "is not a time",
		"token revoke --subject u --server 127.0.0.1:1":              "is the server running there?",
		"token keys " + filepath.Join(dir, "none"):                   "no such file",
	} {
		_, errs := said(t, 1, strings.Fields(args)...)
		if !strings.Contains(errs, want) {
			t.Errorf("%s: %s", args, errs)
		}
	}
	said(t, 2, "token", "make", dir)
	said(t, 2, "token")
}

func TestBefore(t *testing.T) {
	now := run.System{}.Now()
	for text, want := range map[string]int64{"": 0, "now": now.Unix(), "17": 17, "1970-01-01T00:01:00Z": 60} {
		if got, err := parseBefore(text, now); err != nil || got != want {
			t.Errorf("%q: %d %v", text, got, err)
		}
	}
}
