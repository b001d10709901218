package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"laaster/examples/vote/show"
	"laaster/internal/kit/run"
)

const (
	tick       = 100 * time.Millisecond // between posts while playing
	noteEvery  = time.Second            // between notes of how far it is
	overlap    = 2 * time.Second        // played again after a restart, times the speed: the last note may be that old
	batch      = 2000                   // votes in one request, at most
	pollPause  = 250 * time.Millisecond // between reads of the stage, when the server does not hold them
	stageTable = "show"
)

// stage is the row of the table show.
type stage struct {
	ID       string  `json:"id"`
	Run      string  `json:"run"`
	Year     int     `json:"year"`
	Round    string  `json:"round"`
	Phase    string  `json:"phase"`
	Speed    float64 `json:"speed"`
	Paused   bool    `json:"paused"`
	PlayedMS int64   `json:"played_ms"`
	LengthMS int64   `json:"length_ms"`
}

// settings say what to play.
type settings struct {
	year  int
	round string
	speed float64 // 0: leave it as it is, 1 at first
	pick  bool    // year and round were asked for: play them even if another show is on
	again bool    // play the show anew if it has ended
	once  bool    // stop at the end of the show
}

// player plays what the stage says. It keeps nothing that the server does not have: it may be stopped and started at any time.
type player struct {
	api      *api
	clock    run.Clock
	log      *slog.Logger
	contests show.Contests
	settings settings

	stages chan stage // the newest state of the stage
	now    stage
}

// play runs until ctx ends, a request is refused, or with once the show is over.
func (p *player) play(ctx context.Context) error {
	if err := p.prepare(ctx); err != nil {
		return err
	}
	g := run.New(ctx)
	p.stages = make(chan stage, 1)
	g.Go("stage", p.follow)
	g.Go("play", func(ctx context.Context) error {
		defer g.Stop()
		return p.shows(ctx)
	})
	return g.Wait()
}

// prepare fills the catalogue and makes sure that something is on the stage.
func (p *player) prepare(ctx context.Context) error {
	type entry struct {
		ID      string `json:"id"`
		Year    int    `json:"year"`
		Round   string `json:"round"`
		Givers  int    `json:"givers"`
		Entries int    `json:"entries"`
	}
	var catalog []entry
	for _, c := range p.contests {
		catalog = append(catalog, entry{c.ID(), c.Year, c.Round, len(c.Givers), len(c.Entries)})
	}
	if err := p.api.insert(ctx, "catalog", "ignore", catalog); err != nil {
		return err
	}
	s := p.settings
	first := stage{ID: "stage", Run: runName(1, s.year, s.round), Year: s.year, Round: s.round, Phase: "waiting", Speed: max(s.speed, 0)}
	if first.Speed == 0 {
		first.Speed = 1
	}
	if err := p.api.insert(ctx, stageTable, "ignore", []stage{first}); err != nil {
		return err
	}
	have, err := p.read(ctx)
	if err != nil {
		return err
	}
	patch := map[string]any{}
	if s.speed > 0 && s.speed != have.Speed {
		patch["speed"] = s.speed
	}
	ended := have.Phase == "ended"
	if s.again && ended && !s.pick {
		s.pick, s.year, s.round = true, have.Year, have.Round
	}
	if s.pick && (have.Year != s.year || have.Round != s.round || ended) {
		patch["run"], patch["year"], patch["round"] = nextRun(have.Run, s.year, s.round), s.year, s.round
		patch["phase"], patch["played_ms"], patch["paused"] = "waiting", 0, false
	}
	if len(patch) == 0 {
		return nil
	}
	return p.api.update(ctx, stageTable, url.Values{"id": {"eq.stage"}}, patch)
}

func (p *player) read(ctx context.Context) (stage, error) {
	var rows []stage
	if _, _, err := p.api.read(ctx, stageTable, stageQuery(), "", &rows); err != nil {
		return stage{}, err
	}
	if len(rows) == 0 {
		return stage{}, errors.New("the stage is not readable though it was just written")
	}
	return rows[0], nil
}

func stageQuery() url.Values { return url.Values{"id": {"eq.stage"}} }

func runName(n, year int, round string) string { return fmt.Sprintf("%04d-%d-%s", n, year, round) }

// nextRun names the run after this one.
func nextRun(last string, year int, round string) string {
	n := 0
	_, _ = fmt.Sscanf(last, "%d-", &n) // 0 when it does not begin with a number
	return runName(n+1, year, round)
}

