package testkit

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// NodeModules brings the node_modules of dir to the state of its package-lock.json; when it is there already, nothing is fetched. Tests of several packages may
// ask for the same folder at one time: one installs, the others wait. Without npm, or when it fails, the test is skipped as Missing does.
func NodeModules(t testing.TB, dir string) {
	t.Helper()
	lock, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	turn, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer turn.Close() // lets go of the lock
	if err := syscall.Flock(int(turn.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	mark := filepath.Join(dir, "node_modules", ".installed-lock")
	if have, err := os.ReadFile(mark); err == nil && bytes.Equal(have, lock) {
		return
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		Missing(t, "npm is not installed")
	}
	cmd := exec.Command(npm, "ci", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		Missing(t, "npm ci failed: "+lines[len(lines)-1])
	}
	if err := os.WriteFile(mark, lock, 0o600); err != nil {
		t.Fatal(err)
	}
}
