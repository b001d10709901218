package ledger

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"laaster/internal/kit/run"
)

// Rig is a server under load: the process, who writes to it and who follows it. Methods are for one goroutine.
type Rig struct {
	Spec    Spec
	Book    *Book
	Target  *Target
	Load    *Load
	Watch   *Watch
	Streams map[string]*Stream // by view
	Server  *Server            // its present or last life
	Group   *run.Group
	Level   string // that acknowledgements are to name

	client *http.Client
}

// App writes the app folder of the harness with these settings (laaster.yaml) and returns its path.
func App(dir, settings string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "app.sql"), []byte(SQL), 0o600); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "laaster.yaml"), []byte(settings), 0o600)
}

// NewRig makes a rig whose server is not started. Everything ends with ctx or Close.
func NewRig(ctx context.Context, spec *Spec, o LoadOptions) *Rig {
	r := &Rig{Spec: *spec, Book: NewBook(), Target: NewTarget(), Group: run.New(ctx), Streams: map[string]*Stream{}, Level: "durable"}
	r.client = &http.Client{Timeout: 2 * time.Minute}
	r.Load = NewLoad(r.Group, r.Target, r.Book, o)
	r.Watch = NewWatch(r.Group, r.Target, r.Book, "all")
	for _, v := range []string{"by_life", "accounts"} {
		r.Streams[v] = NewStream(r.Group, r.Target, r.Book, v)
	}
	return r
}

// Close ends everything.
func (r *Rig) Close() error {
	r.Group.Stop()
	if r.Server != nil {
		r.Server.Kill()
	}
	return r.Group.Wait()
}

// Up starts the server, with more in its environment, and has the clients find it. What they were told before must be there.
func (r *Rig) Up(env ...string) error {
	told := r.Book.High()
	if err := r.UpAlone(env...); err != nil {
		return err
	}
	_, at, err := r.read("whole", "")
	if err != nil {
		return err
	}
	if at.Log == told.Log && at.Seq < told.Seq || told.Log != "" && at.Log != told.Log {
		r.Book.Failf("LOST: the server is at %+v after its start, and told %+v before", at, told)
	}
	r.Target.Up(r.Server.URL)
	return nil
}

// UpAlone starts the server without clients: on a folder that is not what they know.
func (r *Rig) UpAlone(env ...string) error {
	spec := r.Spec
	spec.Env = append(append([]string{}, spec.Env...), env...)
	s, err := Start(r.Group.Context(), r.Group, &spec)
	if err != nil {
		return err
	}
	r.Server = s
	return nil
}

// Down kills the server.
func (r *Rig) Down() {
	r.Target.Down()
	r.Server.Kill()
}

// read returns the rows of a view as canonical JSON, and the position that they are of.
func (r *Rig) read(view, query string) ([]string, Position, error) {
	var out []string
	at, err := r.lines(view, query, func(line []byte) error {
		c, _, err := canonical(line)
		out = append(out, c)
		return err
	})
	return out, at, err
}

// lines calls fn with each row of a view as JSON.
func (r *Rig) lines(view, query string, fn func(line []byte) error) (Position, error) {
	q, err := http.NewRequestWithContext(r.Group.Context(), "GET", r.Server.URL+"/v1/views/"+view+query, nil)
	if err != nil {
		return Position{}, err
	}
	q.Header.Set("Accept", "application/x-ndjson")
	a, err := r.client.Do(q)
	if err != nil {
		return Position{}, err
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(a.Body)
		return Position{}, fmt.Errorf("read %s: %s %.300s", view, a.Status, b)
	}
	if why := a.Header.Get("Laaster-Stale"); why != "" {
		r.Book.Failf("view %s stands still: %s", view, why)
	}
	at, err := ParsePosition(a.Header.Get("Laaster-Position"))
	if err != nil {
		return at, err
	}
	s := bufio.NewScanner(a.Body)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if err := fn(s.Bytes()); err != nil {
			return at, fmt.Errorf("read %s: %w", view, err)
		}
	}
	return at, s.Err()
}

func decoded[T any](r *Rig, view, query string) ([]T, Position, error) {
	var out []T
	at, err := r.lines(view, query, func(line []byte) error {
		var v T
		err := json.Unmarshal(line, &v)
		out = append(out, v)
		return err
	})
	return out, at, err
}

const eventColumns = "select=id,producer,seq,life,account,amount,at"

// Check has the producers rest and compares what the server holds with the book: the events of the last lives, and the sums of all; in full, all
// events and what the subscribers have. Then the producers go on. The server must be up. Violations are in the book; the error is of the check itself.
func (r *Rig) Check(ctx context.Context, full bool) error {
	if err := r.Load.Rest(ctx); err != nil {
		return fmt.Errorf("%w\n%v", err, r.Book.Err())
	}
	defer r.Load.Go()
	return r.CheckAtRest(ctx, full)
}

// CheckAtRest is Check while the producers rest, and leaves them at rest.
func (r *Rig) CheckAtRest(ctx context.Context, full bool) error {
	from := 0
	if !full {
		from = max(0, r.Target.Life()-2)
	}
	told := r.Book.High()
	events, at, err := decoded[Event](r, "events", "?"+eventColumns+"&life=gte."+strconv.Itoa(from))
	if err != nil {
		return err
	}
	r.Book.checkEvents(events, from)
	if at.Seq < told.Seq {
		r.Book.Failf("LOST: a read shows %+v after %+v was told", at, told)
	}
	shares, _, err := decoded[byLife](r, "by_life", "")
	if err != nil {
		return err
	}
	r.Book.checkShares(shares)
	accounts, _, err := decoded[Account](r, "accounts", "")
	if err != nil {
		return err
	}
	r.Book.checkAccounts(accounts)
	if !full {
		return nil
	}
	return r.checkLive(ctx)
}

// checkLive compares what the subscribers have with what is read.
func (r *Rig) checkLive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 45*time.Second)
	defer cancel()
	for _, v := range names() {
		if v == "recent" { // it moves with the clock
			continue
		}
		want, at, err := r.read(v, "")
		if err != nil {
			return err
		}
		if d := r.Watch.Settle(ctx, v, at, want); d != "" {
			r.Book.Failf("view %s, live and read at %d: %s", v, at.Seq, d)
		}
		if s := r.Streams[v]; s != nil {
			if d := s.Settle(ctx, at, want); d != "" {
				r.Book.Failf("view %s, streamed and read at %d: %s", v, at.Seq, d)
			}
		}
	}
	return nil
}

// Summary says in one line what the rig went through.
func (r *Rig) Summary() string {
	sent, ackedN, refusedN, openN := r.Book.Totals()
	return fmt.Sprintf("%d lives; %d events sent, %d acknowledged, %d refused, %d open; levels %v; %d resumed, %d gaps, %d snapshots, %d compared; "+
		"%d requests without an answer, %d repeats recognised", r.Target.Life(), sent, ackedN, refusedN, openN, r.Book.Levels(), r.Book.Counted("resumed"),
		r.Book.Counted("gaps"), r.Book.Counted("snapshots"), r.Watch.Compared(), r.Book.Counted("no answer"), r.Book.Counted("duplicates recognised"))
}
