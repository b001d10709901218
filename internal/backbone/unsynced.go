package backbone

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"laaster/internal/kit/disk"
	"laaster/internal/kit/fault"
)

// After a failed sync the system takes the pages that it could not write for clean: they are read back as if they were on the disk, until they
// are dropped from memory. So whoever met one stops, and leaves a marker; the next start reads what was written lately, writes it anew to
// other places of the disk and syncs that, before anything trusts it.

const (
	unsyncedName   = "UNSYNCED"
	unsyncedPrefix = "laaster unsynced, format 1\n"
	// resyncMargin is how long before the marker a write may have been made that the failed sync was to make durable. A sync is awaited, or made
	// each second; the rest is for clocks that are set.
	resyncMargin = 10 * time.Minute
	resyncSuffix = ".resync"
)

// markUnsynced leaves the marker in a data folder, as well as the disk lets it.
func markUnsynced(dir string, now time.Time, why error) error {
	path := filepath.Join(dir, unsyncedName)
	text := fmt.Sprintf("%sat %s\nbecause %s\n", unsyncedPrefix, now.UTC().Format(time.RFC3339Nano), strings.ReplaceAll(why.Error(), "\n", " "))
	err := disk.Replace(path, []byte(text), 0o600)
	if err != nil { // perhaps only the sync fails, and a file of any content does
		if werr := os.WriteFile(path, []byte(text), 0o600); werr != nil {
			return errors.Join(err, werr)
		}
	}
	fault.Point("log.unsynced_marked")
	return nil
}

// Unsynced reports whether the process before this one met a failed sync and left its marker in the data folder, and what it wrote there: when and
// why. The log must not be opened before [ResyncStore].
func Unsynced(folder string) (marked bool, text string, err error) {
	b, err := os.ReadFile(filepath.Join(folder, unsyncedName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, "", nil
	}
	if err != nil {
		return false, "", err
	}
	return true, strings.TrimSpace(strings.TrimPrefix(string(b), unsyncedPrefix)), nil
}

// ResyncStore makes durable what a failed sync may have left in memory only: with the marker in the data folder it writes every file of the
// store that was changed since then to a file beside it, syncs that and renames it over the first, the high-water files too, syncs the folders,
// and then removes the marker. Without the marker it does nothing. since, such as the time of the last checkpoint, takes older changes in;
// zero is ten minutes before the marker, and a marker that cannot be read takes everything. The data folder is locked and the store not open. It
// needs free space for the largest file once. After an error, or a crash, the marker is still there and it may be called again.
func ResyncStore(folder string, since time.Time, log *slog.Logger) (files int, bytes int64, err error) {
	marked, text, err := Unsynced(folder)
	if err != nil || !marked {
		return 0, 0, err
	}
	since = resyncSince(text, since)
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log.Warn("the process before this one could not sync the log to the disk: what it wrote lately is written anew", "marker", text, "since", since)
	r := resync{since: since}
	err = r.folder(filepath.Join(folder, "store"))
	if err == nil {
		err = r.marks(folder)
	}
	if err != nil {
		return r.files, r.bytes, fmt.Errorf("write anew what was not synced (the disk still fails, or is full; the marker %s stays): %w", unsyncedName, err)
	}
	if err := os.Remove(filepath.Join(folder, unsyncedName)); err != nil {
		return r.files, r.bytes, err
	}
	fault.Point("resync.unmarked")
	return r.files, r.bytes, disk.SyncFolder(folder)
}

// resyncSince returns from when on files count as changed.
func resyncSince(text string, since time.Time) time.Time {
	line, _, _ := strings.Cut(text, "\n")
	at, err := time.Parse(time.RFC3339Nano, strings.TrimPrefix(line, "at "))
	if err != nil {
		return time.Time{}
	}
	if at = at.Add(-resyncMargin); !since.IsZero() && since.Before(at) {
		return since
	}
	return at
}

// resync rewrites files.
type resync struct {
	since time.Time
	files int
	bytes int64
}

// folder rewrites what was changed below a folder, and syncs the names in it.
func (r *resync) folder(dir string) error {
	names, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(dir, name.Name())
		switch {
		case name.IsDir():
			err = r.folder(path)
		case strings.HasSuffix(name.Name(), resyncSuffix): // of a resync that did not finish
			err = removeLeft(path)
		case name.Type().IsRegular():
			err = r.file(path)
		}
		if err != nil {
			return err
		}
	}
	err = disk.SyncFolder(dir)
	fault.Point("resync.folder_synced")
	return err
}

// marks rewrites the high-water files.
func (r *resync) marks(folder string) error {
	paths, err := filepath.Glob(filepath.Join(folder, "highwater-*"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		if strings.HasSuffix(path, resyncSuffix) {
			err = removeLeft(path)
		} else {
			err = r.file(path)
		}
		if err != nil {
			return err
		}
	}
	return disk.SyncFolder(folder)
}

// removeLeft removes what a resync left that did not finish, unless its file was rewritten in its place just now.
func removeLeft(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// file rewrites one file if it was changed lately.
func (r *resync) file(path string) (err error) {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	info, err := from.Stat()
	if err != nil || info.ModTime().Before(r.since) {
		return err
	}
	to, err := os.OpenFile(path+resyncSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	n, err := io.Copy(onlyWriter{to}, from)
	fault.Point("resync.file_copied")
	if err == nil {
		err = to.Sync()
	}
	if err = errors.Join(err, to.Close()); err == nil {
		fault.Point("resync.file_synced")
		err = os.Rename(path+resyncSuffix, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(path+resyncSuffix))
	}
	fault.Point("resync.file_replaced")
	r.files++
	r.bytes += n
	return nil
}

// onlyWriter hides that a file can take over the copying: a copy inside the file system could share the blocks that were never written.
type onlyWriter struct{ io.Writer }
