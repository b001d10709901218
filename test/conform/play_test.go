package conform

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// lane is how a scenario is played: by which client, over which transport, with which faults between.
type lane struct {
	driver    string // ts, go or raw
	transport string // ws or sse
	fault     string // none, trickle, delay, cuts or cuts-up
}

func (l lane) String() string { return l.driver + "-" + l.transport + "-" + l.fault }

// cutting reports whether the lane cuts connections by itself, so that counts of snapshots and connections say nothing.
func (l lane) cutting() bool { return strings.HasPrefix(l.fault, "cuts") }

// toxics returns what lies between besides the gate.
func (l lane) toxics(heavy bool) []string {
	switch l.fault {
	case "trickle":
		size := "1"
		if heavy {
			size = "300"
		}
		return []string{`{"name":"t1","type":"slicer","stream":"downstream","toxicity":1,"attributes":{"average_size":` + size + `,"size_variation":0,"delay":1}}`,
			`{"name":"t2","type":"slicer","stream":"upstream","toxicity":1,"attributes":{"average_size":1,"size_variation":0,"delay":1}}`}
	case "delay":
		return []string{`{"name":"d1","type":"latency","stream":"downstream","toxicity":1,"attributes":{"latency":15,"jitter":10}}`,
			`{"name":"d2","type":"latency","stream":"upstream","toxicity":1,"attributes":{"latency":15,"jitter":10}}`}
	}
	return nil
}

// cuts returns where the lane cuts, connection by connection: at each class in each of the first units, so that the conversation is cut and
// resumed at every point.
func (l lane) cuts(seed int) []cutAt {
	var classes []class
	up := l.fault == "cuts-up"
	switch {
	case !l.cutting():
		return nil
	case up && l.transport == "ws":
		classes = []class{inHead, inHeader, inPayload, between}
	case up:
		classes = []class{inHead, inBody}
	case l.transport == "ws":
		classes = []class{inHead, inHeader, inPayload, between}
	default:
		classes = []class{inHead, inLine, inEvent, between}
	}
	var out []cutAt
	for unit := range 4 {
		for i := range classes {
			c := classes[(i+seed)%len(classes)]
			if c == inHead && unit > 0 {
				continue
			}
			out = append(out, cutAt{up, c, unit})
		}
	}
	return out
}

// place translates the script's words for a boundary.
func (l lane) place(word string) class {
	switch {
	case word == "head":
		return inHead
	case word == "middle" && l.transport == "ws":
		return inPayload
	case word == "middle":
		return inLine
	case word == "edge" && l.transport == "ws":
		return inHeader
	case word == "edge":
		return inEvent
	}
	return between
}

// patience is how long anything may take before it counts as never.
const patience = 30 * time.Second

// play is one scenario on one lane, with a server of its own.
type play struct {
	lane     lane
	script   *script
	drivers  map[string]*driver
	id       string
	srv      *server
	model    *model
	events   chan event
	clients  map[string]*watched
	claims   []claim
	storms   int            // under way
	stormed  chan stormDone // their answers
	looks    int
	began    time.Time
	took     time.Duration
	said     []string // what happened, newest last
	counted  int      // claims proven
	cuts     []string // made by plan
	newestOf map[query]newest
	kinds    map[string]int // clients by driver and transport
}

// newest is what a query shows after so many writes.
type newest struct {
	m      *model
	writes int
	rows   []string
}

type stormDone struct {
	row    row
	answer *answer
	err    error
	over   bool
}

// run plays it from beginning to end.
func (p *play) run() (err error) {
	p.open()
	defer func() {
		for _, c := range p.clients {
			err = errors.Join(err, p.end(c))
		}
		if p.srv != nil {
			err = errors.Join(err, p.srv.close())
		}
	}()
	for i := range p.script.steps {
		st := &p.script.steps[i]
		p.note("> " + st.text)
		if err := p.step(st); err != nil {
			return fmt.Errorf("%v: %s.txt:%d: %s: %w\nwhat happened:\n%s", p.lane, p.script.name, st.line, st.text, err, p.story())
		}
	}
	if err := p.settle(); err != nil {
		return fmt.Errorf("%v: %s.txt: at the end: %w\nwhat happened:\n%s", p.lane, p.script.name, err, p.story())
	}
	return nil
}

