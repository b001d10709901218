package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"laaster/internal/kit/run"
)

const (
	firstWait   = 100 * time.Millisecond // after the first failure; doubled up to maxWait
	maxWait     = 3 * time.Second
	maxAnswer   = 8 << 20 // bytes of an answer that are read
	longPoll    = 25 * time.Second
	httpTimeout = 10 * time.Second
)

// api speaks the public HTTP surface and nothing else. A request that may succeed later is repeated until it does: every write
// of the player may be repeated without harm.
type api struct {
	base   string
	client *http.Client
	clock  run.Clock
	log    *slog.Logger
}

// refused is an answer that a repeat would not change.
type refused struct {
	Status int
	Code   string `json:"code"`
	Detail string `json:"detail"`
	Title  string `json:"title"`
	Hint   string `json:"hint"`
	Field  string `json:"field"`
}

// Error implements error.
func (r *refused) Error() string {
	s := fmt.Sprintf("the server refused it: %s (HTTP %d): %s%s", r.Code, r.Status, r.Title, r.Field)
	if r.Detail != "" {
		s = fmt.Sprintf("the server refused it: %s: %s", r.Code, r.Detail)
	}
	if r.Hint != "" {
		s += " (" + r.Hint + ")"
	}
	return s
}

// insert appends rows; those that are there already are left as they are.
func (a *api) insert(ctx context.Context, table, conflict string, rows any) error {
	q := url.Values{}
	if conflict != "" {
		q.Set("on_conflict", conflict)
	}
	return a.write(ctx, http.MethodPost, table, q, rows)
}

// update sets columns of the rows that the filter finds.
func (a *api) update(ctx context.Context, table string, filter url.Values, patch any) error {
	return a.write(ctx, http.MethodPatch, table, filter, patch)
}

func (a *api) write(ctx context.Context, method, table string, q url.Values, body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	var answer struct {
		Rejected []struct {
			Index int     `json:"index"`
			Error refused `json:"error"`
		} `json:"rejected"`
	}
	path := "/v1/tables/" + table
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	if _, err := a.do(ctx, httpTimeout, method, path, nil, data, &answer); err != nil {
		return fmt.Errorf("%s %s: %w", method, table, err)
	}
	if len(answer.Rejected) > 0 {
		r := answer.Rejected[0]
		return fmt.Errorf("%s %s: row %d of the request: %w", method, table, r.Index, &r.Error)
	}
	return nil
}

// read gets rows of a view into rows. With an etag it waits up to longPoll for an answer that differs; changed is false
// when there was none.
func (a *api) read(ctx context.Context, view string, q url.Values, etag string, rows any) (newTag string, changed bool, err error) {
	header := http.Header{}
	timeout := httpTimeout
	if etag != "" {
		header.Set("If-None-Match", etag)
		q = cloneWith(q, "_wait", strconv.FormatInt(longPoll.Milliseconds(), 10))
		timeout += longPoll
	}
	res, err := a.do(ctx, timeout, http.MethodGet, "/v1/views/"+view+"?"+q.Encode(), header, nil, rows)
	if err != nil {
		return etag, false, fmt.Errorf("GET %s: %w", view, err)
	}
	return res.Header.Get("ETag"), res.StatusCode != http.StatusNotModified, nil
}

func cloneWith(q url.Values, name, value string) url.Values {
	out := url.Values{name: {value}}
	for k, v := range q {
		out[k] = v
	}
	return out
}

// do repeats a request until it is answered for good, or ctx ends.
func (a *api) do(ctx context.Context, timeout time.Duration, method, path string, header http.Header, body []byte, into any) (*http.Response, error) {
	wait := firstWait
	for failures := 0; ; failures++ {
		res, err := a.once(ctx, timeout, method, path, header, body, into)
		var later time.Duration
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err == nil && res.StatusCode < 300, err == nil && res.StatusCode == http.StatusNotModified:
			if failures > 0 {
				a.log.Info("the server is back")
			}
			return res, nil
		case err == nil:
			later = retryAfter(res)
			err = fmt.Errorf("HTTP %d", res.StatusCode)
		default:
			if r, ok := err.(*refused); ok {
				return nil, r
			}
		}
		if failures == 0 || wait == maxWait {
			a.log.Info("trying again", "why", err)
		}
		select {
		case <-a.clock.After(max(wait, later)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		wait = min(2*wait, maxWait)
	}
}

func retryAfter(res *http.Response) time.Duration {
	s, err := strconv.Atoi(res.Header.Get("Retry-After"))
	if err != nil || s < 0 {
		return 0
	}
	return min(time.Duration(s)*time.Second, time.Minute)
}

// once makes one attempt. Answers that say no for good are a *refused, whole answers of success are decoded into into.
func (a *api) once(ctx context.Context, timeout time.Duration, method, path string, header http.Header, body []byte, into any) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, v := range header {
		req.Header[name] = v
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := a.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	later := res.StatusCode == http.StatusTooManyRequests || res.StatusCode >= 500
	switch {
	case res.StatusCode == http.StatusNotModified || later:
		return res, nil
	case res.StatusCode >= 300 && res.StatusCode != http.StatusUnprocessableEntity:
		return nil, refusal(res.StatusCode, data)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return nil, refusal(res.StatusCode, data)
	}
	if res.StatusCode == http.StatusUnprocessableEntity && !bytes.Contains(data, []byte(`"rejected"`)) {
		return nil, refusal(res.StatusCode, data)
	}
	res.StatusCode = min(res.StatusCode, http.StatusNotModified) // a 422 that lists its rows was decoded: the caller looks at them
	return res, nil
}

func refusal(status int, data []byte) *refused {
	r := &refused{Status: status}
	if json.Unmarshal(data, r) != nil {
		r.Detail = fmt.Sprintf("HTTP %d: %.200q", status, data)
	}
	return r
}
