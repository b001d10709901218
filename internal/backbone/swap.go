package backbone

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"laaster/internal/kit/disk"
	"laaster/internal/kit/fault"
)

// A repaired log takes the place of the damaged one by renames of several names, which a crash may interrupt. So a file says first what is under
// way, and whoever next opens the data folder finishes it: either nothing has moved, or everything will have.
const (
	swapName   = "SWAP"
	swapPrefix = "laaster swap, format 1\n"
)

// swap is what the file says.
type swap struct {
	From string   `json:"from"` // folder in the data folder with what comes
	Away string   `json:"away"` // folder in the data folder for what goes
	In   bool     `json:"in"`   // everything has gone; what comes is moving in
	Out  []string `json:"out"`  // names that go, if they are there
}

// Swap makes what is in the folder from, below the data folder, the content of the data folder, and moves the names of out away into the
// folder away, durably. The data folder is locked by the caller and nothing in it is open. Once it has begun it cannot be undone: after an error
// or a crash the next [OpenFolder] finishes it.
func Swap(dir, from, away string, out []string) error {
	for _, name := range append([]string{from, away}, out...) {
		if name == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") {
			return fmt.Errorf("swap: %q is not a name in the data folder", name)
		}
	}
	if err := disk.SyncTree(filepath.Join(dir, from)); err != nil {
		return fmt.Errorf("make the new log durable: %w", err)
	}
	fault.Point("swap.synced")
	if err := writeSwap(dir, &swap{From: from, Away: away, Out: out}); err != nil {
		return err
	}
	fault.Point("swap.begun")
	return finishSwap(dir)
}

func writeSwap(dir string, s *swap) error {
	body, err := json.Marshal(s)
	if err == nil {
		err = disk.Replace(filepath.Join(dir, swapName), append([]byte(swapPrefix), body...), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write the file %s: %w", swapName, err)
	}
	return nil
}

// finishSwap does what is left of a swap that was begun in a data folder, if one was.
func finishSwap(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, swapName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var s swap
	if err == nil {
		body, ok := strings.CutPrefix(string(raw), swapPrefix)
		if !ok {
			err = errors.New("it is not one that this program wrote")
		} else {
			err = json.Unmarshal([]byte(body), &s)
		}
	}
	if err != nil {
		return fmt.Errorf("a repair was interrupted, and its file %s cannot be read: %w. Move back by hand what is in damaged-…, remove the file, "+
			"and repair anew", swapName, err)
	}
	if !s.In {
		if err := s.moveOut(dir); err != nil {
			return fmt.Errorf("move the damaged log away: %w", err)
		}
		s.In = true
		if err := writeSwap(dir, &s); err != nil {
			return err
		}
		fault.Point("swap.turned")
	}
	if err := s.moveIn(dir); err != nil {
		return fmt.Errorf("move the repaired log in: %w", err)
	}
	if err := os.Remove(filepath.Join(dir, swapName)); err != nil {
		return err
	}
	fault.Point("swap.done")
	return disk.SyncFolder(dir)
}

// moveOut moves what goes, as far as it is still there.
func (s *swap) moveOut(dir string) error {
	away := filepath.Join(dir, s.Away)
	if err := os.MkdirAll(away, 0o700); err != nil {
		return err
	}
	for _, name := range s.Out {
		err := os.Rename(filepath.Join(dir, name), filepath.Join(away, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		fault.Point("swap.moved_out")
	}
	return errors.Join(disk.SyncFolder(away), disk.SyncFolder(dir))
}

// moveIn moves what comes, as far as it is not there yet.
func (s *swap) moveIn(dir string) error {
	from := filepath.Join(dir, s.From)
	names, err := os.ReadDir(from)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, n := range names {
		if err := os.Rename(filepath.Join(from, n.Name()), filepath.Join(dir, n.Name())); err != nil {
			return err
		}
		fault.Point("swap.moved_in")
	}
	if err := disk.SyncFolder(dir); err != nil {
		return err
	}
	return os.RemoveAll(from)
}
