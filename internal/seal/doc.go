// Package seal encrypts and authenticates what is at rest: record batches and checkpoint pages.
//
// A [Ring] is the keys of a data folder: the first one seals, all open. So rotation is a new line on top of the key file and a restart; nothing
// is rewritten, and an old key may go once nothing sealed with it is left. What is sealed is bound to the caller's associated data, which
// says what the bytes are and where they belong: moved elsewhere they do not open.
//
// The cipher is XChaCha20-Poly1305 with a random nonce for each sealing, so there is nothing to count and nothing to keep. It does not hide lengths,
// and it does not tell an older sealed form of the same place from the newest one: what must not be rolled back says so in its associated data.
//
// No error and no method of this package tells anything of a key but its id.
package seal
