package disk

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// FS is what a room does to its files, so that tests can run it over a disk that fails (package simdisk). Names are paths. Nothing is durable until a Sync
// says so: a file's bytes by its own Sync, its name by SyncFolder of the folder. Errors are those of package os (fs.ErrNotExist, fs.ErrExist, syscall.ENOSPC …).
// Safe for concurrent use.
type FS interface {
	// Create makes a new file (0600) to write and read; one that is there already is fs.ErrExist.
	Create(name string) (File, error)
	// Open opens a file to read.
	Open(name string) (File, error)
	// Edit opens a file to write and read, and makes it (0600) when it is missing.
	Edit(name string) (File, error)
	// Rename puts the file old in the place of whatever has the name to, in the same folder.
	Rename(old, to string) error
	// Remove takes a name away. The file stays readable through what has it open.
	Remove(name string) error
	// List returns the names of the files in a folder, sorted, without folders.
	List(folder string) ([]string, error)
	// MkdirAll makes a folder (0700) and those above it, durably.
	MkdirAll(folder string) error
	// SyncFolder makes the names in a folder durable.
	SyncFolder(folder string) error
}

// File is an open file. ReadAt may be called concurrently with everything; of the others one at a time.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Writer // behind what Write wrote before; from the beginning in a new file
	io.Closer
	Size() (int64, error)
	Sync() error     // the bytes and the length are durable; after an error they are not and a second Sync does not make them so
	SyncData() error // as Sync, but of the metadata only what reading back needs
	// Forget asks the system to drop what it caches of a range (n 0: to the end), so that reading it again reads the disk. It may do nothing.
	Forget(off, n int64)
}

// OS is the machine's file system.
type OS struct{}

// Create implements [FS].
func (OS) Create(name string) (File, error) {
	return open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

// Open implements [FS].
func (OS) Open(name string) (File, error) { return open(name, os.O_RDONLY) }

// Edit implements [FS].
func (OS) Edit(name string) (File, error) { return open(name, os.O_RDWR|os.O_CREATE) }

// Rename implements [FS].
func (OS) Rename(old, to string) error { return os.Rename(old, to) }

// Remove implements [FS].
func (OS) Remove(name string) error { return os.Remove(name) }

// List implements [FS].
func (OS) List(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if !e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// MkdirAll implements [FS].
func (OS) MkdirAll(folder string) error { return makeFolders(folder) }

// SyncFolder implements [FS].
func (OS) SyncFolder(folder string) error { return SyncFolder(folder) }

type osFile struct{ *os.File }

func open(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) SyncData() error { return SyncData(f.File) }

func (f osFile) Forget(off, n int64) { forget(f.File, off, n) }

// makeFolders makes a folder and those above it that are missing, and makes their names durable.
func makeFolders(folder string) error {
	if info, err := os.Stat(folder); err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: folder, Err: errors.New("there is a file of this name")}
		}
		return nil
	}
	above := filepath.Dir(folder)
	if above != folder {
		if err := makeFolders(above); err != nil {
			return err
		}
	}
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return SyncFolder(above)
}
