import assert from 'node:assert/strict'
import { test } from 'node:test'
import { surroundings } from '../src/env.ts'
import { connect, Problem, type State } from '../src/index.ts'
import { generator, settle, World } from './fake.ts'

const names = (states: State[]) => states.map((s) => s.name).join(' ')

function start(w: World, options = {}) {
  const client = connect('http://server', { environment: w.environment, ...options })
  const states: State[] = [client.state]
  client.onState((s) => states.push(s))
  return { client, states }
}

test('connecting, catching up, live', async () => {
  const w = new World()
  const { client, states } = start(w, { client: 'board/2' })
  const c = client.subscribe('tally', { filter: { run: 'eq.7 a' }, select: ['k', 'n'], order: 'n.desc' })
  assert.equal(w.socket.url, 'ws://server/v1/live')
  assert.equal(w.socket.protocol, 'laaster.v1')
  const hello = await w.socket.welcome()
  assert.deepEqual(hello, {
    type: 'hello',
    client: { name: 'board', version: '2' },
    instance: 'key0',
    subscribe: [{ id: 's1', view: 'tally', filter: 'run=eq.7+a', select: 'k,n', order: 'n.desc', from: null }],
  })
  assert.equal(c.freshness.name, 'loading')
  await w.socket.say({ type: 'snapshot', id: 's1', position: 'p-1', key: ['k'], rows: [{ k: 'a', n: 1 }], more: false })
  assert.equal(c.freshness.name, 'live')
  assert.equal(names(states), 'connecting catching_up live')
  client.close()
  assert.equal(names(states), 'connecting catching_up live closed')
  assert.equal(w.time.timers, 0, 'close leaves no timer')
  assert.equal(w.wakers, 0, 'close leaves no listener')
  assert.ok(w.socket.closed)
})

test('back-off doubles with full jitter and is capped', async () => {
  const w = new World()
  w.random = 0.5
  const { client } = start(w)
  const waits: number[] = []
  for (let i = 0; i < 8; i++) {
    await w.socket.cut()
    const s = client.state
    assert.equal(s.name, 'connecting')
    if (s.name === 'connecting') waits.push(s.retryAt - w.time.now)
    const opened = w.sockets.length
    await w.time.advance(waits.at(-1)! - 1)
    assert.equal(w.sockets.length, opened, 'not before its time')
    await w.time.advance(1)
    assert.equal(w.sockets.length, opened + 1)
  }
  assert.deepEqual(waits, [125, 250, 500, 1000, 2000, 4000, 5000, 5000])
  client.close()
})

test('goodbye says when to come back', async () => {
  const w = new World()
  const { client } = start(w)
  await w.socket.welcome()
  await w.socket.say({ type: 'goodbye', code: 'draining', reason: 'restarting', retry_after_ms: 3210 })
  await w.socket.cut(1001)
  const s = client.state
  assert.ok(s.name === 'stale')
  assert.equal(s.retryAt, w.time.now + 3210)
  assert.equal(s.reason?.code, 'draining')
  client.close()
})

test('a goodbye without a time leaves the pace to the back-off', async () => {
  const w = new World()
  w.random = 1
  const { client } = start(w)
  for (const expected of [250, 500]) {
    await w.socket.welcome()
    await w.socket.say({ type: 'goodbye', code: 'too_large', reason: 'a frame', retry_after_ms: 0 })
    await w.socket.cut(1009)
    assert.equal(client.state.name === 'stale' && client.state.retryAt - w.time.now, expected)
    await w.time.advance(expected)
  }
  client.close()
})

test('a refusal with a time to wait is not for good', async () => {
  const w = new World()
  const { client } = start(w)
  await w.socket.accept()
  await w.socket.say({ type: 'error', error: { code: 'invalid_request', detail: 'no hello came', retry: 'after', retry_after_ms: 900 } as never })
  await w.socket.say({ type: 'goodbye', code: 'invalid_request', reason: 'no hello came', retry_after_ms: 0 })
  await w.socket.cut(1008)
  assert.equal(client.state.name === 'connecting' && client.state.retryAt - w.time.now, 900)
  client.close()
})

