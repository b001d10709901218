package conform

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
)

// command is what a driver is told: one JSON object a line.
type command struct {
	Do     string `json:"do"`                  // connect, subscribe, leave, write, freeze, look, close
	Client string `json:"client"`              // its name, chosen by whoever commands
	Sub    string `json:"sub,omitempty"`       // of a subscription: subscribe, leave
	Write  string `json:"write,omitempty"`     // of a write
	Look   int    `json:"look,omitempty"`      // comes back in the answer
	Millis int    `json:"ms,omitempty"`        // freeze: the client's clock jumps by so much, and its timers do not
	URL    string `json:"url,omitempty"`       // connect: of the server, or of the proxy before it
	Kind   string `json:"transport,omitempty"` // connect: ws or sse
	Speed  int    `json:"speed,omitempty"`     // connect: the client's clock is so many times as fast
	Rate   int    `json:"rate,omitempty"`      // connect: most frames a second
	query
	Op       string          `json:"op,omitempty"` // write: insert, update or delete
	Table    string          `json:"table,omitempty"`
	Rows     json.RawMessage `json:"rows,omitempty"`
	Patch    json.RawMessage `json:"patch,omitempty"`
	Key      string          `json:"key,omitempty"`
	Conflict string          `json:"conflict,omitempty"` // merge or ignore
	Atomic   bool            `json:"atomic,omitempty"`
	Hope     bool            `json:"optimistic,omitempty"`
	Timeout  int             `json:"timeout,omitempty"` // of a write, ms
}

// event is what a driver tells: one JSON object a line.
//
//   - state: the client's state is name, because of code
//   - fresh: a subscription's freshness is name, because of code
//   - rows: a subscription's rows changed; cause is epoch, snapshot or gap; rows is left out when they are further than position already
//   - result: a write was answered
//   - left: the answer of leave; no more rows come
//   - looked: the answer of look
//   - closed: the answer of close
//   - fatal: something went wrong in the driver or in the client
type event struct {
	Ev      string            `json:"ev"`
	Client  string            `json:"client"`
	Sub     string            `json:"sub"`
	Write   string            `json:"write"`
	Look    int               `json:"look"`
	Name    string            `json:"name"`
	Code    string            `json:"code"`
	Text    string            `json:"text"`
	Cause   string            `json:"cause"`
	Key     []string          `json:"key"`
	Changes []rowChange       `json:"changes"`
	Rows    []json.RawMessage `json:"rows"`
	Subs    map[string]seen   `json:"subs"`
	answer
}

// rowChange is one change of a row as a client tells it.
type rowChange struct {
	Op  string          `json:"op"` // insert, update or delete
	Row json.RawMessage `json:"row,omitempty"`
	Old json.RawMessage `json:"old,omitempty"`
}

// seen is a subscription as look finds it.
type seen struct {
	Position string            `json:"position"`
	Rows     []json.RawMessage `json:"rows"`
	Fresh    string            `json:"fresh"`
}

// driver sends commands to whoever drives clients, and its events to whoever plays with them. One serves all plays.
type driver struct {
	name string
	in   io.WriteCloser
	send sync.Mutex
	mu   struct {
		sync.Mutex
		plays map[string]chan<- event // by client
		ended bool
		fatal []string // of no client
	}
	done chan struct{}
}

// newDriver drives over the two ends of a pair of pipes.
func newDriver(name string, in io.WriteCloser, out io.Reader) *driver {
	d := &driver{name: name, in: in, done: make(chan struct{})}
	d.mu.plays = map[string]chan<- event{}
	go d.listen(out)
	return d
}

// nodeDriver starts the TypeScript SDK's driver as a process that ends with ours.
func nodeDriver(node, sdk string) (*driver, error) {
	cmd := exec.Command(node, "--experimental-websocket", "--no-warnings", "js/driver.mjs", sdk)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stderr := &lockedLog{}
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d := newDriver("ts", in, out)
	go func() {
		<-d.done
		if err := cmd.Wait(); err != nil {
			d.fatalf("the driver ended: %v\n%s", err, stderr.b)
		}
	}()
	return d, nil
}

// goDriver runs a driver written in Go in this process.
func goDriver(name string, serve func(in io.Reader, out io.Writer)) *driver {
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	go func() {
		serve(inR, outW)
		_ = outW.Close()
	}()
	return newDriver(name, inW, outR)
}

// join has the events of a client sent to ch, which must have room or a reader at all times.
func (d *driver) join(client string, ch chan<- event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.plays[client] = ch
}

func (d *driver) listen(out io.Reader) {
	defer close(d.done)
	lines := bufio.NewReaderSize(out, 1<<16)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			d.fatalf("%s: a line that is no event: %v: %s", d.name, err, line)
			continue
		}
		d.mu.Lock()
		ch := d.mu.plays[e.Client]
		if e.Ev == "closed" {
			delete(d.mu.plays, e.Client)
		}
		d.mu.Unlock()
		if ch != nil {
			ch <- e
		} else if e.Ev == "fatal" {
			d.fatalf("%s: %s", d.name, e.Text)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.ended = true
	for client, ch := range d.mu.plays {
		ch <- event{Ev: "fatal", Client: client, Text: "the driver ended"}
	}
}

func (d *driver) fatalf(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.fatal = append(d.mu.fatal, fmt.Sprintf(format, args...))
}

// problems returns what went wrong beside every play.
func (d *driver) problems() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.fatal
}

// do sends a command.
func (d *driver) do(c command) error {
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	d.send.Lock()
	defer d.send.Unlock()
	_, err = d.in.Write(append(line, '\n'))
	return err
}

// end closes the driver's input, upon which it ends.
func (d *driver) end() {
	_ = d.in.Close()
	<-d.done
}
