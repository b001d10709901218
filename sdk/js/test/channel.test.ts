import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connect } from '../src/index.ts'
import { settle, World } from './fake.ts'

type Typing = { room: string; who: string; line: number | null }

async function live() {
  const w = new World()
  const client = connect('http://server', { environment: w.environment })
  const c = client.channel<Typing>('typing', { filter: 'room=eq.a' })
  const hello = await w.socket.welcome()
  await w.socket.say({ type: 'signals', id: 's1', full: true, key: ['room', 'who'], put: [{ room: 'a', who: 'ann', line: 7 }], more: true })
  assert.equal(c.size, 0, 'whole, or not at all')
  await w.socket.say({ type: 'signals', id: 's1', put: [{ room: 'a', who: 'bob', line: 1 }] })
  return { w, client, c, hello }
}

test('rows of a channel: the full state, then what changes', async () => {
  const { w, client, c, hello } = await live()
  assert.deepEqual(hello.subscribe, [{ id: 's1', view: 'typing', filter: 'room=eq.a' }])
  assert.equal(hello.instance, 'key0')
  assert.equal(client.state.name, 'live')
  assert.deepEqual(c.rows.map((r) => r.who), ['ann', 'bob'])
  await w.socket.say({ type: 'epoch', position: 'p-9', at: 1, changes: {} })
  assert.equal(c.position, '', 'outside of the positions')
  await w.socket.say({ type: 'signals', id: 's1', put: [{ room: 'a', who: 'ann', line: 8 }], del: [['a', 'bob'], ['a', 'nobody']] })
  assert.deepEqual(c.rows, [{ room: 'a', who: 'ann', line: 8 }])
  client.close()
})

test('own rows are set again after each reconnect, the others told as a difference', async () => {
  const { w, client, c } = await live()
  c.set({ line: 3 }, { room: 'a' })
  assert.deepEqual(w.socket.take('signal'), { type: 'signal', id: 'gs1', table: 'typing', key: { room: 'a' }, value: { line: 3 } })
  c.set({ line: 4 }, { room: 'a' })
  c.set({ line: 1 }, { room: 'b' })
  c.clear({ room: 'b' })
  const changes: string[] = []
  c.onChange((x) => changes.push(...x.changes.map((y) => y.op)))
  await w.socket.cut()
  assert.equal(c.freshness.name, 'stale')
  await w.time.advance(10_000)
  const hello = await w.socket.welcome()
  assert.equal(hello.instance, 'key0', 'the same member')
  assert.deepEqual(w.socket.take('signal').value, { line: 4 })
  assert.ok(!w.socket.has('signal'))
  assert.equal(c.size, 2)
  await w.socket.say({ type: 'signals', id: 's1', full: true, key: ['room', 'who'], put: [{ room: 'a', who: 'ann', line: 7 }] })
  assert.deepEqual(changes, ['delete'])
  assert.equal(c.freshness.name, 'live')
  c.close()
  assert.equal(w.socket.take('signal').value, null, 'close clears')
  client.close()
})

test('an own row whose time has passed does not come back', async () => {
  const { w, client, c } = await live()
  c.set({ line: 3 }, { room: 'a', who: 'me' })
  c.set({ line: 3 }, { room: 'b', who: 'me' }) // the filter hides it
  c.set({ line: 5 }, { room: 'a' })
  await w.socket.say({ type: 'signals', id: 's1', put: [{ room: 'a', who: 'me', line: 3 }] })
  await w.socket.say({ type: 'signals', id: 's1', del: [['a', 'bob']] })
  await w.socket.say({ type: 'signals', id: 's1', del: [['a', 'me']] })
  await w.socket.cut()
  await w.time.advance(10_000)
  await w.socket.welcome()
  const again = [w.socket.take('signal'), w.socket.take('signal')]
  assert.deepEqual(again.map((f) => f.key), [{ room: 'b', who: 'me' }, { room: 'a' }])
  assert.ok(!w.socket.has('signal'))
  client.close()
})

test('presence: joined with fields, counted when there are many', async () => {
  const w = new World()
  const client = connect('http://server', { environment: w.environment })
  const here = client.presence('here', { page: '/a' })
  await w.socket.accept()
  await w.socket.say({ type: 'welcome', session: 'x', connection: 'me', now: w.time.now, log: 'l', limits: {} as never })
  assert.equal(client.connection, 'me')
  assert.deepEqual(w.socket.take('signal'), { type: 'signal', id: 'gs1', table: 'here', value: { page: '/a' } })
  await w.socket.say({ type: 'signals', id: 's1', full: true, key: ['connection'], put: [{ connection: 'me', page: '/a' }] })
  assert.equal(here.count, 1)
  const counts: number[] = []
  here.onChange(() => counts.push(here.count))
  await w.socket.say({ type: 'signals', id: 's1', full: true, key: ['connection'], count: 250 })
  await w.socket.say({ type: 'signals', id: 's1', count: 251 })
  assert.deepEqual([here.size, ...counts], [0, 250, 251])
  assert.deepEqual(w.socket.take('signal').value, { page: '/a' }, 'a later full state: the server may have forgotten')
  const problems: string[] = []
  here.onProblem((p) => problems.push(p.code))
  await w.socket.say({ type: 'error', id: 'gs1', error: { code: 'too_large' } as never })
  assert.deepEqual(problems, ['too_large'])
  assert.equal(here.freshness.name, 'live')
  client.close()
  assert.equal(w.socket.take('signal').value, null, 'others see at once that it is gone')
  assert.equal(w.time.timers, 0)
})

test('over streams of events own rows are set by HTTP, again and again', async () => {
  const w = new World()
  const client = connect('http://server', { environment: w.environment, transport: 'sse' })
  const here = client.presence('here', { page: '/a' })
  await w.request.answer(400, {})
  const posts = () => w.requests.filter((r) => r.url.startsWith('http://server/v1/tables/here'))
  assert.equal(posts().length, 1)
  assert.equal(posts()[0]!.headers['Laaster-Instance'], 'key0')
  assert.deepEqual(posts()[0]!.body, [{ page: '/a' }])
  const s = await w.requests.find((r) => r.url.includes('/views/here'))!.stream()
  await s.say('event: signals\ndata: {"full":true,"key":["connection"],"put":[{"connection":"me"}]}\n\n')
  assert.equal(here.size, 1)
  await w.time.advance(4_000)
  assert.equal(posts().length, 2)
  here.close()
  await settle()
  assert.equal(posts()[2]!.method, 'DELETE')
  client.close()
  assert.equal(w.time.timers, 0)
})
