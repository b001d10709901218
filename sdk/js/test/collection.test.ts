import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connect, type Change } from '../src/index.ts'
import { comparison } from '../src/order.ts'
import type { ServerFrame, WireRow } from '../src/wire.ts'
import { World } from './fake.ts'

type Tally = { k: string; n: number | null }

const snapshot = (id: string, position: string, rows: WireRow[], more = false): ServerFrame => ({
  type: 'snapshot', id, position, key: ['k'], rows, more,
})

async function live(...rows: WireRow[]) {
  const w = new World()
  const client = connect('http://server', { environment: w.environment })
  const c = client.subscribe<Tally>('tally', { order: 'n.desc' })
  const heard: Change<Tally>[] = []
  c.onChange((x) => heard.push(x))
  await w.socket.welcome()
  await w.socket.say(snapshot('s1', 'p-1', rows))
  return { w, client, c, heard }
}

test('snapshot, then changes, in order', async () => {
  const { w, client, c, heard } = await live({ k: 'a', n: 1 }, { k: 'b', n: 2 })
  assert.equal(await c.ready, c)
  assert.deepEqual(c.rows.map((r) => r.k), ['b', 'a'])
  assert.deepEqual(c.key, ['k'])
  const before = c.rows
  assert.equal(c.rows, before, 'the same array while nothing changed')
  await w.socket.say({
    type: 'epoch', position: 'p-2', at: 5,
    changes: { s1: { put: [{ k: 'a', n: 9 }, { k: 'c', n: 3 }], del: [['b']] } },
  })
  assert.deepEqual(c.rows, [{ k: 'a', n: 9 }, { k: 'c', n: 3 }])
  assert.notEqual(c.rows, before)
  assert.deepEqual(c.get('a'), { k: 'a', n: 9 })
  assert.equal(c.size, 2)
  assert.equal(c.position, 'p-2')
  assert.deepEqual(heard, [
    { cause: 'snapshot', position: 'p-1', at: NaN, changes: [{ op: 'insert', row: { k: 'a', n: 1 } }, { op: 'insert', row: { k: 'b', n: 2 } }] },
    {
      cause: 'epoch', position: 'p-2', at: 5,
      changes: [
        { op: 'delete', old: { k: 'b', n: 2 } },
        { op: 'update', row: { k: 'a', n: 9 }, old: { k: 'a', n: 1 } },
        { op: 'insert', row: { k: 'c', n: 3 } },
      ],
    },
  ])
  client.close()
})

test('an epoch is applied to all subscriptions before anybody is told', async () => {
  const w = new World()
  const client = connect('http://server', { environment: w.environment })
  const a = client.subscribe<Tally>('a')
  const b = client.subscribe<Tally>('b')
  await w.socket.welcome()
  await w.socket.say(snapshot('s1', 'p-1', []), snapshot('s2', 'p-1', []))
  const seen: string[] = []
  const look = () => seen.push(`${a.size}${b.size}`)
  a.onChange(look)
  b.onChange(look)
  client.onEpoch((e) => seen.push(e.changed.map((c) => c.view).join('+')))
  await w.socket.say({ type: 'epoch', position: 'p-2', at: 1, changes: { s1: { put: [{ k: 'x', n: 1 }] }, s2: { put: [{ k: 'x', n: 1 }] } } })
  assert.deepEqual(seen, ['11', '11', 'a+b'])
  client.close()
})

test('pages are shown whole; changes between pages come after them', async () => {
  const w = new World()
  const client = connect('http://server', { environment: w.environment })
  const c = client.subscribe<Tally>('tally')
  const sizes: number[] = []
  c.onChange(() => sizes.push(c.size))
  await w.socket.welcome()
  await w.socket.say(snapshot('s1', 'p-5', [{ k: 'a', n: 1 }], true))
  await w.socket.say({ type: 'epoch', position: 'p-6', at: 1, changes: { s1: { put: [{ k: 'b', n: 7 }], del: [['a']] } } })
  assert.equal(c.size, 0)
  assert.equal(c.freshness.name, 'loading')
  await w.socket.say(snapshot('s1', 'p-5', [{ k: 'b', n: 2 }]))
  assert.deepEqual(c.rows, [{ k: 'b', n: 7 }])
  assert.equal(c.position, 'p-6')
  assert.deepEqual(sizes, [1, 1], 'told of the snapshot and of the epoch, both with the final rows')
  client.close()
})