// follow keeps the newest stage in p.stages, by long polls.
func (p *player) follow(ctx context.Context) error {
	etag := ""
	for {
		var rows []stage
		tag, changed, err := p.api.read(ctx, stageTable, stageQuery(), etag, &rows)
		if err != nil {
			return err
		}
		etag = tag
		if changed && len(rows) == 0 { // another log: begin anew
			if err := p.prepare(ctx); err != nil {
				return err
			}
			continue
		}
		if changed {
			select {
			case <-p.stages: // nobody took the older one
			default:
			}
			p.stages <- rows[0]
		}
		select {
		case <-p.clock.After(pollPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// shows plays one show after the other.
func (p *player) shows(ctx context.Context) error {
	if err := p.await(ctx); err != nil {
		return err
	}
	for {
		name := p.now.Run
		if p.now.Phase != "ended" {
			c := p.contests.Find(p.now.Year, p.now.Round)
			if c == nil {
				p.log.Error("there is no such show", "year", p.now.Year, "round", p.now.Round)
			} else if err := p.perform(ctx, c); err != nil {
				return err
			}
		}
		if p.now.Run != name {
			continue // another show was put on in the middle of this one
		}
		if p.settings.once && p.now.Phase == "ended" {
			return nil
		}
		if err := p.await(ctx); err != nil {
			return err
		}
	}
}

// await takes the next state of the stage.
func (p *player) await(ctx context.Context) error {
	select {
	case p.now = <-p.stages:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// perform plays a run from where it stands to its end, or until another one is put on.
func (p *player) perform(ctx context.Context, c *show.Contest) error {
	name := p.now.Run
	table := c.Timetable(name)
	type entry struct {
		Run     string `json:"run"`
		Country string `json:"country"`
	}
	var entries []entry
	for _, e := range c.Entries {
		entries = append(entries, entry{name, e})
	}
	if err := p.api.insert(ctx, "contestants", "ignore", entries); err != nil {
		return err
	}
	at := time.Duration(p.now.PlayedMS) * time.Millisecond
	at = max(0, at-time.Duration(float64(overlap)*p.now.Speed))
	p.log.Info("playing", "run", name, "from", at, "length", table.Length, "speed", p.now.Speed)
	next := table.From(at)
	last, noted := p.clock.Now(), time.Time{}
	for p.now.Run == name {
		now := p.clock.Now()
		if !p.now.Paused {
			at += time.Duration(float64(now.Sub(last)) * p.now.Speed)
		}
		last = now
		due := next
		for due < len(table.Events) && table.Events[due].At <= at {
			due++
		}
		if err := p.post(ctx, table.Events[next:due]); err != nil {
			return err
		}
		next = due
		over := at >= table.Length
		if over || (!p.now.Paused && now.Sub(noted) >= noteEvery) {
			noted = now
			if err := p.note(ctx, name, min(at, table.Length), table); err != nil {
				return err
			}
		}
		if over {
			p.log.Info("the show is over", "run", name)
			p.now.Phase = "ended"
			return nil
		}
		if err := p.pause(ctx, &last); err != nil {
			return err
		}
	}
	return nil
}

// pause waits for the next tick, or while the show is paused for the next change of the stage.
func (p *player) pause(ctx context.Context, last *time.Time) error {
	if p.now.Paused {
		if err := p.await(ctx); err != nil {
			return err
		}
		*last = p.clock.Now()
		return nil
	}
	began := p.clock.Now()
	if began.Sub(*last) > tick { // posting took long, or the server was away: the show waited
		*last = began
	}
	select {
	case p.now = <-p.stages:
	case <-p.clock.After(tick):
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// post sends votes that are due. It returns when they are applied.
func (p *player) post(ctx context.Context, events []show.Event) error {
	for len(events) > 0 {
		n := min(len(events), batch)
		votes := make([]show.Vote, n)
		for i, e := range events[:n] {
			votes[i] = e.Vote
		}
		if err := p.api.insert(ctx, "votes", "", votes); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

// note writes how far the run is, unless another one is on by now.
func (p *player) note(ctx context.Context, name string, at time.Duration, t *show.Timetable) error {
	filter := stageQuery()
	filter.Set("run", "eq."+name)
	return p.api.update(ctx, stageTable, filter, map[string]any{
		"played_ms": at.Milliseconds(), "length_ms": t.Length.Milliseconds(), "phase": t.Phase(at),
	})
}
