package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"laaster/internal/kit/run"
)

// floodEnv has a process of this program be a flood: a JSON floodSpec.
const floodEnv = "LAASTER_BENCH_FLOOD"

// floodSpec is one principal that sends without regard, from a process of its own: what it computes costs a processor of its own, elsewhere, and is not to be in
// the delays that this process measures. So it comes after everything else here.
type floodSpec struct {
	Public, From string
	Lanes        int     // connections
	Rate         float64 // requests a second
	Rows         int     // of each request
	Long         time.Duration
}

// floodReport is what a flood was told, until all that it had sent was answered.
type floodReport struct{ Accepted, Refused, Unsent, Seconds float64 }

// flood is such a process.
type flood struct {
	cmd *exec.Cmd
	out *bufio.Reader
}

// startFlood starts a flood and returns when it begins.
func startFlood(ctx context.Context, spec floodSpec) (*flood, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	f := &flood{cmd: exec.CommandContext(ctx, "nice", "-n", "19", self)}
	f.cmd.Env, f.cmd.Stderr = append(os.Environ(), floodEnv+"="+string(text)), os.Stderr
	out, err := f.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := f.cmd.Start(); err != nil {
		return nil, fmt.Errorf("the flood: %w", err)
	}
	f.out = bufio.NewReader(out)
	if _, err := f.out.ReadString('\n'); err != nil { // it has ended
		return nil, fmt.Errorf("the flood does not begin: %w", errors.Join(err, f.cmd.Wait()))
	}
	return f, nil
}

// end waits until a flood is over.
func (f *flood) end() (r floodReport, err error) {
	err = json.NewDecoder(f.out).Decode(&r)
	if err = errors.Join(err, f.cmd.Wait()); err != nil {
		err = fmt.Errorf("the flood: %w", err)
	}
	return r, err
}

// beFlood is what a process of it does.
func beFlood(ctx context.Context, text string) error {
	var spec floodSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return err
	}
	s := &server{clock: run.System{}, public: spec.Public}
	c := &caller{from: spec.From, lanes: spec.Lanes, rate: spec.Rate, requests: prepare(spec.Public, spec.Rows), rows: spec.Rows}
	fmt.Println("begun")
	began := s.clock.Now()
	out, err := s.drive(ctx, spec.Long, c)
	if err != nil {
		return err
	}
	t := &out[0]
	return json.NewEncoder(os.Stdout).Encode(floodReport{float64(len(t.accepted)), float64(t.turnedAway()), float64(t.unsent), s.clock.Now().Sub(began).Seconds()})
}
