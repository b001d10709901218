// Package expr owns values and expressions: how every SQL type is read and printed, how expressions are typed and
// evaluated, and the filters of reads and writes.
//
// What it promises:
//
//   - Values follow PostgreSQL: input and output syntax, typing rules, casts, NULL logic, numeric scales, overflow errors.
//     docs/sql-values.md lists what is covered and every known difference. The C collation and UTC hold everywhere.
//   - A compiled expression ([Func]) is a pure function of its [Ctx]: the row, the time and the caller. No clock, no
//     locale, no map order; what a time zone means is fixed in the program. The one exception is gen_random_uuid(), whose
//     [Function] says [Volatile], so that a binder can refuse it where replay must repeat the answer.
//   - In the steady state an evaluation allocates nothing but errors: produced bytes go to the Ctx's scratch memory, and a
//     Value that a Func returns is valid until [Ctx.Reset] or until the row is reused.
//
// Limits: a value made by an expression or read from text takes at most [MaxValue] bytes; jsonb nests at most
// [MaxDepth] deep; a filter has at most 8 KiB, 100 conditions 16 deep and 1,000 values in a list; matching a pattern is
// bounded in its work. Beyond them: an error, never a panic.
//
// Node, Function, Relation and Filter are read-only once built and may be shared by goroutines; a Func may run on many
// goroutines at a time with a Ctx each.
package expr
