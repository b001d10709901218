// Package tidy holds the project's house rules as data; its tests check the whole tree against them.
//
// The rules: the import table, a comment on every package and on every exported name, no init function, no package
// variable that changes, no goroutine and no clock outside kit/run, no sleep in a test. An exception is a line in this
// file with its reason.
package tidy

// Imports returns the import table: for each room (a directory under internal/, or a top-level one) the rooms that it may
// import besides those of [Common]. A room inherits nothing; a driver or sub-package has a line of its own.
func Imports() map[string][]string {
	return map[string][]string{
		"app":                         {},
		"internal/change":             {},
		"internal/observe":            {},
		"internal/kit/run":            {},
		"internal/kit/fault":          {"internal/kit/run"},
		"internal/seal":               {},
		"internal/audit":              {},
		"internal/checkpoint":         {"internal/seal"},
		"internal/kit/check":          {},
		"internal/load":               {},
		"internal/kit/disk":           {},
		"internal/kit/disk/simdisk":   {"internal/kit/disk"},
		"internal/kit/testkit":        {},
		"internal/kit/memcap":         {"internal/kit/run"},
		"internal/kit/fair":           {"internal/kit/run"},
		"internal/kit/tidy":           {},
		"internal/wire":               {},
		"internal/wire/gen":           {"internal/wire"},
		"internal/backbone":           {"internal/seal"},
		"internal/backbone/memory":    {"internal/backbone"},
		"internal/backbone/archive":   {"internal/backbone", "internal/checkpoint", "internal/seal"},
		"internal/backbone/jetstream": {"internal/backbone", "internal/seal"},
		"internal/backbone/backbonetest": {
			"internal/backbone", "internal/seal"},
		"internal/expr":         {},
		"internal/flow":         {"internal/expr", "internal/backbone", "internal/checkpoint"},
		"internal/contract":     {},
		"internal/sql":          {"internal/contract", "internal/expr", "internal/flow", "internal/sql/syntax"},
		"internal/sql/syntax":   {},
		"internal/view":         {"internal/expr", "internal/checkpoint"},
		"internal/auth":         {"internal/expr", "internal/wire"},
		"internal/ingest":       {"internal/contract", "internal/wire", "internal/auth", "internal/backbone", "internal/expr"},
		"internal/limit":        {"internal/auth", "internal/wire"},
		"internal/signal":       {"internal/wire", "internal/expr"},
		"internal/push":         {"internal/wire", "internal/auth", "internal/view", "internal/expr", "internal/signal", "internal/kit/fair"},
		"internal/node":         {"*"},
		"internal/node/devpage": {},
		"cmd/laaster":           {"app", "client", "internal/load", "internal/node", "internal/sql", "internal/flow", "internal/wire", "internal/seal", "internal/audit", "internal/auth", "internal/kit/run", "internal/kit/memcap"},
		"client":                {"internal/wire"},
		"sdk/js":                {},
		"sdk/react":             {},
		"examples/cursors":      {},
		"examples/vote":         {},
		"examples/vote/data":    {},
		"examples/vote/play":    {"examples/vote/show", "examples/vote/data"},
		"examples/vote/show":    {},
		"test/audit":            {},
		"test/bench":            {"internal/backbone", "internal/backbone/jetstream", "internal/sql", "test/nexmark"},
		"test/chaos":            {},
		"test/conform":          {},
		"test/door":             {},
		"test/ledger":           {},
		"test/sim":              {},
		"test/e2e":              {},
		"test/oracle":           {"internal/checkpoint"},
		"test/nexmark":          {"internal/expr", "internal/flow"},
		"test/suites":           {},
		"test/tenants":          {"client", "internal/auth"},
	}
}

// Common returns the rooms that every room may import: the vocabulary, the instruments and the kit. The vocabulary and the
// kit themselves import nothing of ours, change imports only app, observe only app and the kit.
func Common() []string {
	return []string{"app", "internal/change", "internal/observe", "internal/kit/run", "internal/kit/check", "internal/kit/disk", "internal/kit/fault"}
}

// Exception is a place that may break a rule, with the reason.
type Exception struct {
	Rule string // init, var, go, clock, sleep
	Path string // file, relative to the root
	Why  string
}

// Exceptions returns the places that may break a rule.
func Exceptions() []Exception {
	return []Exception{
		{"go", "internal/kit/run/run.go", "this is where goroutines start"},
		{"clock", "internal/kit/run/run.go", "this is the clock"},
	}
}