test('a cut keeps the rows, marked; a resume keeps them as they are', async () => {
  const { w, client, c, heard } = await live({ k: 'a', n: 1 })
  await w.socket.say({ type: 'epoch', position: 'p-4', at: 1, changes: {} })
  const cutAt = w.time.now
  await w.time.advance(300)
  const rows = c.rows
  await w.socket.cut()
  assert.deepEqual(c.freshness, { name: 'stale', since: cutAt })
  assert.equal(c.rows, rows)
  await w.time.advance(10_000)
  const hello = await w.socket.welcome()
  assert.equal(hello.resume, 'p-4')
  assert.deepEqual(hello.subscribe, [{ id: 's1', view: 'tally', order: 'n.desc' }], 'from is the cursor of the connection')
  assert.deepEqual(c.freshness, { name: 'catching_up', since: cutAt })
  await w.socket.say({ type: 'resumed', id: 's1', position: 'p-4' })
  assert.equal(c.freshness.name, 'live')
  assert.equal(c.rows, rows)
  assert.equal(heard.length, 1)
  client.close()
})

test('a snapshot after a cut becomes a difference; equal rows stay the same objects', async () => {
  const { w, client, c, heard } = await live({ k: 'a', n: 1 }, { k: 'b', n: 2 }, { k: 'c', n: 3 })
  const a = c.get('a')
  await w.socket.cut()
  await w.time.advance(10_000)
  await w.socket.welcome()
  await w.socket.say(snapshot('s1', 'p-9', [{ k: 'a', n: 1 }], true))
  assert.equal(c.size, 3, 'old rows until the new ones are whole')
  await w.socket.say(snapshot('s1', 'p-9', [{ k: 'c', n: 4 }, { k: 'd', n: 5 }]))
  assert.equal(c.get('a'), a)
  assert.deepEqual(heard.at(-1), {
    cause: 'snapshot', position: 'p-9', at: NaN,
    changes: [
      { op: 'delete', old: { k: 'b', n: 2 } },
      { op: 'update', row: { k: 'c', n: 4 }, old: { k: 'c', n: 3 } },
      { op: 'insert', row: { k: 'd', n: 5 } },
    ],
  })
  client.close()
})

test('a cut in the middle of new pages: the old rows are still the ones to resume from', async () => {
  const { w, client, c } = await live({ k: 'a', n: 1 })
  const other = client.subscribe('other')
  await w.socket.say(snapshot('s2', 'p-1', []))
  await w.socket.say({ type: 'epoch', position: 'p-3', at: 1, changes: {} })
  await w.socket.cut()
  await w.time.advance(10_000)
  await w.socket.welcome()
  await w.socket.say({ type: 'resumed', id: 's2', position: 'p-3' }, snapshot('s1', 'p-8', [{ k: 'z', n: 1 }], true))
  await w.socket.say({ type: 'epoch', position: 'p-9', at: 1, changes: {} })
  await w.socket.cut()
  await w.time.advance(10_000)
  const hello = await w.socket.welcome()
  assert.equal(hello.resume, 'p-9')
  assert.deepEqual(hello.subscribe!.map((s) => s.from), ['p-3', undefined])
  assert.deepEqual(c.rows, [{ k: 'a', n: 1 }])
  assert.equal(other.position, 'p-9')
  client.close()
})

test('gap: the rows are replaced and the listener is told that history is missing', async () => {
  const { w, client, c, heard } = await live({ k: 'a', n: 1 })
  await w.socket.cut()
  await w.time.advance(10_000)
  await w.socket.welcome()
  await w.socket.say({ type: 'gap', id: 's1', kept_from: 'p-90' })
  assert.equal(c.freshness.name, 'catching_up')
  assert.deepEqual(c.rows, [{ k: 'a', n: 1 }])
  await w.socket.say(snapshot('s1', 'p-99', []))
  assert.equal(heard.at(-1)!.cause, 'gap')
  assert.equal(c.size, 0)
  client.close()
})

