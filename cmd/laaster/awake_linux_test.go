package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"laaster/internal/kit/testkit"
)

// TestStayAwake: a server runs with the runtime's setting beside the user's own, in the process that was started.
func TestStayAwake(t *testing.T) {
	for was, want := range map[string]string{"": awakeSetting, "gctrace=0": "gctrace=0," + awakeSetting, "schedtrace=0": "schedtrace=0"} {
		t.Setenv("GODEBUG", was)
		dir := t.TempDir()
		if err := os.WriteFile(dir+"/app.sql", []byte("CREATE TABLE t (id integer PRIMARY KEY);\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		s := testkit.StartServer(t, dir, t.TempDir())
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", s.Pid()))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, v := range strings.Split(string(env), "\x00") {
			if v, ok := strings.CutPrefix(v, "GODEBUG="); ok {
				got = append(got, v)
			}
		}
		if len(got) != 1 || got[0] != want {
			t.Errorf("GODEBUG=%q: the server has %q, want %q", was, got, want)
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}
}