test('a subscription larger than a frame may be is refused here', async () => {
  const w = new World()
  const { client } = start(w)
  await w.socket.welcome({ frame_bytes: 200 })
  const c = client.subscribe('tally', { filter: 'k=eq.' + 'x'.repeat(200) })
  assert.equal(c.freshness.name === 'refused' && c.freshness.problem.code, 'too_large')
  assert.ok(!w.socket.has('subscribe'))
  assert.equal(client.state.name, 'live')
  client.close()
})

test('the clock counts on while the machine sleeps, and never steps back', (t) => {
  let ran = 0
  let date = performance.timeOrigin
  t.mock.method(performance, 'now', () => ran)
  t.mock.method(Date, 'now', () => date)
  const { now } = surroundings()
  const start = now()
  const passed = () => Math.round(now() - start)
  ran += 10
  date += 10
  assert.equal(passed(), 10)
  date += 3_600_000 // asleep
  assert.equal(passed(), 3_600_010)
  ran += 5
  date -= 7_200_000 // somebody sets the clock
  assert.equal(passed(), 3_600_015)
})

test('attempts start again from zero only after a calm spell', async () => {
  const w = new World()
  w.random = 1
  const { client } = start(w)
  const wait = () => (client.state.name === 'stale' ? client.state.retryAt - w.time.now : NaN)
  for (const expected of [250, 500, 1000]) {
    await w.socket.welcome()
    await w.time.advance(100)
    await w.socket.cut()
    assert.equal(wait(), expected)
    await w.time.advance(expected)
  }
  await w.socket.welcome()
  await w.time.advance(6000)
  await w.socket.cut()
  assert.equal(wait(), 250)
  client.close()
})

test('no welcome in time: the attempt is given up', async () => {
  const w = new World()
  const { client } = start(w)
  await w.socket.accept()
  await w.time.advance(9_999)
  assert.equal(w.sockets.length, 1)
  await w.time.advance(1000)
  assert.equal(w.sockets.length, 2)
  assert.ok(w.sockets[0]!.closed)
  client.close()
})

test('a silent socket is pinged, then given up; pongs keep it', async () => {
  const w = new World()
  const { client } = start(w)
  await w.socket.welcome()
  for (let i = 0; i < 20; i++) {
    while (w.socket.has('ping')) await w.socket.say({ type: 'pong', t: w.socket.take('ping').t, now: w.time.now })
    await w.time.advance(2_500)
  }
  assert.equal(client.state.name, 'live')
  assert.equal(w.sockets.length, 1)
  await w.time.advance(40_000)
  assert.notEqual(client.state.name, 'live')
  assert.ok(w.sockets[0]!.closed)
  client.close()
})

test('a throttled tab whose timers fire late does not give up a healthy socket', async () => {
  const w = new World()
  const { client } = start(w)
  await w.socket.welcome()
  while (w.socket.has('ping')) await w.socket.say({ type: 'pong', t: w.socket.take('ping').t, now: w.time.now })
  await w.time.freeze(60_000) // one timer a minute
  assert.equal(client.state.name, 'live')
  const ping = w.socket.take('ping')
  await w.socket.say({ type: 'pong', t: ping.t, now: w.time.now })
  assert.equal(client.state.name, 'live')
  assert.equal(w.sockets.length, 1)
  client.close()
})

test('stale says since when: the last time that the server was heard', async () => {
  const w = new World()
  const { client } = start(w)
  await w.socket.welcome()
  await w.time.advance(1000)
  await w.socket.say({ type: 'epoch', position: 'p-2', at: 1, changes: {} })
  const heard = w.time.now
  await w.time.advance(700)
  await w.socket.cut()
  assert.equal(client.state.name === 'stale' && client.state.since, heard)
  await w.time.advance(500)
  await w.socket.cut()
  assert.equal(client.state.name === 'stale' && client.state.since, heard, 'failed attempts do not move it')
  client.close()
})

