// Package limit bounds how much each caller may do, and stops those who do nothing but harm.
//
// It owns the rates (GCRA: one number for each key says when what was used is whole again) and the scores of faults, both in tables of fixed size. It
// promises that a decision takes no lock and no memory while the key is known, that a caller with a verified token is judged by what he
// does alone, never by his address, and that a million addresses take 32 MiB, allocated as they come. It never waits: who is beyond a rate is told when to come
// again. At the bound of keys a new address begins with the least that another has left (a flood of addresses gains nothing), and a new subject or
// table begins afresh.
//
// The rooms that serve clients ask through interfaces of their own; [Guard] implements them.
package limit