test('subscribing on a live connection leaves the rest alone', async () => {
  const { w, client } = await live({ k: 'a', n: 1 })
  const states: string[] = []
  client.onState((s) => states.push(s.name))
  const d = client.subscribe('more')
  assert.deepEqual(w.socket.take('subscribe'), { type: 'subscribe', id: 's2', view: 'more', from: null })
  await w.socket.say(snapshot('s2', 'p-7', [{ k: 'x' }]))
  assert.equal(d.freshness.name, 'live')
  assert.deepEqual(states, [])
  // its snapshot is later than the cursor: it names its own position
  await w.socket.cut()
  await w.time.advance(10_000)
  const hello = await w.socket.welcome()
  assert.equal(hello.resume, 'p-1')
  assert.deepEqual(hello.subscribe!.map((s) => s.from), [undefined, 'p-7'])
  client.close()
})

test('subscribed and closed while the hello is on its way', async () => {
  const w = new World()
  let token!: (t: string) => void
  const client = connect('http://server', { environment: w.environment, token: () => new Promise<string>((r) => (token = r)) })
  const early = client.subscribe('early')
  await w.socket.accept()
  token('t')
  await w.time.advance(0)
  assert.equal(w.socket.take('hello').subscribe!.length, 1)
  early.close()
  client.subscribe('late')
  await w.socket.say({ type: 'welcome', session: '', now: 1, log: '', limits: {} as never })
  assert.equal(w.socket.take('unsubscribe').id, 's1')
  assert.equal(w.socket.take('subscribe').id, 's2')
  client.close()
})

test('close ends a subscription and keeps the rows', async () => {
  const { w, client, c } = await live({ k: 'a', n: 1 })
  c.close()
  c.close()
  assert.equal(w.socket.take('unsubscribe').id, 's1')
  assert.equal(w.socket.has('unsubscribe'), false)
  await w.socket.say({ type: 'epoch', position: 'p-2', at: 1, changes: { s1: { put: [{ k: 'b', n: 1 }] } } })
  assert.equal(c.size, 1)
  assert.equal(c.freshness.name, 'closed')
  client.close()
})

test('a refused subscription says why; the others go on', async () => {
  const w = new World()
  const client = connect('http://server', { environment: w.environment })
  const bad = client.subscribe('nothing')
  const good = client.subscribe('tally')
  await w.socket.welcome()
  await w.socket.say({ type: 'error', id: 's1', error: { code: 'unknown_view', detail: 'no view nothing', hint: 'tally?', retry: 'no' } as never })
  assert.equal(bad.freshness.name === 'refused' && bad.freshness.problem.hint, 'tally?')
  await assert.rejects(bad.ready, /no view nothing/)
  await w.socket.say(snapshot('s2', 'p-1', []))
  assert.equal(good.freshness.name, 'live')
  assert.equal(client.state.name, 'live')
  client.close()
})

test('a busy server is asked again for the subscription', async () => {
  const w = new World()
  const client = connect('http://server', { environment: w.environment })
  client.subscribe('tally')
  await w.socket.welcome()
  await w.socket.say({ type: 'error', id: 's1', error: { code: 'busy', retry: 'after', retry_after_ms: 700 } as never })
  await w.time.advance(699)
  assert.equal(w.socket.has('subscribe'), false)
  await w.time.advance(1)
  assert.equal(w.socket.take('subscribe').id, 's1')
  client.close()
})

test('a listener that throws disturbs nobody', async () => {
  const { w, client, c } = await live()
  const reported: unknown[] = []
  const was = console.error
  console.error = (e) => void reported.push(e)
  c.onChange(() => {
    throw new Error('mine')
  })
  let told = 0
  c.onChange(() => told++)
  await w.socket.say({ type: 'epoch', position: 'p-2', at: 1, changes: { s1: { put: [{ k: 'a', n: 1 }] } } })
  console.error = was
  assert.equal(told, 1)
  assert.equal(reported.length, 1)
  client.close()
})

test('a listener may end its own or another subscription', async () => {
  const { w, client, c } = await live()
  let told = 0
  const stop = c.onChange(() => {
    told++
    stop()
    client.close()
  })
  await w.socket.say({ type: 'epoch', position: 'p-2', at: 1, changes: { s1: { put: [{ k: 'a', n: 1 }] } } })
  assert.equal(told, 1)
  assert.equal(client.state.name, 'closed')
})

