package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// maxReport bounds one report of the database, in bytes.
const maxReport = 16 << 20

// checkReports looks for known vulnerabilities that the binary can reach.
func checkReports(ctx context.Context, temp string) (string, error) {
	db, reports, err := database(temp)
	if db == "" || err != nil {
		return "not looked for: there is no database; name a folder or a .tar.gz with LAASTER_VULNDB", err
	}
	cmd := exec.CommandContext(ctx, "go", "tool", "govulncheck", "-db", "file://"+filepath.ToSlash(db), "-test", "./...")
	out, err := cmd.CombinedOutput()
	said := strings.TrimSpace(string(out))
	if err != nil {
		return "", fmt.Errorf("govulncheck: %w\n%s", err, said)
	}
	return fmt.Sprintf("%d known: %s", reports, said), nil
}

// database returns the folder of the reports, unpacked below temp when it is packed, and how many they are; "" when there is none.
func database(temp string) (dir string, reports int, err error) {
	from, named := os.LookupEnv("LAASTER_VULNDB")
	if !named {
		from = filepath.Join("..", "shared", "vulndb.tar.gz")
	}
	info, err := os.Stat(from)
	switch {
	case err != nil && !named:
		return "", 0, nil
	case err != nil:
		return "", 0, err
	case !info.IsDir():
		into := filepath.Join(temp, "reports")
		if err := unpackReports(from, into); err != nil {
			return "", 0, fmt.Errorf("%s: %w", from, err)
		}
		from = into
	}
	if from, err = filepath.Abs(from); err != nil {
		return "", 0, err
	}
	for _, dir = range []string{from, filepath.Join(from, "osv"), filepath.Join(from, "data", "osv")} {
		found, err := filepath.Glob(filepath.Join(dir, "GO-*.json"))
		if err != nil {
			return "", 0, err
		}
		if len(found) > 0 {
			return dir, len(found), nil
		}
	}
	return "", 0, fmt.Errorf("%s has no reports GO-*.json", from)
}

// unpackReports writes the reports of an archive into one folder, by their names alone.
func unpackReports(file, into string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	packed, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(into, 0o755); err != nil {
		return err
	}
	for r := tar.NewReader(packed); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Base(h.Name)
		if ok, _ := path.Match("GO-*.json", name); !ok || h.Typeflag != tar.TypeReg {
			continue
		}
		if h.Size > maxReport {
			return fmt.Errorf("%s has %d bytes", name, h.Size)
		}
		var data bytes.Buffer
		if _, err := io.Copy(&data, r); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(into, name), data.Bytes(), 0o644); err != nil {
			return err
		}
	}
}
