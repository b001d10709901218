/** The log, and the numbers of the shards, of `<log>.<shard>-<seq>[,<shard>-<seq>…]`. */
function parts(position: string): [string, Map<string, number>] {
  const dot = position.lastIndexOf('.')
  const shards = position.slice(dot + 1).split(',')
  return [position.slice(0, dot), new Map(shards.map((s) => s.split('-') as [string, string]).map(([shard, seq]) => [shard, Number(seq)]))]
}

/**
 * Whether rows at position contain everything up to target. A position of another log is taken to do so: the log of target is
 * gone, and what the server says is the truth.
 * @internal
 */
export function reaches(position: string, target: string): boolean {
  const [log, have] = parts(position)
  const [other, want] = parts(target)
  return log !== other || [...want].every(([shard, seq]) => (have.get(shard) ?? -1) >= seq)
}