test('a view of one row has an empty key', async () => {
  const w = new World()
  const client = connect('http://server', { environment: w.environment })
  const c = client.subscribe<{ n: number }>('total')
  await w.socket.welcome()
  await w.socket.say({ type: 'snapshot', id: 's1', position: 'p-1', key: [], rows: [{ n: 0 }], more: false })
  await w.socket.say({ type: 'epoch', position: 'p-2', at: 1, changes: { s1: { put: [{ n: 5 }] } } })
  assert.deepEqual(c.rows, [{ n: 5 }])
  assert.deepEqual(c.get(), { n: 5 })
  client.close()
})

test('order: numbers, text by code points, booleans, NULLs, ties by key', () => {
  const sorted = (order: string, rows: WireRow[]) => [...rows].sort(comparison(order, ['k'])).map((r) => r['k'])
  const rows = [{ k: 1, n: 10 }, { k: 2, n: 9 }, { k: 3, n: null }, { k: 4, n: 10 }]
  assert.deepEqual(sorted('n', rows), [2, 1, 4, 3])
  assert.deepEqual(sorted('n.desc', rows), [3, 1, 4, 2])
  assert.deepEqual(sorted('n.desc.nullslast', rows), [1, 4, 2, 3])
  assert.deepEqual(sorted('n.asc.nullsfirst', rows), [3, 2, 1, 4])
  assert.deepEqual(sorted('n.desc.nullslast,k.desc', rows), [4, 1, 2, 3])
  assert.deepEqual(sorted('', [{ k: '\u{1F600}' }, { k: '\uFF5E' }, { k: 'Z' }, { k: 'a' }, { k: 'Zz' }]), ['Z', 'Zz', 'a', '\uFF5E', '\u{1F600}'])
  assert.deepEqual(sorted('b', [{ k: 1, b: true }, { k: 2, b: false }]), [2, 1])
})

test('delay: from the stamp to the painted frame, on the aligned clock', async () => {
  const { w, client } = await live()
  const epoch = (position: string, age: number): ServerFrame => ({
    type: 'epoch', position, at: w.time.now - age, changes: { s1: { put: [{ k: 'a', n: age }] } },
  })
  assert.ok(Number.isNaN(client.pulse().p50))
  await w.socket.say(epoch('p-2', 60_000)) // the first after connecting tells how long we were away
  await w.time.advance(16)
  assert.equal(client.pulse().samples, 0)
  for (const age of [4, 5, 6, 94]) {
    await w.socket.say(epoch('p-3', age))
    await w.time.advance(16)
  }
  const { p50, p99, samples, rate } = client.pulse()
  assert.deepEqual({ p50, p99, samples, rate }, { p50: 21, p99: 110, samples: 4, rate: 1 })
  const seen = w.socket.take('seen')
  assert.equal(seen.position, 'p-3')
  assert.equal(seen.shown_ms, 20)
  assert.equal(w.socket.has('seen'), false, 'at most every 5 s')
  await w.time.advance(5_000)
  w.seen = false
  await w.socket.say(epoch('p-4', 1))
  await w.time.advance(100)
  assert.equal(client.pulse().samples, 4, 'nobody looks: nothing is measured')
  w.seen = true
  await w.socket.say(epoch('p-5', 1))
  await w.time.advance(100)
  assert.ok(w.socket.has('seen'))
  await w.time.advance(61_000)
  assert.equal(client.pulse().samples, 0)
  client.close()
})

test('delay by hand: from the oldest epoch that the paint shows', async () => {
  const w = new World()
  const client = connect('http://server', { environment: w.environment, shown: 'manual' })
  client.subscribe('tally')
  await w.socket.welcome()
  await w.socket.say(snapshot('s1', 'p-1', []))
  const put = async (position: string) =>
    w.socket.say({ type: 'epoch', position, at: w.time.now, changes: { s1: { put: [{ k: position, n: 1 }] } } })
  await put('p-2')
  await put('p-3')
  await w.time.advance(50)
  await put('p-4')
  await w.time.advance(10)
  assert.equal(client.pulse().samples, 0)
  client.shown()
  client.shown()
  await w.time.advance(16)
  assert.equal(client.pulse().samples, 1)
  assert.equal(client.pulse().p50, 76)
  client.close()
})

