package node

import (
	"fmt"
	"strings"

	"laaster/internal/sql"
)

// Text returns the plan as people read it.
func (p *Plan) Text() string {
	var b strings.Builder
	for i := range p.Findings {
		b.WriteString(p.Findings[i].Render() + "\n")
	}
	if sql.Errors(p.Findings) {
		return b.String()
	}
	switch p.Verdict {
	case verdictSame:
		b.WriteString("nothing changes: the running app means the same\n")
		return b.String()
	case verdictRefused:
		b.WriteString("refused: yesterday's rows, writers or readers would not survive this change\n")
	default:
		b.WriteString("the change fits the running app\n")
	}
	told := map[string]bool{} // relations whose writers and readers were named
	for _, d := range p.Differences {
		mark := "  "
		if d.Refused {
			mark = "! "
		}
		b.WriteString("  " + mark + d.String() + "\n")
		if !told[d.Relation] {
			for _, who := range d.Breaks {
				b.WriteString("      " + who + "\n")
			}
		}
		told[d.Relation] = told[d.Relation] || d.Refused
	}
	for i := range p.Views {
		b.WriteString("    " + p.Views[i].text() + "\n")
	}
	switch {
	case p.Verdict == verdictRefused && sql.Forcible(p.Differences):
		b.WriteString("  hint: undo what is marked with !; or do it all the same with laaster deploy --force: only readers would miss something\n")
	case p.Verdict == verdictRefused:
		b.WriteString("  hint: undo what is marked with !, or keep the history and start a new log with --data <another folder>\n")
	}
	if p.Position != "" {
		fmt.Fprintf(&b, "in effect at %s; built from %d batches in %d ms\n", p.Position, p.Replayed, p.BuiltMS)
	}
	return b.String()
}

func (v *ViewChange) text() string {
	kind := "view"
	if v.Table {
		kind = "table"
	}
	s := kind + " " + v.Name + " is " + v.Change
	switch v.Change {
	case "new":
		s += ": it is built from the log"
	case "changed":
		s += ": it is built anew from the log"
	}
	then := [2]string{"gets its rows anew", "get their rows anew"}
	if v.Change == "gone" {
		then = [2]string{"ends with unknown_view", "end with unknown_view"}
	}
	switch v.Subscribers {
	case 0:
		return s
	case 1:
		return s + " (1 live subscription " + then[0] + ")"
	}
	return fmt.Sprintf("%s (%d live subscriptions %s)", s, v.Subscribers, then[1])
}
