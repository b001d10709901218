package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"

	"laaster/internal/kit/testkit"
)

// disk is an ext4 file system of its own in a file, mounted by a loop device, whose power can be cut: what was not synced is lost, as the file
// system's journal has it. It is unmounted when the test ends.
type disk struct {
	t     *testing.T
	image string
	Dir   string // where it is mounted
	up    bool
}

// newDisk makes a disk of so many MiB. Where the machine does not allow it, the test is skipped with the reason.
func newDisk(t *testing.T, mib int) *disk {
	t.Helper()
	if os.Getuid() != 0 {
		testkit.Missing(t, "mounting a file system needs root")
	}
	d := &disk{t: t, image: filepath.Join(t.TempDir(), "disk.img"), Dir: filepath.Join(t.TempDir(), "disk")}
	if err := errors.Join(os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, int64(mib)<<20), os.Mkdir(d.Dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", d.image).CombinedOutput(); err != nil {
		testkit.Missing(t, fmt.Sprintf("no ext4 can be made here: %v %s", err, out))
	}
	if err := d.mount(); err != nil {
		testkit.Missing(t, fmt.Sprintf("a loop device cannot be mounted here: %v", err))
	}
	t.Cleanup(func() {
		if d.up {
			if err := d.unmount(); err != nil {
				t.Error(err)
			}
		}
	})
	return d
}

func (d *disk) mount() error {
	out, err := exec.Command("mount", "-o", "loop", d.image, d.Dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mount: %w %s", err, out)
	}
	d.up = true
	return nil
}

func (d *disk) unmount() error {
	out, err := exec.Command("umount", d.Dir).CombinedOutput()
	if err != nil {
		_ = exec.Command("umount", "-l", d.Dir).Run()
		return fmt.Errorf("umount: %w %s", err, out)
	}
	d.up = false
	return nil
}

// The ioctl that stops an ext4 at once (EXT4_IOC_SHUTDOWN), without writing its journal (EXT4_GOING_FLAGS_NOLOGFLUSH).
const (
	ioctlShutdown = 0x8004587d
	noLogFlush    = 2
)

// cut takes the power away: from now on nothing reaches the disk, and everything fails with an I/O error.
func (d *disk) cut() error {
	f, err := os.Open(d.Dir)
	if err != nil {
		return err
	}
	defer f.Close()
	how := uint32(noLogFlush)
	if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), ioctlShutdown, uintptr(unsafe.Pointer(&how))); e != 0 {
		return fmt.Errorf("shutdown ioctl: %w", e)
	}
	return nil
}

// back brings the power back after a cut. Nobody may have a file of the disk open.
func (d *disk) back() error {
	if err := d.unmount(); err != nil {
		return err
	}
	return d.mount()
}

// data returns the data folder on the disk.
func (d *disk) data() string { return filepath.Join(d.Dir, "data") }

// TestDiskLoses: the disk of these tests loses what was not synced, and keeps what was.
func TestDiskLoses(t *testing.T) {
	d := newDisk(t, 16)
	write := func(name string, sync bool) {
		f, err := os.Create(filepath.Join(d.Dir, name))
		must(t, err)
		_, err = f.WriteString(name)
		must(t, err)
		if sync {
			dir, err := os.Open(d.Dir)
			must(t, err)
			must(t, errors.Join(f.Sync(), dir.Sync(), dir.Close()))
		}
		must(t, f.Close())
	}
	write("kept", true)
	write("lost", false)
	must(t, d.cut())
	must(t, d.back())
	if b, err := os.ReadFile(filepath.Join(d.Dir, "kept")); err != nil || string(b) != "kept" {
		t.Errorf("what was synced: %q %v", b, err)
	}
	if b, err := os.ReadFile(filepath.Join(d.Dir, "lost")); err == nil && string(b) == "lost" {
		t.Error("what was not synced is there: a cut is no cut here")
	}
}
