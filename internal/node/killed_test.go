//go:build crashpoints

package node

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"laaster/internal/backbone"
	"laaster/internal/kit/run"
)

// The environment of the children: what they do, and to which folders.
const (
	killedDo   = "LAASTER_TEST_KILLED_DO" // repair or restore
	killedData = "LAASTER_TEST_KILLED_DATA"
	killedFile = "LAASTER_TEST_KILLED_FILE"
)

// TestKilledChild is the child of TestKilledSteps.
func TestKilledChild(t *testing.T) {
	switch os.Getenv(killedDo) {
	case "":
		t.Skip("a child of TestKilledSteps")
	case "repair":
		s := checkedSettings(os.Getenv(killedData))
		r, err := OpenRepair(t.Context(), RepairOptions{Settings: s, Rewrite: true, Clock: run.System{}, Logger: quiet()})
		if err == nil && r.Needed() {
			_, err = r.Do(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	case "restore":
		_, err := Restore(t.Context(), RestoreOptions{File: os.Getenv(killedFile), Data: os.Getenv(killedData), Clock: run.System{}, Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// child runs one and reports whether it was killed; with hits it writes there which points it met.
func child(t *testing.T, do, data, file, crash, hits string) (killed bool) {
	t.Helper()
	c := exec.Command(os.Args[0], "-test.run=^TestKilledChild$")
	c.Env = append(os.Environ(), killedDo+"="+do, killedData+"="+data, killedFile+"="+file, "LAASTER_CRASH="+crash, "LAASTER_CRASH_HITS="+hits)
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", do, crash, err, out)
	}
	return false
}

// TestKilledSteps kills a repair and a restore at each of their points: there is either what was, or what was to be, and doing it again gives that.
func TestKilledSteps(t *testing.T) {
	f := newDamaged(t, false)
	broken := f.copy(t)
	block := filepath.Join(broken.Data, "store/jetstream/$G/streams/LAASTER-0/msgs/1.blk")
	raw, err := os.ReadFile(block)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/4] ^= 1
	if err := os.WriteFile(block, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	f.data = broken.Data
	file := filepath.Join(t.TempDir(), "backup")
	sound := newDamaged(t, true)
	l := start(t, sound.app, sound.copy(t))
	if err := os.Rename(fetchBackup(t, l), file); err != nil {
		t.Fatal(err)
	}
	l.end()
	met := 0
	for _, do := range []string{"repair", "restore"} {
		hits := filepath.Join(t.TempDir(), "hits")
		fresh := func() string {
			if do == "repair" {
				return f.copy(t).Data
			}
			return filepath.Join(t.TempDir(), "data")
		}
		child(t, do, fresh(), file, "none:1", hits)
		names, err := os.ReadFile(hits)
		if err != nil {
			t.Fatal(err)
		}
		for _, point := range strings.Fields(string(names)) {
			for _, nth := range []int{1, 2} {
				data := fresh()
				if !child(t, do, data, file, fmt.Sprintf("%s:%d", point, nth), "") {
					continue // it is met once
				}
				met++
				what := fmt.Sprintf("%s killed at %s:%d", do, point, nth)
				if do == "restore" {
					if _, err := os.Stat(data); errors.Is(err, os.ErrNotExist) {
						child(t, do, data, file, "", "")
					}
				} else {
					folder, err := backbone.OpenFolder(data) // finishes what was begun
					if err != nil {
						t.Fatalf("%s: %v", what, err)
					}
					if err := folder.Close(); err != nil {
						t.Fatal(err)
					}
					if l, err := backbone.ReadLineage(data); err != nil {
						t.Fatalf("%s: %v", what, err)
					} else if l == nil {
						child(t, do, data, file, "", "")
					}
				}
				s := f.s
				s.Data = data
				votes := f.b.total[len(f.b.total)-1]
				wantVotes(t, what, f.app, s, votes)
				if t.Failed() {
					t.FailNow()
				}
			}
		}
	}
	t.Logf("%d kills", met)
	if met < 20 {
		t.Errorf("only %d kills", met)
	}
}
