// Package testkit is what tests of several rooms share: a private PostgreSQL to compare answers with, and the one way to
// say that something a test needs is missing on this machine. Nothing but tests imports it.
package testkit
