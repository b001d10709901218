package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// SyncTree makes every file and every name below a folder durable, and the folder's own. Nobody else changes it meanwhile.
func SyncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() && !e.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}
