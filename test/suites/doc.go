// Package suites holds Laaster's SQL against statements that PostgreSQL's regression tests and RisingWave's streaming tests are
// about, in a scripted format of its own (testdata/README.md): text in, text out. Where PostgreSQL is installed the same statements
// run there, and both must give what the scripts say. docs/sql-support.md is made from the scripts.
package suites
