// Package flow runs an app: a plan goes in ([Program]), then one batch of the log after the other, and out of each batch
// comes one epoch of changes ([Engine.Apply]).
//
// It owns the rows of kept tables, the memory of what was seen before (primary keys and request keys), and the state of every
// view's operators. It promises that the state after a batch is a pure function of the log up to there and of the program:
// no clock, no random number, no order of a map and no goroutine reaches a result, so replay is recovery and two engines
// are compared by their [Engine.Fingerprint]. Operators work on Z-sets, rows with weights: an update is a removal and an
// insertion, and every operator is right for both.
//
// Limits: an update or delete that matches more than [Options.MaxMatches] rows is refused whole; state lives in memory; a view
// with more of it than [Options.MaxViewBytes] stops, as does one that passes another of the limits there (see [Engine.Stopped]), and the
// rest goes on; expressions of views may not read now() or the caller. A row whose expression fails stays out of the view and is counted
// until it is retracted (see [ViewStats] and [ErrorsRelation]). An error of Apply means that the log cannot be read by this program: the engine
// must not be used any more. Nothing here starts a goroutine or needs to be stopped. DESIGN.md beside this file tells how the
// state is laid out and what keeps it deterministic.
package flow
