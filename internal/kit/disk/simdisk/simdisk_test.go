package simdisk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"laaster/internal/kit/disk"
)

// write makes a file with what the steps ask for.
func write(t *testing.T, fsys disk.FS, name, data string) disk.File {
	t.Helper()
	f, err := fsys.Create(name)
	if err == nil {
		_, err = f.Write([]byte(data))
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func read(t *testing.T, fsys disk.FS, name string) string {
	t.Helper()
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "none"
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n != len(b) {
		t.Fatal(n, err)
	}
	return string(b)
}

// TestSameAsTheMachine: without faults the simulated disk and the real one answer alike.
func TestSameAsTheMachine(t *testing.T) {
	for name, fsys := range map[string]disk.FS{"simulated": New(1), "real": disk.OS{}} {
		dir := filepath.Join(t.TempDir(), "a", "b")
		if _, err := fsys.List(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: no folder yet: %v", name, err)
		}
		for range 2 {
			if err := fsys.MkdirAll(dir); err != nil {
				t.Fatal(name, err)
			}
		}
		x, y := filepath.Join(dir, "x"), filepath.Join(dir, "y")
		f := write(t, fsys, x, "one")
		if _, err := fsys.Create(x); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: created twice: %v", name, err)
		}
		if _, err := f.Write([]byte(" two")); err != nil {
			t.Error(name, err)
		}
		if _, err := f.WriteAt([]byte("O"), 0); err != nil {
			t.Error(name, err)
		}
		if err := errors.Join(f.SyncData(), f.Sync(), fsys.SyncFolder(dir), fsys.Rename(x, y)); err != nil {
			t.Error(name, err)
		}
		if got := read(t, fsys, y); got != "One two" {
			t.Errorf("%s: %q", name, got)
		}
		if err := fsys.Remove(y); err != nil {
			t.Error(name, err)
		}
		b := make([]byte, 3)
		if _, err := f.ReadAt(b, 4); err != nil || string(b) != "two" {
			t.Errorf("%s: a removed file that is open: %q, %v", name, b, err)
		}
		for _, err := range []error{fsys.Remove(y), fsys.Rename(y, x)} {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: of a missing file: %v", name, err)
			}
		}
		if err := f.Close(); err != nil {
			t.Error(name, err)
		}
		if _, err := f.ReadAt(b, 0); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: closed: %v", name, err)
		}
		e, err := fsys.Edit(filepath.Join(dir, "z"))
		if err != nil {
			t.Fatal(name, err)
		}
		e.Forget(0, 0)
		if err := e.Close(); err != nil {
			t.Error(name, err)
		}
		if names, err := fsys.List(dir); err != nil || !slices.Equal(names, []string{"z"}) {
			t.Errorf("%s: %v, %v", name, names, err)
		}
	}
}

// TestPowerCut: what is synced is kept whatever the seed; of the rest every outcome is met.
func TestPowerCut(t *testing.T) {
	old, new, torn, names := 0, 0, 0, map[string]int{}
	for seed := range uint64(400) {
		d := New(seed)
		if err := d.MkdirAll("/d"); err != nil {
			t.Fatal(err)
		}
		f := write(t, d, "/d/kept", "old")
		if err := errors.Join(f.Sync(), d.SyncFolder("/d")); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(make([]byte, 3*sector), 3); err != nil {
			t.Fatal(err)
		}
		write(t, d, "/d/new.tmp", "never synced")
		if err := d.Rename("/d/new.tmp", "/d/new"); err != nil {
			t.Fatal(err)
		}
		d.Cut()
		if err := f.Sync(); !errors.Is(err, ErrPower) {
			t.Fatalf("sync without power: %v", err)
		}
		d.Restart()
		if _, err := f.Size(); !errors.Is(err, ErrPower) {
			t.Fatalf("a file of before the cut: %v", err)
		}
		got := read(t, d, "/d/kept")
		if got[:3] != "old" {
			t.Fatalf("seed %d: synced bytes are lost: %q", seed, got)
		}
		switch len(got) {
		case 3:
			old++
		case 3 + 3*sector:
			new++
		default:
			torn++
		}
		list, err := d.List("/d")
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range list {
			names[n]++
		}
	}
	if old == 0 || new == 0 || torn == 0 || names["kept"] != 400 || names["new"] == 0 || names["new"] == 400 || names["new.tmp"] == 0 {
		t.Errorf("old %d, new %d, torn %d, names %v", old, new, torn, names)
	}
}

func TestFaults(t *testing.T) {
	d := New(3)
	if err := d.MkdirAll("/d"); err != nil {
		t.Fatal(err)
	}
	d.Limit(10)
	f := write(t, d, "/d/x", "12345678")
	if n, err := f.Write([]byte("9abc")); n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a full disk took %d: %v", n, err)
	}
	if _, err := f.WriteAt([]byte("zz"), 0); err != nil {
		t.Errorf("in place of what is there: %v", err)
	}
	d.Limit(0)
	eio := syscall.EIO
	d.Hook(func(op Op) error {
		if op.Kind == "sync" {
			return eio
		}
		return nil
	})
	if err := f.Sync(); !errors.Is(err, eio) {
		t.Fatal(err)
	}
	d.Hook(nil)
	if err := errors.Join(f.Sync(), d.SyncFolder("/d")); err != nil { // says that all is well, and it is not
		t.Fatal(err)
	}
	if got := read(t, d, "/d/x"); got != "zz3456789a" {
		t.Errorf("after a failed sync %q is read", got)
	}
	lost := 0
	for seed := range uint64(50) {
		d := New(seed)
		_ = d.MkdirAll("/d")
		f := write(t, d, "/d/x", "data")
		d.Hook(func(op Op) error {
			if op.Kind == "sync" {
				return eio
			}
			return nil
		})
		_ = f.Sync()
		d.Hook(nil)
		if err := errors.Join(f.Sync(), d.SyncFolder("/d")); err != nil {
			t.Fatal(err)
		}
		d.Cut()
		d.Restart()
		if read(t, d, "/d/x") != "data" {
			lost++
		}
	}
	if lost == 0 || lost == 50 {
		t.Errorf("after a failed sync and a good one %d of 50 are lost", lost)
	}
	d.CutAt(d.Ops() + 1)
	if err := d.Remove("/d/x"); !errors.Is(err, ErrPower) {
		t.Errorf("the cut: %v", err)
	}
	d.Restart()
	if err := d.Damage("/d/x", func(b []byte) []byte { return append(b, '!') }); err == nil {
		if got := read(t, d, "/d/x"); got[len(got)-1] != '!' {
			t.Errorf("damaged: %q", got)
		}
	}
	if d.Used() > 20 {
		t.Error(d.Used())
	}
}
