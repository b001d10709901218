package conform

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// script is a scenario: a file of scenarios/, whose first line says what it shows.
type script struct {
	name   string
	app    string   // of apps/; default votes
	yaml   string   // lines of laaster.yaml
	only   []string // drivers or transports that can play it; none: all
	calm   bool     // it depends on connections that nobody cuts: no lane with cuts of its own plays it
	heavy  bool     // it moves megabytes: too many to trickle byte by byte
	faults bool     // it cuts or holds connections: clients always come through a proxy
	steps  []step
}

// step is a line: a verb, words, options of the form name=value, and JSON.
type step struct {
	line    int
	text    string
	verb    string
	words   []string
	options map[string]string
	json    string
}

// word returns the i-th word behind the verb, or nothing.
func (s *step) word(i int) string {
	if i < len(s.words) {
		return s.words[i]
	}
	return ""
}

// target splits the first word into a client and a subscription.
func (s *step) target() (client, sub string) {
	client, sub, _ = strings.Cut(s.word(0), ".")
	return client, sub
}

// readScripts reads all of scenarios/.
func readScripts() ([]*script, error) {
	files, err := filepath.Glob("scenarios/*.txt")
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no scenarios: %v", err)
	}
	var out []*script
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		s, err := parseScript(strings.TrimSuffix(filepath.Base(f), ".txt"), string(text))
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func parseScript(name, text string) (*script, error) {
	s := &script{name: name, app: "votes"}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		st, err := parseStep(line)
		if err != nil {
			return nil, fmt.Errorf("%s.txt:%d: %w", name, i+1, err)
		}
		st.line = i + 1
		switch st.verb {
		case "app":
			s.app = st.word(0)
		case "yaml":
			s.yaml += strings.TrimSpace(strings.TrimPrefix(line, "yaml")) + "\n"
		case "only":
			s.only = st.words
		case "calm":
			s.calm = true
		case "proxied":
			s.faults = true
		case "heavy":
			s.heavy = true
		default:
			switch st.verb {
			case "cut", "hold", "strand", "release", "offline", "online", "plan":
				s.faults = true
			}
			s.steps = append(s.steps, *st)
		}
	}
	return s, nil
}

// parseStep splits a line. JSON is what begins with a brace or a bracket, up to its end.
func parseStep(line string) (*step, error) {
	st := &step{text: line, options: map[string]string{}}
	for rest := line; rest != ""; rest = strings.TrimLeft(rest, " ") {
		if rest[0] == '{' || rest[0] == '[' {
			n := jsonEnd(rest)
			if n == 0 {
				return nil, fmt.Errorf("JSON without an end: %s", rest)
			}
			st.json, rest = rest[:n], rest[n:]
			continue
		}
		var word string
		word, rest, _ = strings.Cut(rest, " ")
		name, value, option := strings.Cut(word, "=")
		switch {
		case st.verb == "":
			st.verb = word
		case option && name != "" && !strings.ContainsAny(name, "<>"):
			st.options[name] = value
		default:
			st.words = append(st.words, word)
		}
	}
	return st, nil
}

// jsonEnd returns the length of the JSON value that text begins with, or 0.
func jsonEnd(text string) int {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return 0
}