test('waking cuts the wait short', async () => {
  const w = new World()
  w.random = 1
  const { client } = start(w)
  await w.socket.cut()
  await w.time.advance(10)
  await w.wake()
  assert.equal(w.sockets.length, 2)
  await w.socket.welcome()
  w.socket.sent.length = 0
  await w.wake()
  assert.ok(w.socket.has('ping'), 'an open socket is asked whether it lives')
  client.close()
})

test('a refusal without a retry ends it, with the reason', async () => {
  const w = new World()
  const { client } = start(w)
  const c = client.subscribe('tally')
  const failed = assert.rejects(c.ready, (p: Problem) => p.code === 'forbidden')
  await w.socket.accept()
  await w.socket.say({ type: 'error', error: { code: 'forbidden', detail: 'not for you', retry: 'no' } as never })
  await w.socket.cut(1008)
  const s = client.state
  assert.equal(s.name === 'closed' && s.reason?.code, 'forbidden')
  assert.equal(c.freshness.name, 'refused')
  await failed
  await w.time.advance(60_000)
  assert.equal(w.sockets.length, 1)
})

test('an expired token is asked anew from a function', async () => {
  const w = new World()
  let n = 0
  const { client } = start(w, { token: async () => 'token' + ++n })
  await w.socket.accept()
  assert.equal(w.socket.take('hello').token, 'token1')
  await w.socket.say({ type: 'error', error: { code: 'token_expired' } as never })
  await w.socket.cut()
  await w.time.advance(1000)
  await w.socket.accept()
  assert.equal(w.socket.take('hello').token, 'token2')
  client.close()
})

test('a token function that fails is an attempt that failed', async () => {
  const w = new World()
  const { client } = start(w, { token: () => Promise.reject(new Error('login is down')) })
  await w.socket.accept()
  const s = client.state
  assert.match(s.name === 'connecting' ? s.reason!.message : '', /login is down/)
  client.close()
})

test('the server may say that it stands still', async () => {
  const w = new World()
  const { client, states } = start(w)
  const c = client.subscribe('tally')
  const freshness = () => c.freshness.name
  await w.socket.welcome()
  await w.socket.say({ type: 'snapshot', id: 's1', position: 'p-1', key: ['k'], rows: [], more: false })
  await w.socket.say({ type: 'freshness', state: 'stale', since: 1 })
  assert.equal(freshness(), 'stale')
  await w.socket.say({ type: 'freshness', state: 'catching_up', since: 1 })
  assert.equal(freshness(), 'catching_up')
  await w.socket.say({ type: 'freshness', state: 'live', since: 1 })
  assert.equal(freshness(), 'live')
  assert.equal(names(states), 'connecting catching_up live stale catching_up live')
  client.close()
})

test('a frame that is not JSON drops the connection, an unknown one is ignored', async () => {
  const w = new World()
  const { client } = start(w)
  await w.socket.welcome()
  await w.socket.say({ type: 'novelty' } as never)
  assert.equal(w.sockets.length, 1)
  await w.socket.raw('{')
  assert.equal(client.state.name, 'stale')
  client.close()
})