// open makes what a play needs.
func (p *play) open() {
	p.began = time.Now()
	p.model, p.clients, p.kinds, p.newestOf = newModel(), map[string]*watched{}, map[string]int{}, map[query]newest{}
	p.events, p.stormed = make(chan event, 1<<15), make(chan stormDone, 1<<12)
}

func (p *play) note(text string) {
	if len(text) > 400 {
		text = text[:400] + " …"
	}
	p.said = append(p.said, fmt.Sprintf("%6d ms  %s", time.Since(p.began).Milliseconds(), text))
}

// story is the last part of what happened.
func (p *play) story() string {
	said := p.said[max(0, len(p.said)-60):]
	if os.Getenv("LAASTER_STORY") != "" {
		said = p.said
	}
	return "  " + strings.Join(said, "\n  ")
}

func (p *play) client(name string) (*watched, error) {
	if c := p.clients[name]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("there is no client %s", name)
}

func (p *play) sub(st *step) (*followed, error) {
	client, sub := st.target()
	c, err := p.client(client)
	if err != nil {
		return nil, err
	}
	if s := c.subs[sub]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("there is no subscription %s", st.word(0))
}

// step does one line of the script.
func (p *play) step(st *step) error {
	switch st.verb {
	case "connect", "close", "freeze", "cut", "hold", "release", "strand", "offline", "online", "plan":
		return p.connection(st)
	case "subscribe", "leave":
		return p.subscription(st)
	case "write", "update", "delete", "fill", "storm", "send":
		return p.writing(st)
	case "stop", "start", "restart", "wipe", "save", "restore", "deploy":
		return p.operate(st)
	case "settle":
		return p.settle()
	case "mark":
		p.pump()
		for _, c := range p.clients {
			c.went = map[string]int{}
			if c.gate != nil {
				c.gate.opened()
			}
			for _, s := range c.subs {
				s.causes = map[string]int{}
			}
		}
		return nil
	}
	return p.expect(st)
}

// connection does what concerns a client's way to the server.
func (p *play) connection(st *step) error {
	if st.verb == "connect" {
		return p.connect(st)
	}
	c, err := p.client(st.word(0))
	if err != nil {
		return err
	}
	switch st.verb {
	case "close":
		delete(p.clients, c.name)
		return p.end(c)
	case "freeze":
		d, err := time.ParseDuration(st.word(1))
		if err != nil {
			return err
		}
		return c.d.do(command{Do: "freeze", Client: c.id, Millis: int(d / time.Millisecond)})
	case "plan":
		unit, err := strconv.Atoi(st.word(3))
		if err != nil {
			return err
		}
		c.gate.plan([]cutAt{{st.word(1) == "up", c.lane.place(st.word(2)), unit}})
	case "cut":
		p.pump()
		before := c.began
		if open := c.gate.cut(); open == 0 || c.lane.transport == "sse" { // a connection for a write that is done is not made again
			return nil
		}
		return p.until("it connects again", func() bool { return c.began > before })
	case "hold":
		c.gate.hold(true)
		c.away = true
	case "strand":
		c.gate.strand()
	case "release":
		c.gate.hold(false)
		c.away = false
	case "offline":
		c.gate.refuse(true)
		if c.away = true; c.lane.transport == "sse" { // without a subscription it has nothing that could break
			return nil
		}
		return p.until("the client knows that it is offline", func() bool { return c.state != "live" && c.state != "catching_up" })
	case "online":
		c.gate.refuse(false)
		c.away = false
	}
	return nil
}

