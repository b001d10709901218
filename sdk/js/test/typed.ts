// What the compiler knows of an app: checked by tsc, not run.

import { connect, type Collection } from '../src/index.ts'

interface Schema {
  views: { scoreboard: { country: string; total: number }; here: { name: string } }
  tables: { votes: { id?: string; to: string; points: number } }
  channels: { typing: { room: string; line: number | null } }
}

export async function typed(): Promise<void> {
  const client = connect<Schema>()
  const board: Collection<{ country: string; total: number }> = client.subscribe('scoreboard', { compare: (a, b) => a.total - b.total })
  const total: number | undefined = board.rows[0]?.total
  // @ts-expect-error: no such column
  board.rows[0]?.points
  // @ts-expect-error: no such view
  client.subscribe('scorebord')
  await client.insert('votes', { to: 'UA', points: 12 })
  // @ts-expect-error: a column is missing
  await client.insert('votes', { to: 'UA' })
  // @ts-expect-error: no such table
  await client.insert('vote', { to: 'UA', points: 12 })
  // @ts-expect-error: another type
  await client.update('votes', 'id=eq.1', { points: 'many' })
  client.channel('typing').set({ line: 3 }, { room: 'a' })
  // @ts-expect-error: no such column
  client.channel('typing').set({ lines: 3 })
  console.log(total)

  const loose = connect()
  const rows: readonly Record<string, unknown>[] = loose.subscribe('anything').rows
  const own: readonly { n: number }[] = loose.subscribe<{ n: number }>('tally', { compare: (a, b) => a.n - b.n }).rows
  await loose.insert('anything', { whatever: 1 })
  loose.presence<{ name: string }>('here', { name: 'Ann' }).onChange(({ changes }) => changes[0]?.row?.name)
  console.log(rows, own)
}
