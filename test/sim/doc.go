// Package sim runs the parts of Laaster that decide what is kept (the door and its writer, the shard, the engine, the views, the checkpoints, the resume
// of a subscriber) over a simulated log, disk and clock, through histories of crashes and power cuts that follow from a seed.
//
// Everything happens in a bubble of testing/synctest: a scheduler chooses one step at a time (a client writes, the log answers or loses its answer, the
// engine applies, the disk does one operation of a checkpoint, the process dies, the power goes) and waits until all goroutines rest. After each step
// and after each recovery the invariants are checked: what was acknowledged is there, nothing is there twice, a position that was told is for ever of
// the same batch, the state after a recovery is the one that was, a subscriber gets every change or is told that it does not.
//
// There is nothing but tests here. LAASTER_SEEDS is how many histories are run, LAASTER_SEED the first; a failure names the seed that repeats it.
package sim