func (p *play) connect(st *step) error {
	l := p.lane
	for option, at := range map[string]*string{"driver": &l.driver, "transport": &l.transport, "fault": &l.fault} {
		if v := st.options[option]; v != "" {
			*at = v
		}
	}
	c := &watched{name: st.word(0), id: p.id + "/" + st.word(0), d: p.drivers[l.driver], lane: l, state: "connecting", went: map[string]int{}, subs: map[string]*followed{},
		open: map[string]*written{}}
	if p.srv == nil {
		if err := p.startServer(); err != nil {
			return err
		}
	}
	url := p.srv.url
	if l.fault != "none" || p.script.faults {
		var err error
		if c.gate, err = openGate(c.id, strings.TrimPrefix(url, "http://"), func(what string) { p.events <- event{Ev: what, Client: c.id} }, l.toxics(p.script.heavy)...); err != nil {
			return err
		}
		h := fnv.New32a()
		_, _ = h.Write([]byte(c.id)) // it cannot fail
		c.gate.plan(l.cuts(int(h.Sum32() % 97)))
		url = c.gate.url()
	}
	p.clients[c.name] = c
	p.kinds[l.driver+"-"+l.transport]++
	c.d.join(c.id, p.events)
	speed, _ := strconv.Atoi(st.options["speed"]) // 0: as it is
	rate, _ := strconv.Atoi(st.options["rate"])
	return c.d.do(command{Do: "connect", Client: c.id, URL: url, Kind: l.transport, Speed: speed, Rate: rate})
}

// end closes a client and its proxy.
func (p *play) end(c *watched) error {
	err := c.d.do(command{Do: "close", Client: c.id})
	if c.gate != nil {
		happened, _ := c.gate.cuts()
		p.cuts = append(p.cuts, happened...)
		c.gate.close()
	}
	return err
}

func (p *play) startServer() error {
	var err error
	dir, err := newDir()
	if err != nil {
		return err
	}
	p.srv, err = startServer(dir, p.script.app, p.script.yaml)
	return err
}

func (p *play) subscription(st *step) error {
	client, sub := st.target()
	c, err := p.client(client)
	if err != nil {
		return err
	}
	if st.verb == "leave" {
		if s := c.subs[sub]; s != nil {
			s.left = true
		}
		return c.d.do(command{Do: "leave", Client: c.id, Sub: sub})
	}
	limit, _ := strconv.Atoi(st.options["limit"])
	q := query{View: st.word(1), Filter: st.options["filter"], Select: st.options["select"], Order: st.options["order"], Limit: limit}
	c.subs[sub] = &followed{q: q, rows: map[string]string{}, causes: map[string]int{}, fresh: "loading"}
	return c.d.do(command{Do: "subscribe", Client: c.id, Sub: sub, query: q})
}

// writing does what changes tables. Answers go into the model.
func (p *play) writing(st *step) error {
	if p.srv == nil {
		if err := p.startServer(); err != nil {
			return err
		}
	}
	switch st.verb {
	case "write":
		return p.post(st.word(0), "POST", conflict(st), st.json)
	case "update":
		return p.post(st.word(0), "PATCH", "name=eq."+st.word(1), st.json)
	case "delete":
		return p.post(st.word(0), "DELETE", "name=eq."+st.word(1), "")
	case "fill":
		first, last := number(st.word(0)), number(st.word(1))
		for from := first; from <= last; from += 1000 {
			var rows []row
			for id := from; id <= min(last, from+999); id++ {
				rows = append(rows, filler(id, st.options))
			}
			body, err := json.Marshal(rows)
			if err != nil {
				return err
			}
			if err := p.post("votes", "POST", "", string(body)); err != nil {
				return err
			}
		}
		return nil
	case "storm":
		p.storm(number(st.word(0)), number(st.word(1)), st.options)
		return nil
	}
	return p.send(st)
}

func conflict(st *step) string {
	if c := st.options["on_conflict"]; c != "" {
		return "on_conflict=" + c
	}
	return ""
}

func number(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}

// filler is one of many votes.
func filler(id int, options map[string]string) row {
	r := row{"id": float64(id), "run": "fill", "who": "w" + strconv.Itoa(id%7), "points": float64(id % 10)}
	if run := options["run"]; run != "" {
		r["run"] = run
	}
	if n := number(options["note"]); n > 0 {
		r["note"] = strings.Repeat("x", n)
	}
	return r
}

