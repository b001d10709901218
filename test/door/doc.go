// Package door attacks the real binary from the network, and has good clients beside each attack: they are answered all the time, the attack gets nothing,
// and the server's memory stays near what it was. It has no code of its own outside its tests.
//
// LAASTER_DOOR_PAIRS=5 measures instead: for each attack so many pairs of a calm and an attacked time, and prints by how much the good clients' p99 grew (the
// median of the pairs) and the server's memory at its highest above idle. The good clients are a process of their own then, and the attackers' comes after all
// others: what attackers compute costs processors of their own, elsewhere.
package door
