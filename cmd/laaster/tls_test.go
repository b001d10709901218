package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"laaster/internal/kit/testkit"
	"laaster/internal/load"
)

// Commands reach a server with TLS by what the environment names, and say what is missing.
func TestCommandsOverTLS(t *testing.T) {
	dir, files := t.TempDir(), t.TempDir()
	a, clients := testkit.NewAuthority(t), testkit.NewAuthority(t)
	a.Write(dir, "server", time.Hour, "127.0.0.1")
	clients.Write(files, "me", time.Hour, "spiffe://example.org/operator")
	for name, text := range map[string]string{filepath.Join(files, "ca.pem"): string(a.PEM), filepath.Join(dir, "clients.pem"): string(clients.PEM),
		filepath.Join(dir, "app.sql"):      "CREATE TABLE t (id int PRIMARY KEY);\nGRANT ALL ON t TO anon;\n" + load.AppSQL("fanout"),
		filepath.Join(dir, "laaster.yaml"): "backbone: memory\ntls: {cert: server.pem, key: server.key, client_ca: clients.pem}\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := testkit.StartServer(t, dir, t.TempDir())
	try := func(env map[string]string, args ...string) (int, string) {
		for _, name := range []string{caVariable, certVariable, keyVariable} {
			t.Setenv(name, env[name])
		}
		var out, errs bytes.Buffer
		code := Main(args, &out, &errs)
		return code, out.String() + errs.String()
	}
	ca, cert, key := filepath.Join(files, "ca.pem"), filepath.Join(files, "me.pem"), filepath.Join(files, "me.key")
	whole := map[string]string{caVariable: ca, certVariable: cert, keyVariable: key}
	for _, c := range []struct {
		env  map[string]string
		args []string
		code int
		want string
	}{
		{whole, []string{"query", s.URL, "t", "--json"}, 0, "[]"},
		{whole, []string{"check", dir, "--server", s.Admin}, 0, ""},
		{map[string]string{caVariable: ca}, []string{"query", s.URL, "t", "--json"}, 0, "[]"},
		{nil, []string{"query", s.URL, "t"}, 1, "certificate signed by unknown authority"},
		{map[string]string{caVariable: ca}, []string{"check", dir, "--server", s.Admin}, 1, "certificate required"},
		{map[string]string{caVariable: key}, []string{"query", s.URL, "t"}, 1, "has no certificate"},
		{map[string]string{certVariable: cert}, []string{"query", s.URL, "t"}, 1, "LAASTER_KEY"},
		{map[string]string{caVariable: ca}, []string{"bench", "fanout", "--url", s.URL, "--clients", "2", "--time", "300ms", "--warm", "100ms", "--json"}, 0, `"profile"`},
		{nil, []string{"bench", "fanout", "--url", s.URL, "--clients", "2", "--time", "300ms", "--warm", "100ms"}, 1, "certificate signed by unknown authority"},
		{whole, []string{"tail", "t", "--url", s.URL, "--json", "--filter", "nope=eq.1"}, 1, "nope"},
	} {
		if code, text := try(c.env, c.args...); code != c.code || !strings.Contains(text, c.want) {
			t.Errorf("%v with %v: %d %s", c.args, c.env, code, text)
		}
	}
}
