package backbone

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"laaster/internal/change"
	"laaster/internal/kit/disk"
)

// folderVersion is the version of the data folder's layout, in its FORMAT file.
const folderVersion = 1

const formatPrefix = "laaster data folder, format "

// Folder is the data folder of one process:
//
//	FORMAT       the version of this layout, as text
//	LOCK         held by the process that uses the folder
//	store/       the log, in the store's own files
//	highwater-0  the high-water mark of shard 0
type Folder struct {
	path string
	lock *disk.Lock
}

// OpenFolder takes a data folder for this process, creating it (0700) when it is missing. A folder that another process
// holds, that is not empty and not ours, or that has a newer layout (a *change.NewerError) is refused, unchanged.
func OpenFolder(path string) (*Folder, error) {
	if err := disk.Folder(path); err != nil {
		return nil, fmt.Errorf("data folder %s: %w", path, err)
	}
	if err := checkFormat(path); err != nil {
		return nil, fmt.Errorf("data folder %s: %w", path, err)
	}
	lock, err := disk.LockFile(filepath.Join(path, "LOCK"))
	if held := (*disk.LockedError)(nil); errors.As(err, &held) {
		who := "another process"
		if held.PID != 0 {
			who = "process " + strconv.Itoa(held.PID)
		}
		return nil, fmt.Errorf("data folder %s is in use by %s: stop it, or choose another folder: %w", path, who, err)
	}
	if err != nil {
		return nil, fmt.Errorf("data folder %s: %w", path, err)
	}
	f := &Folder{path: path, lock: lock}
	if err := f.settle(); err != nil {
		return nil, errors.Join(fmt.Errorf("data folder %s: %w", path, err), lock.Close())
	}
	return f, nil
}

// checkFormat returns an error unless the folder is ours, of a known version, or new.
func checkFormat(path string) error {
	b, err := os.ReadFile(filepath.Join(path, "FORMAT"))
	if errors.Is(err, fs.ErrNotExist) {
		return checkNew(path)
	}
	if err != nil {
		return err
	}
	text, ok := strings.CutPrefix(string(b), formatPrefix)
	version, err := strconv.Atoi(strings.TrimSpace(text))
	switch {
	case !ok || err != nil || version < 1:
		return errors.New("its FORMAT file does not say that it is a laaster data folder: choose another folder, or restore the file")
	case version > folderVersion:
		return &change.NewerError{What: "data folder", Version: version, Known: folderVersion}
	}
	return nil
}

// checkNew refuses to make a data folder of a folder that has something else in it.
func checkNew(path string) error {
	names, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, n := range names {
		if n.Name() != "LOCK" && !strings.HasPrefix(n.Name(), "FORMAT.tmp-") {
			return fmt.Errorf("it has no FORMAT file and is not empty (%s): choose an empty folder, or restore the file", n.Name())
		}
	}
	return nil
}

// settle makes what a new folder lacks. The lock is held.
func (f *Folder) settle() error {
	if err := checkFormat(f.path); err != nil { // again, now that nobody else can change it
		return err
	}
	format := filepath.Join(f.path, "FORMAT")
	if _, err := os.Stat(format); errors.Is(err, fs.ErrNotExist) {
		if err := disk.Replace(format, []byte(formatPrefix+strconv.Itoa(folderVersion)+"\n"), 0o600); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(f.Store(), 0o700); err != nil {
		return err
	}
	return disk.SyncFolder(f.path)
}

// Path returns the folder: where high-water files go.
func (f *Folder) Path() string { return f.path }

// Store returns the folder of the store.
func (f *Folder) Store() string { return filepath.Join(f.path, "store") }

// Close releases the folder. Close what uses it first.
func (f *Folder) Close() error { return f.lock.Close() }
