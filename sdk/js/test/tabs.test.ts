import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connect, type Client } from '../src/index.ts'
import { sharedSocket, type BusLike } from '../src/tabs.ts'
import { FakeSocket, Locks, settle, World } from './fake.ts'

/** A browser: tabs with one set of locks and one bus. */
class Browser {
  readonly locks = new Locks()
  readonly real: FakeSocket[] = []
  #buses = new Set<BusLike>()

  get socket(): FakeSocket {
    return this.real.at(-1)!
  }

  /** What some tab says, to all of them. */
  post(m: object): void {
    for (const b of this.#buses) b.onmessage?.({ data: m })
  }

  /** Opens a tab. The answer's gone() is the tab's sudden end. */
  tab(token?: () => Promise<string>) {
    const browser = this
    const own: BusLike[] = []
    const held: string[] = []
    let alive = true
    class Bus implements BusLike {
      onmessage: BusLike['onmessage'] = null
      constructor() {
        own.push(this)
        browser.#buses.add(this)
      }
      postMessage(m: unknown) {
        const text = JSON.stringify(m)
        for (const b of browser.#buses) if (b !== this) queueMicrotask(() => b.onmessage?.({ data: JSON.parse(text) }))
      }
      close() {}
    }
    const w = new World()
    const request = (name: string, f: (lock: object | null) => unknown) =>
      this.locks.request(name, ((lock: object) => {
        if (!alive) return undefined
        held.push(name)
        return f(lock)
      }) as never)
    const WebSocket = sharedSocket({
      name: 'ann', locks: { request: request as never }, BroadcastChannel: Bus as never,
      WebSocket: class {
        constructor(url: string, protocol: string) {
          const s = new FakeSocket(url, protocol, w.time)
          browser.real.push(s)
          return s
        }
      } as never,
    })
    const { socket: _, ...environment } = w.environment
    const client: Client = connect('http://server', { environment, WebSocket, ...(token && { token }) })
    return {
      w, client,
      gone: async () => {
        alive = false
        for (const b of own) {
          browser.#buses.delete(b)
          b.onmessage = null
        }
        for (const name of held) this.locks.drop(name)
        await settle()
      },
    }
  }
}

const welcome = { type: 'welcome', session: 'x', now: 5, log: 'l', limits: {} } as never

test('tabs share one connection, each with its own subscriptions', async () => {
  const b = new Browser()
  const one = b.tab()
  const a = one.client.subscribe('tally')
  await settle()
  await b.socket.accept()
  const hello = b.socket.take('hello')
  await b.socket.say(welcome)
  const two = b.tab()
  const c = two.client.subscribe('tally')
  const d = two.client.subscribe('other')
  await settle()
  assert.equal(b.real.length, 1)
  const subs = [b.socket.take('subscribe'), b.socket.take('subscribe')]
  assert.deepEqual(subs.map((s) => [s.view, s.from]), [['tally', null], ['other', null]])
  const ids = [hello.subscribe![0]!.id, ...subs.map((s) => s.id)]
  assert.equal(new Set(ids).size, 3)
  for (const id of ids) await b.socket.say({ type: 'snapshot', id, position: 'p-1', key: ['k'], rows: [], more: false })
  assert.equal(one.client.state.name, 'live')
  assert.equal(two.client.state.name, 'live')
  await b.socket.say({ type: 'epoch', position: 'p-2', at: 1, changes: { [ids[0]!]: { put: [{ k: 'a' }] }, [ids[2]!]: { put: [{ k: 'd' }] } } })
  assert.deepEqual([a.size, c.size, d.size], [1, 0, 1])
  assert.deepEqual([a.position, c.position, d.position], ['p-2', 'p-2', 'p-2'])
  // Writes and pings find their way back.
  const wrote = two.client.insert('votes', {})
  await settle()
  const w = b.socket.take('write')
  await b.socket.say({ type: 'result', id: w.id, position: 'p-3', final: true, accepted: 1, duplicates: 0, rejected: [] })
  assert.equal((await wrote).position, 'p-3')
  two.client.close()
  await settle()
  assert.deepEqual([b.socket.take('unsubscribe').id, b.socket.take('unsubscribe').id].sort(), [ids[1], ids[2]].sort())
  assert.equal(one.client.state.name, 'live')
  one.client.close()
  await settle()
  assert.ok(b.socket.closed, 'the last one closes it')
})

test('the leading tab goes: another takes over and everybody resumes where he was', async () => {
  const b = new Browser()
  const tabs = [b.tab(), b.tab(), b.tab()]
  const cs = tabs.map((t) => t.client.subscribe('tally'))
  await settle()
  await b.socket.accept()
  await settle()
  await b.socket.say(welcome)
  const ids = [...b.socket.take('hello').subscribe!, ...b.socket.sent.filter((f) => f.type === 'subscribe')].map((s) => s.id)
  assert.equal(ids.length, 3)
  for (const id of ids) await b.socket.say({ type: 'snapshot', id, position: 'p-1', key: ['k'], rows: [{ k: 'a' }], more: false })
  await b.socket.say({ type: 'epoch', position: 'p-7', at: 1, changes: {} })
  await tabs[0]!.gone()
  for (const t of tabs.slice(1)) await t.w.time.advance(300)
  assert.equal(b.real.length, 2)
  await b.socket.accept()
  await settle()
  const hello = b.socket.take('hello')
  assert.equal(hello.resume, 'p-7')
  await b.socket.say(welcome)
  const later = b.socket.take('subscribe')
  assert.equal(later.from, 'p-7')
  for (const id of [hello.subscribe![0]!.id, later.id]) await b.socket.say({ type: 'resumed', id, position: 'p-7' })
  for (const [i, c] of cs.entries()) if (i) assert.equal(c.freshness.name, 'live')
  for (const t of tabs) t.client.close()
})

test('what others hear before a tab is back does not move it past what it has missed', async () => {
  const b = new Browser()
  let slow: Promise<string> | undefined
  let go = (_: string) => {}
  const tabs = [b.tab(), b.tab(), b.tab(async () => slow ?? '')]
  const c = tabs[2]!.client.subscribe('tally')
  await settle()
  await b.socket.accept()
  await settle()
  await b.socket.say(welcome)
  await b.socket.say({ type: 'snapshot', id: b.socket.take('subscribe').id, position: 'p-1', key: ['k'], rows: [{ k: 'a' }], more: false })
  assert.equal(c.freshness.name, 'live')
  slow = new Promise((f) => (go = f))
  await tabs[0]!.gone()
  for (const t of tabs.slice(1)) await t.w.time.advance(300)
  await b.socket.accept()
  await settle()
  await b.socket.say(welcome, { type: 'freshness', state: 'catching_up', since: 1 }, { type: 'epoch', position: 'p-2', at: 1, changes: {} })
  assert.equal(c.position, 'p-1')
  go('')
  await settle()
  const { id, from } = b.socket.take('subscribe')
  assert.equal(from, 'p-1')
  await b.socket.say({ type: 'epoch', position: 'p-3', at: 1, changes: {} })
  assert.equal(c.position, 'p-1', 'the server has not answered yet')
  await b.socket.say({ type: 'resumed', id, position: 'p-1' }, { type: 'epoch', position: 'p-3', at: 1, changes: { [id]: { put: [{ k: 'b' }] } } })
  assert.deepEqual([c.size, c.position, c.freshness.name], [2, 'p-3', 'catching_up'])
  await b.socket.say({ type: 'freshness', state: 'live', since: 1 })
  assert.equal(c.freshness.name, 'live')
  b.post({ kind: 'down', hub: 'the first one', data: JSON.stringify({ type: 'epoch', position: 'p-9', at: 1, changes: {} }) })
  assert.equal(c.position, 'p-3', 'of a leader that is gone')
  for (const t of tabs) t.client.close()
})

test('a tab that gives up before it had its turn leaves nothing behind', async () => {
  const b = new Browser()
  const one = b.tab()
  await settle()
  await b.socket.accept()
  await b.socket.say(welcome)
  const two = b.tab()
  two.client.close()
  await settle()
  one.client.close()
  await settle()
  assert.ok(b.socket.closed, 'one was the last')
})

test('a follower that is gone leaves no subscriptions behind', async () => {
  const b = new Browser()
  const one = b.tab()
  await settle()
  const two = b.tab()
  two.client.subscribe('tally')
  await settle()
  await b.socket.accept()
  await b.socket.say(welcome)
  const { id } = b.socket.take('subscribe')
  await two.gone()
  assert.equal(b.socket.take('unsubscribe').id, id)
  one.client.close()
})

test('a lost connection is everybody\'s', async () => {
  const b = new Browser()
  const tabs = [b.tab(), b.tab()]
  await settle()
  await b.socket.accept()
  await settle()
  await b.socket.say(welcome)
  await b.socket.say({ type: 'goodbye', code: 'draining', reason: 'restarting', retry_after_ms: 700 })
  await b.socket.cut(1001)
  for (const t of tabs) assert.equal(t.client.state.name === 'stale' && t.client.state.retryAt - t.w.time.now, 700)
  for (const t of tabs) t.client.close()
})

test('a shared connection that has gone silent is given up by the next one who comes', async (t) => {
  let now = 1000
  t.mock.method(performance, 'now', () => now)
  const b = new Browser()
  const one = b.tab()
  const two = b.tab()
  const answer = async () => {
    await settle()
    while (b.socket.has('ping')) await b.socket.say({ type: 'pong', t: b.socket.take('ping').t, now: 0 })
  }
  await settle()
  await b.socket.accept()
  await settle()
  await b.socket.say(welcome)
  await answer()
  now += 60_000
  const three = b.tab()
  await answer()
  assert.equal(three.client.state.name, 'live')
  assert.equal(b.real.length, 1, 'a quiet one in which every ping was answered is not')
  await one.w.time.advance(11_000) // a ping that nobody answers
  now += 6_000
  await one.w.time.advance(15_000) // its link gives up, and comes back as another member
  assert.ok(b.real[0]!.closed)
  assert.equal(b.real.length, 2)
  assert.equal(two.client.state.name, 'stale')
  await b.socket.accept()
  await settle()
  await b.socket.say(welcome)
  assert.equal(one.client.state.name, 'live')
  await two.w.time.advance(200)
  assert.equal(two.client.state.name, 'live')
  assert.equal(b.real.length, 2)
  for (const x of [one, two, three]) x.client.close()
})

test('presence is everybody\'s: it goes with the last of them', async () => {
  const b = new Browser()
  const tabs = [b.tab(), b.tab(), b.tab()]
  for (const [i, x] of tabs.entries()) x.client.presence('here', { page: '/' + i })
  await settle()
  await b.socket.accept()
  await settle()
  await b.socket.say(welcome)
  assert.equal(b.socket.sent.filter((f) => f.type === 'signal').length, 3)
  b.socket.sent.length = 0
  tabs[2]!.client.close()
  await settle()
  assert.deepEqual(b.socket.take('signal').value, { page: '/1' }, 'what another one has set')
  await tabs[1]!.gone()
  assert.deepEqual(b.socket.take('signal').value, { page: '/0' })
  tabs[0]!.client.close()
  await settle()
  assert.equal(b.socket.take('signal').value, null)
  assert.ok(!b.socket.has('signal'))
})

test('where there are no locks, each tab connects by itself', { skip: typeof navigator !== 'undefined' && 'locks' in navigator }, () => {
  class Real {}
  assert.equal(sharedSocket({ WebSocket: Real as never, BroadcastChannel: Object as never }), Real)
})
