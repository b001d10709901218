package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"laaster/internal/kit/run"
)

// appSQL is the app under load: a stream of votes, two aggregates and a top-N over one of them.
const appSQL = `CREATE TABLE votes (
  id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  contestant text NOT NULL CHECK (contestant <> ''),
  voter      text NOT NULL,
  points     integer NOT NULL,
  note       text,
  at         timestamptz NOT NULL DEFAULT now()
) WITH (append_only);

CREATE MATERIALIZED VIEW tally AS
  SELECT contestant, count(*) AS votes, sum(points) AS points FROM votes GROUP BY contestant;

CREATE MATERIALIZED VIEW pace AS
  SELECT date_trunc('second', at) AS second, count(*) AS votes FROM votes GROUP BY 1 ORDER BY second DESC LIMIT 31;

CREATE MATERIALIZED VIEW leaders AS SELECT contestant, points FROM tally ORDER BY points DESC, contestant LIMIT 10;

GRANT INSERT ON votes TO anon;
GRANT SELECT ON tally, pace, leaders TO anon;
`

// server is the real binary on a data folder of its own, with the screens that watch it.
type server struct {
	cmd     *exec.Cmd
	dir     string
	public  string // host:port
	admin   string // URL
	group   *run.Group
	clock   run.System
	screens []*screen
}

// startServer starts the binary on an app made of the given SQL.
func startServer(ctx context.Context, c *config, sql string) (*server, error) {
	dir, err := os.MkdirTemp("", "laaster-bench-")
	if err != nil {
		return nil, err
	}
	s := &server{group: run.New(ctx), dir: dir}
	if err := s.start(c, sql); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *server) start(c *config, sql string) error {
	if err := os.WriteFile(filepath.Join(s.dir, "app.sql"), []byte(sql), 0o600); err != nil {
		return err
	}
	s.cmd = exec.Command(c.bin, "run", s.dir, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-level", "warn")
	s.cmd.Stderr = os.Stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("%w (make build makes the binary)", err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the server did not get ready: %w", err)
	}
	for _, f := range strings.Fields(line) {
		if v, ok := strings.CutPrefix(f, "public=http://"); ok {
			s.public = v
		}
		if v, ok := strings.CutPrefix(f, "admin="); ok {
			s.admin = v
		}
	}
	return nil
}

// stop ends what startServer began; a benchmark that is over has nobody to tell of errors.
func (s *server) stop() {
	s.group.Stop()
	for _, x := range s.screens {
		_ = x.conn.Close()
	}
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		_ = s.cmd.Wait()
	}
	_ = s.group.Wait()
	_ = os.RemoveAll(s.dir)
}

// cpuTime returns the processor time that the server has used.
func (s *server) cpuTime() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	var ticks int64
	for _, i := range []int{11, 12} { // utime, stime
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	const perSecond = 100 // USER_HZ
	return time.Duration(ticks) * time.Second / perSecond, nil
}

// atRest returns the resident megabytes and the percentage of a core of the server with nothing to do, over five seconds.
func (s *server) atRest(ctx context.Context) (rss, cpu float64, err error) {
	before, err := s.cpuTime()
	if err != nil {
		return 0, 0, err
	}
	const length = 5 * time.Second
	select {
	case <-s.clock.After(length):
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	}
	after, err := s.cpuTime()
	if err != nil {
		return 0, 0, err
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	return kb / 1000, 100 * float64(after-before) / float64(length), err
}

// profile fetches a processor profile while the load runs; the returned function waits for it.
func (s *server) profile(ctx context.Context, c *config) func() {
	g := run.New(ctx)
	g.Go("profile", func(ctx context.Context) error {
		url := fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", s.admin, max(1, int(c.length.Seconds())-1))
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		r, err := http.DefaultClient.Do(q)
		if err != nil {
			return err
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		return os.WriteFile(c.profile, b, 0o600)
	})
	return func() {
		if err := g.Wait(); err != nil {
			fmt.Fprintln(os.Stderr, "profile:", err)
		}
	}
}

// post sends one request on a connection that is kept and returns the position's sequence and how many rows were accepted.
func (s *server) post(client *http.Client, body []byte) (seq uint64, accepted, status int, err error) {
	r, err := client.Post("http://"+s.public+"/v1/tables/votes", "application/json", bytes.NewReader(body))
	if err != nil {
		return 0, 0, 0, err
	}
	seq, accepted, err = result(r)
	return seq, accepted, r.StatusCode, err
}

// result reads the answer to a write; of one that is not 200 it reads nothing but the end.
func result(r *http.Response) (seq uint64, accepted int, err error) {
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		return 0, 0, err
	}
	var answer struct {
		Position string
		Accepted int
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		return 0, 0, err
	}
	seq, err = sequence(answer.Position)
	return seq, answer.Accepted, err
}

// sequence returns the sequence of a position of shard 0.
func sequence(position string) (uint64, error) {
	_, seq, ok := strings.Cut(position, ".0-")
	if !ok {
		return 0, fmt.Errorf("position %q is not of shard 0", position)
	}
	return strconv.ParseUint(seq, 10, 64)
}