// post writes past every client and proxy.
func (p *play) post(table, method, query, body string) error {
	a, err := p.srv.write(method, table, query, body)
	if err != nil {
		return err
	}
	p.note(fmt.Sprintf("written at %s: %d accepted, %d duplicates, %d rejected", a.Position, a.Accepted, a.Duplicates, len(a.Rejected)))
	switch method {
	case "DELETE":
		return p.model.del(strings.TrimPrefix(query, "name=eq."), a.Position)
	case "PATCH":
		r := row{"name": strings.TrimPrefix(query, "name=eq.")}
		if err := json.Unmarshal([]byte(body), &r); err != nil {
			return err
		}
		return p.model.put(table, a.Position, r)
	}
	rows, err := rowsOf(body)
	if err != nil {
		return err
	}
	return p.enter(table, rows, a)
}

func rowsOf(body string) ([]row, error) {
	var rows []row
	if strings.HasPrefix(body, "{") {
		body = "[" + body + "]"
	}
	return rows, json.Unmarshal([]byte(body), &rows)
}

// enter puts the rows that were not refused into the model.
func (p *play) enter(table string, rows []row, a *answer) error {
	for i, r := range rows {
		if slices.ContainsFunc(a.Rejected, func(x reject) bool { return x.Index == i }) {
			continue
		}
		if err := p.model.put(table, a.Position, r); err != nil {
			return err
		}
	}
	return nil
}

// storm writes votes one after the other while the script goes on.
func (p *play) storm(first, last int, options map[string]string) {
	p.storms++
	srv, answers := p.srv, p.stormed
	go func() {
		defer func() { answers <- stormDone{over: true} }()
		for id := first; id <= last; id++ {
			r := filler(id, options)
			a, err := srv.insist(r)
			answers <- stormDone{row: r, answer: a, err: err}
			if err != nil {
				return
			}
		}
	}()
}

// send has a client write.
func (p *play) send(st *step) error {
	c, err := p.client(st.word(0))
	if err != nil {
		return err
	}
	name, table := st.word(1), st.word(2)
	w := &written{table: table, op: "insert"}
	cmd := command{Do: "write", Client: c.id, Write: name, Table: table, Op: "insert", Key: st.options["key"], Conflict: st.options["on_conflict"],
		Timeout: number(st.options["timeout"]), Hope: st.options["optimistic"] == "true"}
	switch {
	case st.options["where"] != "" && st.json == "":
		cmd.Op, cmd.query.Filter = "delete", "name=eq."+st.options["where"]
		w.op, w.key = "delete", st.options["where"]
	case st.options["where"] != "":
		cmd.Op, cmd.query.Filter, cmd.Patch = "update", "name=eq."+st.options["where"], json.RawMessage(st.json)
		r := row{"name": st.options["where"]}
		if err := json.Unmarshal([]byte(st.json), &r); err != nil {
			return err
		}
		w.rows = []row{r}
	default:
		text := st.json                            // the step is of all plays
		if n := number(st.options["fat"]); n > 0 { // a note of so many bytes
			text = strings.Replace(text, "}", `,"note":"`+strings.Repeat("x", n)+`"}`, 1)
		}
		if w.rows, err = rowsOf(text); err != nil {
			return err
		}
		body, err := json.Marshal(w.rows)
		if err != nil {
			return err
		}
		cmd.Rows = body
	}
	if cmd.Key == "" {
		cmd.Key = strings.ReplaceAll(c.id, "/", "-") + "-" + name
	}
	w.command = cmd
	c.open[name] = w
	return c.d.do(cmd)
}

