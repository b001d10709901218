package backbone

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"laaster/internal/kit/disk"
)

// HoldFolder takes the data folder of a stopped server to look at it: its lock is held, and nothing in it is changed, now or later. A folder that
// another process holds, that is not one of ours, that is newer (a *change.NewerError), or in which a repair was interrupted is refused.
func HoldFolder(path string) (*Folder, error) {
	format, err := checkFormat(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New("there is no such folder")
	}
	if err == nil && format == 0 {
		err = errors.New("it has no FORMAT file, so it is not the data folder of a server")
	}
	if err == nil {
		if _, serr := os.Stat(filepath.Join(path, swapName)); !errors.Is(serr, fs.ErrNotExist) {
			err = errors.New("a repair of it was interrupted: a start of the server, or `laaster repair`, finishes that")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("data folder %s: %w", path, err)
	}
	lock, err := disk.HoldFile(filepath.Join(path, "LOCK"))
	if err != nil {
		return nil, notTaken(path, err, "take a backup and look at that")
	}
	return &Folder{path: path, lock: lock, format: format}, nil
}

// CopyBase copies the file that says where the log of a shard begins, if there is one.
func CopyBase(from, to string, shard uint32) error {
	b, err := readBase(from, shard)
	if err != nil || b == nil {
		return err
	}
	return writeBase(to, b)
}
