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
	"laaster/internal/kit/fault"
)

// folderVersion is the version of the data folder's layout, in its FORMAT file. Format 1 had only store and highwater-0, of plain batches; a
// program of its time does not know that a log may begin behind 1 or be encrypted, so that a folder must say so before it can have either.
const folderVersion = 2

const formatPrefix = "laaster data folder, format "

// Folder is the data folder of one process:
//
//	FORMAT        the version of this layout, as text
//	LOCK          held by the process that uses the folder
//	store/        the log, in the store's own files
//	highwater-0   the high-water mark of shard 0
//	base-0        where the log begins, once it was trimmed
//	lineage       of which log this one was made, once it was
//	checkpoints/  the state at positions of the log
//	copy/         their second copy, unless it is elsewhere
//	audit/        signed checkpoints of the audit trail
//	SWAP          says that a repair is moving a new log in, see Swap
//	RESERVE       takes up space that is given up when the disk is full
//	UNSYNCED      says that a sync failed, see ResyncStore
//
// What is not needed is not there.
type Folder struct {
	path   string
	lock   *disk.Lock
	format int // what FORMAT said
}

// notTaken is the error of a folder that could not be locked, with what to do other than stopping who holds it.
func notTaken(path string, err error, other string) error {
	held := (*disk.LockedError)(nil)
	if !errors.As(err, &held) {
		return fmt.Errorf("data folder %s: %w", path, err)
	}
	who := "another process"
	if held.PID != 0 {
		who = "process " + strconv.Itoa(held.PID)
	}
	return fmt.Errorf("data folder %s is in use by %s: stop it, or %s: %w", path, who, other, err)
}

// OpenFolder takes a data folder for this process, creating it (0700) when it is missing. A folder that another process
// holds, that is not empty and not ours, or that has a newer layout (a *change.NewerError) is refused, unchanged. One with an older layout is
// taken as it is, until Upgrade.
func OpenFolder(path string) (*Folder, error) {
	if err := disk.Folder(path); err != nil {
		return nil, fmt.Errorf("data folder %s: %w", path, err)
	}
	if _, err := checkFormat(path); err != nil {
		return nil, fmt.Errorf("data folder %s: %w", path, err)
	}
	lock, err := disk.LockFile(filepath.Join(path, "LOCK"))
	if err != nil {
		return nil, notTaken(path, err, "choose another folder")
	}
	f := &Folder{path: path, lock: lock}
	if err := f.settle(); err != nil {
		return nil, errors.Join(fmt.Errorf("data folder %s: %w", path, err), lock.Close())
	}
	return f, nil
}

// checkFormat returns the version of the folder's layout, 0 when it is new, or an error unless it is ours and known.
func checkFormat(path string) (version int, err error) {
	b, err := os.ReadFile(filepath.Join(path, "FORMAT"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, checkNew(path)
	}
	if err != nil {
		return 0, err
	}
	text, ok := strings.CutPrefix(string(b), formatPrefix)
	version, err = strconv.Atoi(strings.TrimSpace(text))
	switch {
	case !ok || err != nil || version < 1:
		return 0, errors.New("its FORMAT file does not say that it is a laaster data folder: choose another folder, or restore the file")
	case version > folderVersion:
		return 0, &change.NewerError{What: "data folder", Version: version, Known: folderVersion}
	}
	return version, nil
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
func (f *Folder) settle() (err error) {
	if f.format, err = checkFormat(f.path); err != nil { // again, now that nobody else can change it
		return err
	}
	if err := finishSwap(f.path); err != nil {
		return err
	}
	if f.format == 0 {
		if err := f.writeFormat(); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(f.Store(), 0o700); err != nil {
		return err
	}
	fault.Point("folder.store_made")
	return disk.SyncFolder(f.path)
}

func (f *Folder) writeFormat() error {
	err := disk.Replace(filepath.Join(f.path, "FORMAT"), []byte(formatPrefix+strconv.Itoa(folderVersion)+"\n"), 0o600)
	if err != nil {
		return err
	}
	f.format = folderVersion
	fault.Point("folder.format_written")
	return nil
}

// Format returns the version of the layout that the folder has.
func (f *Folder) Format() int { return f.format }

// Upgrade makes this program's layout of an older one, durably: to be called once everything in the folder was opened well, and before anything is
// written that the older layout does not have. An older program refuses the folder from then on. Without need it does nothing.
func (f *Folder) Upgrade() error {
	if f.format == folderVersion {
		return nil
	}
	if err := f.writeFormat(); err != nil {
		return fmt.Errorf("data folder %s: %w", f.path, err)
	}
	return nil
}

// Path returns the folder: where high-water files go.
func (f *Folder) Path() string { return f.path }

// Store returns the folder of the store.
func (f *Folder) Store() string { return filepath.Join(f.path, "store") }

// Close releases the folder. Close what uses it first.
func (f *Folder) Close() error { return f.lock.Close() }