// operate does what concerns the server.
func (p *play) operate(st *step) error {
	p.pump()
	switch st.verb {
	case "stop":
		return p.srv.stop()
	case "start":
		return p.srv.start()
	case "restart":
		return p.srv.restart(nil)
	case "save":
		return p.srv.save()
	case "deploy": // votes2: view big shows other rows, and podium is gone
		if err := p.prove(); err != nil {
			return err
		}
		p.model.big = 7
		p.model.writes++
		return p.srv.deploy(st.word(0))
	case "wipe":
		if err := p.prove(); err != nil {
			return err
		}
		p.model = newModel()
		return p.srv.wipe()
	case "restore":
		if err := p.prove(); err != nil {
			return err
		}
		if err := p.srv.restore(); err != nil {
			return err
		}
		at, _, err := p.srv.read(&query{View: "votes"}, "")
		if err != nil {
			return err
		}
		_, seq, err := position(at)
		p.model.forget(seq)
		return err
	}
	return nil
}

// pump takes the events that are here.
func (p *play) pump() {
	for {
		select {
		case e := <-p.events:
			p.take(&e)
		case s := <-p.stormed:
			p.storming(s)
		default:
			return
		}
	}
}

// take notes an event. What is wrong with it is told by the next settle.
func (p *play) take(e *event) {
	name := e.Client[strings.LastIndex(e.Client, "/")+1:]
	text, _ := json.Marshal(e.Changes) // of JSON
	p.note(fmt.Sprintf("  %s.%s %s %s %s %s %s %s", name, e.Sub+e.Write, e.Ev, e.Name, e.Code+e.Problem+e.Text, e.Cause, e.Position, text))
	c := p.clients[name]
	if c == nil {
		return
	}
	cl, err := c.take(e)
	if err != nil {
		p.said = append(p.said, "WRONG: "+err.Error())
		p.claims = append(p.claims, claim{who: "error: " + err.Error()})
	}
	if cl != nil {
		p.claims = append(p.claims, *cl)
	}
	if w := c.open[e.Write]; e.Ev == "result" && w != nil && (c.lane.cutting() || p.script.faults) && e.Problem == "unreachable" {
		w.answer = nil // sent three times and cut three times: whoever writes sends it again under its key
		if err := c.d.do(w.command); err != nil {
			p.claims = append(p.claims, claim{who: "error: " + err.Error()})
		}
	} else if e.Ev == "result" && w != nil && w.answer != nil && w.answer.Problem == "" {
		if w.op == "delete" {
			err = p.model.del(w.key, e.Position)
		} else {
			rows := w.rows
			if w.command.Conflict == "ignore" && e.Duplicates > 0 { // of one row
				rows = nil
			}
			err = p.enter(w.table, rows, w.answer)
		}
		if err != nil {
			p.claims = append(p.claims, claim{who: "error: " + err.Error()})
		}
	}
}

func (p *play) storming(s stormDone) {
	switch {
	case s.over:
		p.storms--
	case s.err != nil:
		p.claims = append(p.claims, claim{who: "error: storm: " + s.err.Error()})
	default:
		if err := p.enter("votes", []row{s.row}, s.answer); err != nil {
			p.claims = append(p.claims, claim{who: "error: " + err.Error()})
		}
	}
}

// until takes events until f holds.
func (p *play) until(what string, f func() bool) error {
	limit := time.After(patience)
	p.pump()
	for !f() {
		if i := slices.IndexFunc(p.claims, func(c claim) bool { return strings.HasPrefix(c.who, "error: ") }); i >= 0 {
			return errors.New(p.claims[i].who)
		}
		select {
		case e := <-p.events:
			p.take(&e)
		case s := <-p.stormed:
			p.storming(s)
		case <-limit:
			return fmt.Errorf("after %v it is not so that %s%s", patience, what, p.shortfall())
		}
	}
	return nil
}

// prove compares what was told so far with the model.
func (p *play) prove() error {
	if i := slices.IndexFunc(p.claims, func(c claim) bool { return strings.HasPrefix(c.who, "error: ") }); i >= 0 {
		return errors.New(p.claims[i].who)
	}
	if err := p.model.prove(p.claims); err != nil {
		return err
	}
	p.counted += len(p.claims)
	p.claims = nil
	return nil
}

// settle waits until everybody who can is live and has the newest rows, compares everything that was told meanwhile with the model, and asks
// the server itself.
func (p *play) settle() error {
	if err := p.until("everybody is live with the newest rows", func() bool { return p.storms == 0 && p.unsettled() == "" }); err != nil {
		return err
	}
	if err := p.look(); err != nil {
		return err
	}
	return p.prove()
}

