// Package nexmark is the Nexmark suite for tests and benchmarks: a seeded generator of its three streams and its 24 queries.
//
// The generator follows the facts of the reference generator (proportions, hot keys, sizes, lead ids), but every event is a function of
// the seed and of its number alone, so that runs can be repeated, cut and split.
package nexmark