test('the clock follows the shortest round trip', async () => {
  const w = new World()
  w.time.skew = 5000
  const { client } = start(w)
  await w.socket.welcome()
  const pong = async (there: number, back: number) => {
    const { t } = w.socket.take('ping')
    w.time.now += there
    const now = w.time.now + w.time.skew
    w.time.now += back
    await w.socket.say({ type: 'pong', t, now })
  }
  assert.equal(client.now() - w.time.now, 5000) // hello and welcome took no time
  w.time.skew = 5100
  await w.socket.cut()
  await w.time.advance(10_000)
  await w.socket.accept()
  w.time.now += 400 // a slow welcome
  await w.socket.say({ type: 'welcome', session: 'y', now: w.time.now + 5100, log: 'l', limits: {} as never })
  assert.equal(client.now() - w.time.now, 5300, 'half of 400 ms wrong')
  await pong(80, 0)
  assert.equal(client.now() - w.time.now, 5140)
  await pong(5, 5)
  assert.equal(client.now() - w.time.now, 5100)
  await pong(300, 0)
  assert.equal(client.now() - w.time.now, 5100)
  assert.equal(client.pulse().rtt, 10)
  client.close()
})

test('nothing keeps running after close, whenever it comes', async () => {
  for (const when of ['at once', 'accepted', 'welcome', 'down']) {
    const w = new World()
    const { client } = start(w)
    client.subscribe('tally')
    if (when === 'accepted') await w.socket.accept()
    if (when === 'welcome') await w.socket.welcome()
    if (when === 'down') await w.socket.cut()
    client.close()
    await settle()
    assert.equal(w.time.timers, 0, when)
    await w.time.advance(100_000)
    assert.equal(w.sockets.length, 1, when)
  }
})

test('a socket that fails without a close is given up at once', async () => {
  const w = new World()
  const { client } = start(w)
  w.socket.onerror?.({})
  assert.ok(client.state.name === 'connecting' && client.state.retryAt > 0)
  assert.ok(w.sockets[0]!.closed)
  await w.time.advance(1000)
  assert.equal(w.sockets.length, 2)
  client.close()
})

test('frames that make no sense end the connection, and nothing else', async () => {
  const random = generator(11)
  const pick = <T>(list: T[]): T => list[Math.floor(random() * list.length)]!
  const good: object[] = [
    { type: 'welcome', session: 's', now: 1, log: 'l', limits: { frame_bytes: 1 } },
    { type: 'snapshot', id: 's1', position: 'l.0-1', key: ['k'], rows: [{ k: 1 }], more: false },
    { type: 'resumed', id: 's1', position: 'l.0-1' },
    { type: 'gap', id: 's1', kept_from: 'l.0-1' },
    { type: 'epoch', position: 'l.0-2', at: 1, changes: { s1: { put: [{ k: 2 }], del: [[1]] } } },
    { type: 'signals', id: 's2', full: true, key: ['k'], put: [{ k: 1 }] },
    { type: 'result', id: 'w1', position: 'l.0-2', final: true, accepted: 1, duplicates: 0, rejected: [] },
    { type: 'freshness', id: 's1', state: 'stale', since: 1 },
    { type: 'error', id: 's1', error: { code: 'busy', retry: 'after' } },
    { type: 'goodbye', code: 'draining', reason: 'r', retry_after_ms: 1 },
    { type: 'pong', t: 1, now: 1 },
  ]
  const odd: unknown[] = [null, 0, -1, '', 'x', [], {}, [[]], [null], { a: null }, true]
  const uncaught: unknown[] = []
  const was = console.error
  console.error = (e) => void uncaught.push(e)
  for (let i = 0; i < 500; i++) {
    const w = new World()
    const { client } = start(w, { offline: true })
    client.subscribe('tally')
    client.channel('typing')
    client.insert('votes', {}, { queue: false }).catch(() => {})
    await w.socket.accept()
    await w.socket.say(good[0] as never)
    for (let n = 0; n < 4 && !w.socket.closed; n++) {
      const f = structuredClone(pick(good)) as Record<string, unknown>
      f[pick(Object.keys(f))] = pick(odd)
      await w.socket.raw(JSON.stringify(random() < 0.1 ? pick(odd) : f))
    }
    client.close()
    assert.equal(client.state.name, 'closed')
    await w.time.advance(20)
    assert.equal(w.time.timers, 0)
  }
  console.error = was
  assert.deepEqual(uncaught, [])
})