// unsettled says what is not as it should be in the end, or nothing.
func (p *play) unsettled() string {
	for _, c := range p.clients {
		if c.away || c.state == "closed" {
			continue
		}
		for name, w := range c.open {
			if w.answer == nil {
				return c.name + ": write " + name + " is not answered"
			}
		}
		if c.state != "live" && c.state != "stale:view" {
			return c.name + " is " + c.state
		}
		for name, s := range c.subs {
			if s.left || s.fresh == "refused" {
				continue
			}
			if !s.live() {
				return c.name + "." + name + " is " + s.fresh
			}
			if want, ok := p.newest(s); ok && !slices.Equal(want, s.sorted()) {
				return fmt.Sprintf("%s.%s (%+v) has %s, not %s", c.name, name, s.q, difference(s.sorted(), want), difference(want, s.sorted()))
			}
		}
	}
	return ""
}

func (p *play) newest(s *followed) (rows []string, known bool) {
	if !p.model.knows(s.q.View) {
		return nil, false
	}
	if n, ok := p.newestOf[s.q]; ok && n.writes == p.model.writes && n.m == p.model {
		return n.rows, true
	}
	want, err := p.model.rows(&s.q, 1<<62)
	if err != nil {
		return nil, false
	}
	slices.Sort(want)
	p.newestOf[s.q] = newest{p.model, p.model.writes, want}
	return want, true
}

func (p *play) shortfall() string {
	if u := p.unsettled(); u != "" {
		return ": " + u
	}
	return ""
}

// look asks every client what it shows, and the server what it has at that position.
func (p *play) look() error {
	if p.srv == nil || p.srv.node == nil {
		return nil
	}
	for _, c := range p.clients {
		if c.away || c.state == "closed" {
			continue
		}
		found, err := p.lookAt(c)
		if err != nil {
			return err
		}
		for began := time.Now(); c.ahead(found) && time.Since(began) < patience; { // the truth is on its way, and looks like what is shown
			if found, err = p.lookAt(c); err != nil {
				return err
			}
		}
		for name, s := range c.subs {
			if s.left || s.fresh == "refused" {
				continue
			}
			if err := p.compare(c, name, s, found.Subs[name]); err != nil {
				return err
			}
		}
	}
	return nil
}

// lookAt asks one client.
func (p *play) lookAt(c *watched) (*event, error) {
	p.looks++
	if err := c.d.do(command{Do: "look", Client: c.id, Look: p.looks}); err != nil {
		return nil, err
	}
	for limit := time.After(patience); ; {
		select {
		case e := <-p.events:
			if p.take(&e); e.Ev == "looked" && e.Look == p.looks {
				return &e, nil
			}
		case <-limit:
			return nil, fmt.Errorf("%s does not answer", c.name)
		}
	}
}

// compare holds what a client shows against what it told, and against the server's own answer.
func (p *play) compare(c *watched, name string, s *followed, is seen) error {
	who := c.name + "." + name
	if err := s.move(is.Position, "epoch"); err != nil {
		return fmt.Errorf("%s: %w", who, err)
	}
	if err := s.shown(is.Rows); err != nil {
		return fmt.Errorf("%s: %w", who, err)
	}
	p.claims = append(p.claims, claim{who, s.q, is.Position, s.sorted()})
	at, rows, err := p.srv.read(&s.q, is.Position)
	if err != nil {
		return err
	}
	if !slices.Equal(slices.Sorted(slices.Values(rows)), s.sorted()) {
		return fmt.Errorf("%s shows at %s %s, the server at %s %s", who, is.Position, difference(s.sorted(), rows), at, difference(rows, s.sorted()))
	}
	if s.q.Order != "" && !slices.Equal(rows, s.order) {
		return fmt.Errorf("%s has the rows in another order than the server:\n%s\n%s", who, brief(s.order), brief(rows))
	}
	return nil
}
