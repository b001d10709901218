package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"laaster/internal/kit/testkit"
	"laaster/internal/wire"
)

// TestDiskFull fills the disk under the log. The write that meets it is refused with the reason, nothing acknowledged is
// lost, reads go on, and after a restart with room everything acknowledged is there once.
func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		testkit.Missing(t, "mounting a small file system needs root")
	}
	data := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", data).CombinedOutput(); err != nil {
		testkit.Missing(t, fmt.Sprintf("a small file system cannot be mounted here: %s", out))
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", data).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	s := testkit.StartServer(t, appFolder(t, ledgerSQL), filepath.Join(data, "laaster"))
	acked := 0
	var refused *wire.Problem
	for i := 0; i < 5000 && refused == nil; i++ {
		rows := make([]map[string]any, 100)
		for k := range rows {
			rows[k] = map[string]any{"id": fmt.Sprintf("00000000-0000-4000-8000-%06d%06d", i, k), "worker": 1, "amount": 1}
		}
		body, err := json.Marshal(rows)
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.Post(s.URL+"/v1/tables/events", "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		answer, err := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if r.StatusCode == http.StatusOK {
			acked += 100
			continue
		}
		refused = &wire.Problem{}
		if err := json.Unmarshal(answer, refused); err != nil {
			t.Fatalf("%d %s", r.StatusCode, answer)
		}
	}
	if refused == nil {
		t.Fatal("the disk never filled")
	}
	if refused.Code != wire.Busy || !strings.Contains(refused.Detail, "disk") || refused.Hint == "" {
		t.Errorf("refused with %+v, want busy, the disk, and a hint", refused)
	}
	if n := whole(t, s.URL); n != acked {
		t.Errorf("the view counts %d after the disk filled, %d were acknowledged", n, acked)
	}
	for late := time.After(10 * time.Second); ; { // the writer is told before the state is
		h := get1[struct {
			Degraded []struct{ What, Reason string }
		}](t, s.Admin+"/readyz")
		if len(h.Degraded) > 0 && strings.Contains(h.Degraded[0].Reason, "disk") {
			break
		}
		select {
		case <-time.After(time.Millisecond):
			continue
		case <-late:
			t.Fatalf("/readyz names nothing that is degraded: %+v", h)
		}
	}
	s.Kill()
	if out, err := exec.Command("mount", "-o", "remount,size=200m", data).CombinedOutput(); err != nil {
		t.Fatalf("remount: %v %s", err, out)
	}
	s.Restart()
	n := whole(t, s.URL)
	if n != acked && n != acked+100 { // the refused request may have reached the disk: it was not acknowledged, and its ids say so
		t.Errorf("after the restart the view counts %d, %d were acknowledged", n, acked)
	}
	rows := get[event](t, s.URL+"/v1/views/events")
	seen := map[string]bool{}
	for _, e := range rows {
		seen[e.ID] = true
	}
	if len(seen) != len(rows) || len(rows) != n {
		t.Errorf("%d rows, %d different ones, the view counts %d", len(rows), len(seen), n)
	}
}

func whole(t *testing.T, url string) int {
	t.Helper()
	rows := get[struct{ N int }](t, url+"/v1/views/whole")
	if len(rows) != 1 {
		t.Fatalf("whole: %v", rows)
	}
	return rows[0].N
}
