package testkit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"laaster/internal/kit/run"
)

// PG is a private PostgreSQL cluster, the oracle of tests: C collation, UTF-8, time zone UTC, no fsync, reachable only by a
// unix socket in a temporary folder. One cluster serves all tests of a process and is gone, folder included, when the
// process ends, however it ends.
type PG struct {
	// DSN connects to the database "postgres" as a superuser.
	DSN string
	// Version is the server's major version, such as 15.
	Version int

	schemas *atomic.Int64
	alive   io.Closer // the pipe whose end is the end of the cluster: held, so that it is not collected
}

// postgresOnce starts the process's cluster at its first use.
var postgresOnce = sync.OnceValues(startPostgres)

// Postgres returns the process's cluster and starts it at the first call (about a second). Where PostgreSQL is not
// installed the test is skipped with one line that says so; with LAASTER_REQUIRE=all in the environment it fails instead.
func Postgres(t testing.TB) *PG {
	t.Helper()
	bin := postgresBin()
	if bin == "" {
		Missing(t, "PostgreSQL is not installed (apt-get install postgresql)")
	}
	pg, err := postgresOnce()
	if err != nil {
		t.Fatalf("cannot start PostgreSQL from %s: %v", bin, err)
	}
	return pg
}

// Missing ends the test because something it needs is not on this machine: it skips with reason, or fails when the
// environment says LAASTER_REQUIRE=all.
func Missing(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("LAASTER_REQUIRE") == "all" {
		t.Fatal("required by LAASTER_REQUIRE=all: " + reason)
	}
	t.Skip("skipped: " + reason)
}

// Conn opens a connection that is closed when the test ends.
func (p *PG) Conn(t testing.TB) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), p.DSN)
	if err != nil {
		t.Fatalf("connect to PostgreSQL: %v", err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// Schema opens a connection whose search path is an empty schema of its own, dropped when the test ends: tests that
// create tables do not meet each other there.
func (p *PG) Schema(t testing.TB) *pgx.Conn {
	t.Helper()
	c := p.Conn(t)
	name := "t" + strconv.FormatInt(p.schemas.Add(1), 10)
	if _, err := c.Exec(t.Context(), "CREATE SCHEMA "+name+"; SET search_path = "+name+", pg_catalog"); err != nil {
		t.Fatalf("create schema: %v", err)
	}
	t.Cleanup(func() { _, _ = c.Exec(context.Background(), "DROP SCHEMA "+name+" CASCADE") })
	return c
}

// postgresBin returns the folder of the newest installed server, or "".
func postgresBin() string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	best, bin := 0, ""
	for _, f := range found {
		dir := filepath.Dir(f)
		v, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err == nil && v > best {
			best, bin = v, dir
		}
	}
	return bin
}

// The shell outlives the test process by a moment: its standard input is a pipe that only the test process holds open,
// so it learns of any death, kill -9 included, and then stops the server and removes the folder.
const postgresScript = `
cd "$1" || exit 1
"$2/initdb" -D data -U postgres -A trust -E UTF8 --locale=C --no-sync >initdb.log 2>&1 || { cat initdb.log >&2; echo "laaster: ended" >&2; cat >/dev/null; cd / && rm -rf "$1"; exit 1; }
{ "$2/postgres" -D data -k "$1" -c listen_addresses= -c jit=off -c fsync=off -c full_page_writes=off -c synchronous_commit=off \
  -c timezone=UTC -c log_timezone=UTC -c shared_buffers=32MB -c max_connections=40 -c autovacuum=off \
  -c max_wal_size=256MB -c lc_messages=C -c log_min_messages=log -c log_min_error_statement=panic -c log_checkpoints=off; echo "laaster: ended" >&2; } &
cat >/dev/null
[ -f data/postmaster.pid ] && kill -QUIT "$(head -n 1 data/postmaster.pid)"
wait
cd / && rm -rf "$1"
`

func startPostgres() (*PG, error) {
	bin := postgresBin()
	dir, err := socketDir()
	if err != nil {
		return nil, err
	}
	cred, err := unprivileged(dir)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/bin/sh", "-c", postgresScript, "postgres", dir, bin)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred, Setpgid: true}
	alive, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if err := awaitReady(stderr); err != nil {
		return nil, err
	}
	pg := &PG{DSN: "host=" + dir + " user=postgres dbname=postgres", schemas: new(atomic.Int64), alive: alive}
	pg.Version, _ = strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return pg, nil
}

// awaitReady reads the server's log until it says that it is ready, and keeps reading it so that the server never blocks.
func awaitReady(stderr io.Reader) error {
	ready := make(chan error, 1)
	group := run.New(context.Background())
	group.Go("postgres log", func(context.Context) error {
		var seen []string
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			line := lines.Text()
			switch {
			case strings.Contains(line, "database system is ready to accept connections"):
				ready <- nil
				_, err := io.Copy(io.Discard, stderr)
				return err
			case line == "laaster: ended":
				ready <- fmt.Errorf("it ended: %s", strings.Join(seen, "\n"))
				return nil
			}
			seen = append(seen, line)
		}
		ready <- fmt.Errorf("its log ended: %s", strings.Join(seen, "\n"))
		return lines.Err()
	})
	select {
	case err := <-ready:
		return err
	case <-run.System{}.After(time.Minute):
		return errors.New("it was not ready within a minute")
	}
}

// socketDir makes a folder whose path is short enough for a unix socket (at most 107 bytes).
func socketDir() (string, error) {
	base := os.TempDir()
	if len(base) > 60 {
		base = "/tmp"
	}
	return os.MkdirTemp(base, "laaster-pg-")
}

// unprivileged returns the user that the server runs as, and gives it dir: PostgreSQL refuses to run as root.
func unprivileged(dir string) (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	names := []string{"postgres", "nobody"}
	at := slices.IndexFunc(names, func(n string) bool { _, err := user.Lookup(n); return err == nil })
	if at < 0 {
		return nil, fmt.Errorf("root cannot run PostgreSQL, and there is no user %s", strings.Join(names, " or "))
	}
	u, err := user.Lookup(names[at])
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(dir, int(uid), int(gid))
}
