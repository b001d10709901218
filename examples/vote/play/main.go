// Play plays a real song contest as a live event, through the public HTTP API only: jury points country by country, then the
// phone votes. What is played, how fast, and whether it is paused stands in the table show, where the studio page changes it;
// the player follows. Votes have ids that depend on the show alone, so the player may be stopped, started again or run twice:
// the table of votes ends the same.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"laaster/examples/vote/data"
	"laaster/examples/vote/show"
	"laaster/internal/kit/run"
)

const usage = `Plays a song contest of 1957 to 2022 into a running examples/vote.

  go run ./examples/vote/play                            the final of 2022
  go run ./examples/vote/play --year 1974 --speed 4      another one, faster
  go run ./examples/vote/play --once                     stop at the end instead of waiting for the next show

`

func main() {
	if err := command(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "play:", err)
		os.Exit(1)
	}
}

func command(args []string) error {
	flags := flag.NewFlagSet("play", flag.ExitOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	year := flags.Int("year", 2022, "year of the contest, 1957 to 2022")
	round := flags.String("round", "final", "final, semi-final, semi-final-1 or semi-final-2")
	speed := flags.Float64("speed", 0, "how many times faster than at speed 1, where a final of our days takes five minutes; 0 leaves it as it is")
	base := flags.String("url", "http://127.0.0.1:8080", "public address of the server")
	again := flags.Bool("again", false, "if the last show has ended, play it anew")
	once := flags.Bool("once", false, "stop at the end of the show")
	if err := flags.Parse(args); err != nil {
		return err
	}
	pick := false
	flags.Visit(func(f *flag.Flag) { pick = pick || f.Name == "year" || f.Name == "round" })

	contests, err := show.Read(data.Votes())
	if err != nil {
		return err
	}
	if contests.Find(*year, *round) == nil {
		return fmt.Errorf("there is no %s of %d in the data", *round, *year)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	clock := run.System{}
	p := &player{
		api:      &api{base: strings.TrimRight(*base, "/"), client: &http.Client{}, clock: clock, log: log},
		clock:    clock,
		log:      log,
		contests: contests,
		settings: settings{year: *year, round: *round, speed: *speed, pick: pick, again: *again, once: *once},
	}
	if err := p.play(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
