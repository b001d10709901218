package wire

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"testing"
)

// TestAppend holds each encoder against the struct that it encodes: decoded again, nothing is missing and nothing added.
func TestAppend(t *testing.T) {
	problem := NewProblem(Busy, "full \"to\" the brim\n").WithField("rows", "wait")
	problem.RetryAfterMS, problem.Request = 100, "r"
	for _, f := range []interface{ Append([]byte) []byte }{
		&WelcomeFrame{Session: "s", Now: 1652558400123.456, Log: "aaaaaaaaaaaaaaaa", Limits: DefaultLimits()},
		&ResumedFrame{ID: "a\"b", Position: "p", Key: []string{"x", "y"}},
		&ResumedFrame{ID: "a", Position: "p"},
		&GapFrame{ID: "a", KeptFrom: "p"},
		&ResultFrame{ID: "1", WriteResult: WriteResult{Position: "p", Final: true, Ack: "durable", Accepted: 2, Duplicates: 1, Rejected: []Rejected{{3, problem}, {4, problem}}}},
		&ResultFrame{ID: "1", WriteResult: WriteResult{Rejected: []Rejected{}}},
		&FreshnessFrame{State: FreshStale, Since: 1.5},
		&FreshnessFrame{ID: "a", State: FreshLive},
		&ErrorFrame{Error: problem},
		&ErrorFrame{ID: "a", Error: problem},
		&GoodbyeFrame{Code: Draining, Reason: "r", RetryAfterMS: 1},
		&PongFrame{T: 1652558400123.456, Now: 7},
	} {
		kind := frameType(reflect.TypeOf(f).Elem().Name())
		got := f.Append([]byte("before"))
		if string(got[:6]) != "before" {
			t.Fatalf("%s overwrote what was there", kind)
		}
		var have, want map[string]any
		if err := json.Unmarshal(got[6:], &have); err != nil {
			t.Fatalf("%s: %v: %s", kind, err, got)
		}
		plain, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(plain, &want); err != nil {
			t.Fatal(err)
		}
		want["type"] = kind
		if !reflect.DeepEqual(have, want) {
			t.Errorf("%s: %v\nwant %v", kind, have, want)
		}
	}
}

// TestHeads puts the hot frames together from their parts and compares with the structs.
func TestHeads(t *testing.T) {
	b := AppendEpochHead([]byte(`{"type":"epoch",`), []byte("p"), []byte("q"), 1652558400123456)
	b = append(b, `,"changes":{"a":{"put":[{"x":1}],"del":[[1]]}}}`...)
	var epoch EpochFrame
	if err := json.Unmarshal(b, &epoch); err != nil {
		t.Fatal(err)
	}
	want := EpochFrame{Position: "p", From: "q", At: 1652558400123.456,
		Changes: map[string]Changes{"a": {Put: []Row{{"x": 1.0}}, Del: [][]any{{1.0}}}}}
	if !reflect.DeepEqual(epoch, want) {
		t.Errorf("epoch %+v\nwant %+v", epoch, want)
	}
	b = append(AppendStart(nil, "snapshot", "a"), ',')
	b = AppendSnapshotHead(b, []byte("p"), []byte(`["x"]`))
	b = append(b, `,"rows":[{"x":1}],"more":true}`...)
	var snap SnapshotFrame
	if err := json.Unmarshal(b, &snap); err != nil {
		t.Fatal(err)
	}
	if want := (SnapshotFrame{ID: "a", Position: "p", Key: []string{"x"}, Rows: []Row{{"x": 1.0}}, More: true}); !reflect.DeepEqual(snap, want) {
		t.Errorf("snapshot %+v\nwant %+v", snap, want)
	}
	b = AppendSignalsHead(nil, "a", true, []byte(`["x"]`), 3)
	b = append(b, `,"put":[{"x":1}],"del":[[2]],"more":true}`...)
	var signals SignalsFrame
	if err := json.Unmarshal(b, &signals); err != nil {
		t.Fatal(err)
	}
	three := 3
	if want := (SignalsFrame{ID: "a", Full: true, Key: []string{"x"}, Put: []Row{{"x": 1.0}}, Del: [][]any{{2.0}}, Count: &three, More: true}); !reflect.DeepEqual(signals, want) {
		t.Errorf("signals %+v\nwant %+v", signals, want)
	}
	if b := AppendSignalsHead(nil, "", false, nil, -1); string(b) != `{"type":"signals"` {
		t.Errorf("%s", b)
	}
}

func TestAppendMillis(t *testing.T) {
	for micros, want := range map[int64]string{
		0: "0", 1: "0.001", 10: "0.01", 100: "0.1", 999: "0.999", 1000: "1", 1652558400123456: "1652558400123.456",
		-1500: "-1.5", 1652558400000000: "1652558400000", math.MaxInt64: "9223372036854775.807",
	} {
		if got := string(AppendMillis(nil, micros)); got != want {
			t.Errorf("AppendMillis(%d) = %s, want %s", micros, got, want)
		}
	}
}

// TestCodes: every code is complete, and NewProblem knows it.
func TestCodes(t *testing.T) {
	seen := map[Code]bool{}
	for _, c := range Codes() {
		if seen[c.Code] || c.Status == 0 || c.Title == "" || c.Remedy == "" || c.Retry == "" {
			t.Errorf("incomplete or doubled: %+v", c)
		}
		seen[c.Code] = true
		if p := NewProblem(c.Code, "d"); p.Code != c.Code || p.Status != c.Status || p.Type != "/errors/"+string(c.Code) {
			t.Errorf("NewProblem(%s) = %+v", c.Code, p)
		}
	}
	if p := NewProblem("nonsense", "d"); p.Code != Internal {
		t.Errorf("an unknown code becomes %s", p.Code)
	}
	if fmt.Sprint(NewProblem(Gap, "")) != "gap: the history asked for is gone" {
		t.Errorf("%v", NewProblem(Gap, ""))
	}
}
