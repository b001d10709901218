package show

import (
	"maps"
	"regexp"
	"slices"
	"testing"

	"laaster/examples/vote/data"
)

func contests(t *testing.T) Contests {
	t.Helper()
	cs, err := Read(data.Votes())
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

// The figures that were announced.
func TestOfficialResult(t *testing.T) {
	cs := contests(t)
	if len(cs) != 97 {
		t.Fatalf("%d contests, want 97", len(cs))
	}
	c := cs.Find(2022, "final")
	got := c.Result()
	for country, points := range map[string]int{"UA": 631, "GB": 466, "ES": 459, "SE": 438, "RS": 312, "DE": 6} {
		if got[country] != points {
			t.Errorf("2022 final: %s has %d points, want %d", country, got[country], points)
		}
	}
	if len(c.Entries) != 25 || len(c.Givers) != 40 {
		t.Errorf("2022 final: %d entries and %d givers, want 25 and 40", len(c.Entries), len(c.Givers))
	}
	if cs.Find(1956, "final") != nil {
		t.Error("1956 is not in the data")
	}
	if nil1964 := cs.Find(1964, "final").Result(); nil1964["DE"] != 0 || !slices.Contains(cs.Find(1964, "final").Entries, "DE") {
		t.Error("an entry without points is an entry")
	}
}

// Whoever plays the votes of any show ends at the official result, each feed at its own.
func TestEveryRunEndsAtTheResult(t *testing.T) {
	for _, c := range contests(t) {
		table := c.Timetable("0001-" + c.ID())
		total, phone := map[string]int{}, map[string]int{}
		for _, e := range c.Entries {
			total[e] = 0
		}
		ids := map[string]bool{}
		for _, e := range table.Events {
			v := e.Vote
			if v.Points < 1 || v.Points > 12 || (v.Feed == Phone && v.Points != 1) {
				t.Fatalf("%s: %+v", c.ID(), v)
			}
			if ids[v.ID] {
				t.Fatalf("%s: the id of %+v was used twice", c.ID(), v)
			}
			ids[v.ID] = true
			total[v.To] += v.Points
			if v.Feed == Phone {
				phone[v.To] += v.Points
			}
		}
		if !maps.Equal(total, c.Result()) {
			t.Errorf("%s: the run ends at %v, the result is %v", c.ID(), total, c.Result())
		}
		want := map[string]int{}
		for _, p := range c.Points {
			if p.Phone > 0 {
				want[p.To] += p.Phone
			}
		}
		if !maps.Equal(phone, want) {
			t.Errorf("%s: phones end at %v, want %v", c.ID(), phone, want)
		}
	}
}

func TestTimetableIsInOrderAndRepeats(t *testing.T) {
	for _, c := range contests(t) {
		a, b := c.Timetable("r"), c.Timetable("r")
		if !slices.Equal(a.Events, b.Events) {
			t.Fatalf("%s: two timetables of one run differ", c.ID())
		}
		if !slices.IsSortedFunc(a.Events, func(x, y Event) int { return int(x.At - y.At) }) {
			t.Errorf("%s: events are not in order", c.ID())
		}
		if last := a.Events[len(a.Events)-1].At; last >= a.Length || a.Events[0].At < Prelude {
			t.Errorf("%s: from %v to %v does not fit in %v", c.ID(), a.Events[0].At, last, a.Length)
		}
		for i, e := range a.Events {
			if want := a.Phase(e.At); want != e.Vote.Feed {
				t.Fatalf("%s: event %d is of feed %s in phase %s", c.ID(), i, e.Vote.Feed, want)
			}
		}
	}
}

func TestTheHighestPointsOfAJuryComeLast(t *testing.T) {
	c := contests(t).Find(2022, "final")
	var last Vote
	for _, e := range c.Timetable("r").Events {
		if e.Vote.Feed != Jury {
			break
		}
		if e.Vote.From != last.From {
			if last.From != "" && last.Points != 12 {
				t.Errorf("the last points of %s are %d", last.From, last.Points)
			}
		} else if e.Vote.Points <= last.Points {
			t.Errorf("%s gives %d after %d", last.From, e.Vote.Points, last.Points)
		}
		last = e.Vote
	}
}

func TestCallsAreAFairSampleAtAnyTime(t *testing.T) {
	c := contests(t).Find(2022, "final")
	table := c.Timetable("r")
	calls := table.Events[table.From(table.Phones):]
	half := map[string]int{}
	for _, e := range calls[:len(calls)/2] {
		half[e.Vote.To]++
	}
	if n := half["UA"]; n < 190 || n > 250 { // 439 calls in all; five standard deviations are 52
		t.Errorf("after half of the calls Ukraine has %d of 439", n)
	}
}

func TestVoteIDs(t *testing.T) {
	id := VoteID("0001-2022-final", Phone, "GB", "UA", 3)
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(id) {
		t.Errorf("%s is not a version 5 UUID", id)
	}
	// Kept: rows of older logs carry these ids.
	if want := "d4814e80-f87a-567c-8cbe-46b7120321de"; id != want {
		t.Errorf("the id is %s, want %s", id, want)
	}
}
