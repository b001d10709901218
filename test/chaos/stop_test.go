package chaos

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"laaster/internal/kit/testkit"
)

// TestStopWhileStarting sends SIGTERM and Ctrl-C while the log is being read: the process ends at once with exit code 0, says
// nothing on standard output, and the log is as it was.
func TestStopWhileStarting(t *testing.T) {
	dir, data := appFolder(t, doorSQL), t.TempDir()
	s := testkit.StartServer(t, dir, data)
	row := `{"contestant":"A","extra":"` + strings.Repeat("x", 1000) + `"}`
	body := "[" + strings.Repeat(row+",", 999) + row + "]"
	const writes = 20
	for range writes {
		r, err := http.Post(s.URL+"/v1/tables/votes", "application/json", strings.NewReader(body))
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatal(r, err)
		}
		_ = r.Body.Close()
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	for i, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGTERM, syscall.SIGINT} {
		cmd := exec.Command(testkit.Binary(t), "run", dir, "--data", data, "--listen", "127.0.0.1:0", "--admin", strings.TrimPrefix(s.Admin, "http://"))
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		starting(t, s.Admin) // from here on signals are heeded
		select {             // some moment of the start, or shortly after it
		case <-time.After(time.Duration(40*i) * time.Millisecond):
		case <-t.Context().Done():
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v after %d ms: %v\n%s", sig, 40*i, err, errs.String())
		}
		if took := time.Since(began); took > 8*time.Second {
			t.Errorf("%v: the end took %v", sig, took)
		}
		if strings.ContainsAny(errs.String()+out.String(), "\r") {
			t.Errorf("progress in a pipe: %q", errs.String())
		}
	}
	s.Restart()
	if rows := get[struct{ Votes int }](t, s.URL+"/v1/views/tally"); len(rows) != 1 || rows[0].Votes != writes*1000 {
		t.Errorf("%+v", rows)
	}
}

// starting returns once the admin listener answers.
func starting(t *testing.T, admin string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		if r, err := http.Get(admin + "/readyz"); err == nil {
			_ = r.Body.Close()
			return
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
	t.Fatal("the server does not start")
}

// TestStopWithSlowClients: SIGTERM while bodies trickle in and live clients are connected ends with exit code 0 in time, and what was
// acknowledged is there.
func TestStopWithSlowClients(t *testing.T) {
	dir := appFolder(t, doorSQL)
	write(t, dir, "laaster.yaml", "drain: 1s\n")
	s := testkit.StartServer(t, dir, t.TempDir())
	addr := strings.TrimPrefix(s.URL, "http://")
	for range 20 {
		if _, err := fmt.Fprintf(dial(t, addr), "POST /v1/tables/votes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n["); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(openSocket(t, addr), text(hello)); err != nil {
			t.Fatal(err)
		}
		dial(t, addr) // says nothing
	}
	stillServes(t, s)
	began := time.Now()
	if err := s.Stop(); err != nil {
		t.Errorf("the end: %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the end took %v", took)
	}
	s.Restart()
	if rows := get[struct{ Votes int }](t, s.URL+"/v1/views/tally"); len(rows) != 1 || rows[0].Votes != 1 {
		t.Errorf("%+v", rows)
	}
}
