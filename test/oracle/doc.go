// Package oracle holds the engine against PostgreSQL: random schemas, random queries over every feature of SQL that a view may use, random
// histories, and after each step every view must be what PostgreSQL answers over the same rows. It has tests only.
//
// A case is made from a list of choices, numbers that the generator takes one by one. A failing list is shrunk by leaving out and lowering
// choices as long as it still fails, since the generator makes something simpler of smaller numbers, and something of every list.
package oracle
