// Package audit keeps the audit trail: what privileged acts were done, by whom, and, where a table asks for it, who read it.
//
// A record enters through the log (change.EntryAudit), so it is as durable and as ordered as everything else; a [Trail] copies the records out
// of the applied batches into files of their own, which retention does not trim. Each record carries the digest of the one before, so an edit, a
// record that was dropped or put elsewhere breaks the chain. Every [SealEvery] records, and when the server stops, a seal is made: the number and the digest of
// the last record, signed with the trail's Ed25519 key. [Verify] needs the files alone.
//
// What it cannot show alone: who can write the data folder can also put back a whole older state of it, and, having the key, sign
// another history. Against that seals go to a witness, a file on another machine's disk, of which [Verify] asks that the trail has every seal
// in it.
//
// Files, in the folder audit of the data folder: trail (the records, a line each), seals (a line each), key and key.pub. Writing is done
// by one goroutine; a record costs one write, syncs are made with the seals, since the log has the records too: after a crash the replay
// brings those that are missing.
package audit