test('a view that is changed: its rows anew, with another key and other columns, take the place of the old ones', async () => {
  const { w, client, c, heard } = await live({ k: 'a', n: 1 }, { k: 'b', n: 2 })
  const other = { type: 'snapshot' as const, id: 's1', position: 'p-7', key: ['room', 'k'] }
  await w.socket.say({ ...other, rows: [{ room: 'x', k: 'a', best: 4 }], more: true })
  assert.deepEqual(c.key, ['k'], 'the old rows are whole until the new ones are')
  assert.equal(c.freshness.name, 'live')
  await w.socket.say({ ...other, rows: [{ room: 'y', k: 'a', best: 5 }], more: false })
  assert.deepEqual(c.key, ['room', 'k'])
  assert.deepEqual(c.rows as unknown[], [{ room: 'x', k: 'a', best: 4 }, { room: 'y', k: 'a', best: 5 }])
  assert.deepEqual(heard.at(-1)!.cause, 'snapshot')
  assert.deepEqual(heard.at(-1)!.changes.map((x) => x.op), ['delete', 'delete', 'insert', 'insert'])
  await w.socket.say({ type: 'epoch', position: 'p-8', at: 1, changes: { s1: { put: [{ room: 'y', k: 'a', best: 9 }], del: [['x', 'a']] } } })
  assert.deepEqual(c.rows as unknown[], [{ room: 'y', k: 'a', best: 9 }])
  assert.equal(c.position, 'p-8')
  client.close()
})

test('a view that stands still says why, alone, until the server says that it goes on', async () => {
  const { w, client, c } = await live({ k: 'a', n: 1 })
  const d = client.subscribe<Tally>('other')
  await w.socket.say(snapshot('s2', 'p-1', []))
  const reason = '5 bytes of state, the limit is 4'
  const told: string[] = []
  c.onFreshness((f) => told.push(f.name))
  await w.socket.say({ type: 'freshness', id: 's1', state: 'stale', since: 1, reason })
  assert.deepEqual(c.freshness, { name: 'stale', since: w.time.now, reason })
  assert.equal(d.freshness.name, 'live')
  assert.equal(client.state.name, 'live')
  assert.equal(c.size, 1, 'the last good rows stay')
  await w.socket.say({ type: 'epoch', position: 'p-2', at: 1, changes: { s2: { put: [{ k: 'z', n: 1 }] } } })
  assert.equal(c.freshness.name, 'stale')
  await w.socket.say({ type: 'freshness', id: 's1', state: 'live', since: 2 }, snapshot('s1', 'p-3', [{ k: 'b', n: 2 }]))
  assert.equal(c.freshness.name, 'live')
  assert.deepEqual(told, ['stale', 'live'])
  client.close()
})

test('asked again with a position, and not answered: epochs are none of its business', async () => {
  const { w, client, c } = await live({ k: 'a', n: 1 })
  const other = client.subscribe('other')
  await w.socket.say(snapshot('s2', 'p-1', []))
  await w.socket.cut()
  await w.time.advance(10_000)
  await w.socket.welcome()
  await w.socket.say({ type: 'error', id: 's1', error: { code: 'busy', retry: 'after', retry_after_ms: 700 } as never }, { type: 'resumed', id: 's2', position: 'p-1' })
  await w.time.advance(700)
  assert.equal(w.socket.take('subscribe').from, 'p-1')
  await w.socket.say({ type: 'epoch', position: 'p-5', at: 1, changes: { s2: { put: [{ k: 'z', n: 1 }] } } })
  assert.deepEqual([c.position, other.position, client.state.name], ['p-1', 'p-5', 'catching_up'])
  await w.socket.cut()
  await w.time.advance(10_000)
  const hello = await w.socket.welcome()
  assert.deepEqual([hello.resume, ...hello.subscribe!.map((s) => s.from)], ['p-5', 'p-1', undefined])
  await w.socket.say({ type: 'resumed', id: 's2', position: 'p-5' }, { type: 'epoch', position: 'p-6', at: 1, changes: {} })
  assert.equal(c.position, 'p-1')
  await w.socket.say({ type: 'resumed', id: 's1', position: 'p-1' }, { type: 'epoch', position: 'p-6', from: 'p-1', at: 1, changes: { s1: { put: [{ k: 'b', n: 2 }] } } })
  assert.deepEqual([c.position, c.size, client.state.name], ['p-6', 2, 'live'])
  client.close()
})
