import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connect, type Problem } from '../src/index.ts'
import { EventParser } from '../src/sse.ts'
import { generator, settle, World, type FakeRequest } from './fake.ts'

const event = (name: string, data: object, id?: string) => `event: ${name}\n${id ? `id: ${id}\n` : ''}data: ${JSON.stringify(data)}\n\n`

test('the parser gives the same events wherever the text is cut', () => {
  const text =
    ': hello\r\nretry: 1500\n\nevent: a\ndata: one\ndata:two\rid: p-1\r\rid: p-2\r\n\r\ndata\n\nevent: nothing\n\nid: ü€😀\ndata: {"x": "a:b"}\n\nid: no\0t\nretry: x\nunknown: 1\ndata: end\n\ndata: cut off'
  const whole = new EventParser().push(text)
  assert.deepEqual(whole.map(({ event, data, id, retry }) => [event, data, id, retry]), [
    ['', '', undefined, 1500],
    ['a', 'one\ntwo', 'p-1', undefined],
    ['', '', 'p-2', undefined],
    ['', '', undefined, undefined],
    ['', '{"x": "a:b"}', 'ü€😀', undefined],
    ['', 'end', undefined, undefined],
  ])
  for (let i = 0; i <= text.length; i++) {
    for (let j = i; j <= text.length; j += 7) {
      const p = new EventParser()
      assert.deepEqual([...p.push(text.slice(0, i)), ...p.push(text.slice(i, j)), ...p.push(text.slice(j))], whole, `cut at ${i} and ${j}`)
    }
  }
})

test('anything at all, in pieces of any size, is parsed as the whole is', () => {
  const random = generator(7)
  const pick = (n: number) => Math.floor(random() * n)
  const alphabet = ['\n', '\r', '\r\n', ':', ' ', 'data', 'id', 'event', 'retry', '0', '17', '\0', '\ufeff', '{"a":1}', 'ü', '😀', '']
  for (let i = 0; i < 3000; i++) {
    const text = Array.from({ length: pick(40) }, () => alphabet[pick(alphabet.length)]).join('')
    const whole = new EventParser().push(text)
    const p = new EventParser()
    const pieces = []
    for (let at = 0; at < text.length; ) {
      const n = 1 + pick(5)
      pieces.push(...p.push(text.slice(at, (at += n))))
    }
    assert.deepEqual(pieces, whole, JSON.stringify(text))
  }
})

/** The newest request to a path; it has to be there. */
function asked(w: World, path: string): FakeRequest {
  const r = w.requests.findLast((r) => r.url.startsWith('http://server' + path))
  if (!r) throw new Error(`nobody asked for ${path}, but for: ${w.requests.map((r) => r.url).join(' ')}`)
  return r
}

async function live() {
  const w = new World()
  const client = connect('http://server', { environment: w.environment, transport: 'sse', token: 'secret', exact: true })
  const c = client.subscribe('tally', { filter: 'run=eq.7', select: ['k', 'n'], order: 'n.desc', limit: 3 })
  await asked(w, '/v1/live').answer(400, {})
  const r = asked(w, '/v1/views/tally')
  const s = await r.stream()
  await s.say('retry: 1000\n\n' + event('snapshot', { position: 'p-1', key: ['k'], rows: [{ k: 'a', n: 1 }], more: false }, 'p-1'))
  return { w, client, c, r, s }
}

test('a stream for each subscription', async () => {
  const { w, client, c, r, s } = await live()
  assert.equal(r.url, 'http://server/v1/views/tally?run=eq.7&select=k%2Cn&order=n.desc&limit=3&_exact=true')
  assert.deepEqual(r.headers, { Accept: 'text/event-stream', Authorization: 'Bearer secret', 'Laaster-Instance': 'key0' })
  assert.equal(client.state.name, 'live')
  assert.equal(client.transport, 'sse')
  assert.deepEqual(c.rows, [{ k: 'a', n: 1 }])
  await s.say(event('epoch', { position: 'p-2', at: 5, put: [{ k: 'b', n: 2 }], del: [['a']] }, 'p-2'))
  assert.deepEqual(c.rows, [{ k: 'b', n: 2 }])
  assert.equal(c.position, 'p-2')
  await s.say(':\nid: p-5\n\n')
  assert.equal(c.position, 'p-5', 'a comment moves it along')

  const d = client.subscribe('other')
  await settle()
  const other = await asked(w, '/v1/views/other').stream()
  await other.say(event('snapshot', { position: 'p-9', key: ['k'], rows: [], more: false }, 'p-9'))
  assert.equal(c.position, 'p-5', 'each stream has positions of its own')
  d.close()
  assert.ok(asked(w, '/v1/views/other').aborted())
  assert.equal(client.state.name, 'live')
  client.close()
  assert.ok(r.aborted())
  assert.equal(w.time.timers, 0)
})

test('a lost stream: everything is asked for again, each from where it stands', async () => {
  const { w, client, c, s } = await live()
  const d = client.subscribe('other')
  await settle()
  await (await asked(w, '/v1/views/other').stream()).say(event('snapshot', { position: 'p-9', key: ['k'], rows: [], more: false }, 'p-9'))
  w.random = 1
  await s.end()
  assert.equal(client.state.name === 'stale' && client.state.retryAt - w.time.now, 1000, 'retry: is the base of the back-off')
  assert.equal(c.freshness.name, 'stale')
  await w.time.advance(1000)
  await asked(w, '/v1/live').answer(400, {})
  assert.equal(asked(w, '/v1/views/tally').headers['Last-Event-ID'], 'p-1')
  assert.equal(asked(w, '/v1/views/other').headers['Last-Event-ID'], 'p-9')
  await (await asked(w, '/v1/views/tally').stream()).say(event('resumed', { position: 'p-1' }, 'p-1'))
  assert.equal(client.state.name, 'catching_up')
  await (await asked(w, '/v1/views/other').stream()).say(event('gap', { kept_from: 'p-10' }) + event('snapshot', { position: 'p-11', key: ['k'], rows: [{ k: 'z' }], more: false }, 'p-11'))
  assert.equal(client.state.name, 'live')
  assert.equal(d.size, 1)
  client.close()
})

test('one stream that is dead is noticed among those that live', async () => {
  const { w, client, s } = await live()
  const said = () => (client.state.name === 'stale' ? client.state.reason!.message : client.state.name)
  client.subscribe('other')
  await settle()
  const other = await asked(w, '/v1/views/other').stream()
  await other.say(event('snapshot', { position: 'p-9', key: ['k'], rows: [], more: false }, 'p-9'))
  for (let i = 0; i < 12; i++) {
    await w.time.advance(5_000)
    for (const x of [s, other]) await x.say(': alive\n\n')
  }
  assert.equal(said(), 'live')
  for (let i = 0; i < 9; i++) {
    await w.time.advance(5_000)
    await s.say(': alive\n\n')
  }
  assert.match(said(), /nothing heard/)
  client.close()
})

test('refusals say why; busy is asked again; a goodbye paces', async () => {
  const { w, client, s } = await live()
  const bad = client.subscribe('nothing')
  await settle()
  await asked(w, '/v1/views/nothing').answer(404, { code: 'unknown_view', detail: 'no view nothing', retry: 'no' })
  assert.equal(bad.freshness.name === 'refused' && bad.freshness.problem.code, 'unknown_view')
  const busy = client.subscribe('busy')
  await settle()
  await asked(w, '/v1/views/busy').answer(503, 'a proxy', { 'Retry-After': '3' })
  const n = w.requests.length
  await w.time.advance(2_999)
  assert.equal(w.requests.length, n)
  await w.time.advance(1)
  assert.equal(w.requests.length, n + 1)
  busy.close()
  await s.say(event('goodbye', { code: 'draining', reason: 'restarting', retry_after_ms: 4321 }))
  await s.end()
  assert.equal(client.state.name === 'stale' && client.state.retryAt - w.time.now, 4321)
  client.close()
})

test('a token that is refused ends it', async () => {
  const w = new World()
  const client = connect('http://server', { environment: w.environment, transport: 'sse', token: 'bad' })
  const c = client.subscribe('tally')
  const failed = assert.rejects(c.ready, (p: Problem) => p.code === 'unauthenticated')
  await asked(w, '/v1/live').answer(400, {})
  await asked(w, '/v1/views/tally').answer(401, { code: 'unauthenticated', retry: 'no' })
  assert.equal(client.state.name, 'closed')
  await failed
})

test('writes go over HTTP beside the streams', async () => {
  const { w, client } = await live()
  const done = client.insert('votes', { to: 'UA' })
  await settle()
  await asked(w, '/v1/tables/votes').answer(200, { position: 'p-3', final: true, accepted: 1, duplicates: 0, rejected: [] })
  assert.equal((await done).position, 'p-3')
  client.close()
})

test('when no WebSocket gets through and plain HTTP does, streams take its place', async () => {
  const w = new World()
  const client = connect('http://server', { environment: w.environment })
  client.subscribe('tally')
  await w.socket.cut()
  await w.time.advance(1000)
  assert.equal(w.requests.length, 0, 'one failure is none')
  await w.socket.cut()
  await asked(w, '/v1/live').answer(400, {})
  const sockets = w.sockets.length
  await w.time.advance(1000)
  assert.equal(w.sockets.length, sockets)
  await asked(w, '/v1/live').answer(400, {})
  const s = await asked(w, '/v1/views/tally').stream()
  await s.say(event('snapshot', { position: 'p-1', key: ['k'], rows: [], more: false }, 'p-1'))
  assert.equal(client.state.name, 'live')
  assert.equal(client.transport, 'sse')
  // Streams that fail, too: the WebSocket's turn again.
  await s.end()
  await w.time.advance(10_000)
  await asked(w, '/v1/live').fail()
  await w.time.advance(10_000)
  assert.equal(w.sockets.length, sockets + 1)
  client.close()
})

test('where a WebSocket got through before, an answer is no reason for streams until one more has failed', async () => {
  const w = new World()
  const client = connect('http://server', { environment: w.environment })
  client.subscribe('tally')
  await w.socket.welcome()
  const sockets = w.sockets.length
  await w.socket.cut() // the server restarts
  await w.time.advance(1000)
  await w.socket.cut()
  await w.time.advance(1000)
  await w.socket.cut()
  await asked(w, '/v1/live').answer(400, {}) // it is just back
  await w.time.advance(10_000)
  assert.equal(client.transport, 'websocket')
  assert.equal(w.sockets.length, sockets + 3)
  await w.socket.cut() // it is not let through any more
  await asked(w, '/v1/live').answer(400, {})
  await w.time.advance(10_000)
  assert.equal(client.transport, 'sse')
  assert.equal(w.sockets.length, sockets + 3)
  client.close()
})

test('a server that is down, or busy, is no reason for streams', async () => {
  const w = new World()
  const client = connect('http://server', { environment: w.environment })
  for (let i = 0; i < 4; i++) {
    const s = w.socket
    await s.cut()
    if (i === 1) await asked(w, '/v1/live').fail()
    if (i === 2) {
      await asked(w, '/v1/live').answer(503, {}, { 'Retry-After': '20' })
      assert.equal(client.state.name === 'connecting' && client.state.retryAt - w.time.now, 20_000, 'it says when to come back')
    }
    await w.time.advance(20_000)
  }
  assert.ok(w.sockets.length > 4)
  assert.equal(client.transport, 'websocket')
  client.close()
})

test('without a WebSocket class streams are used at once', async () => {
  const w = new World()
  const socket = () => {
    throw new ReferenceError('none')
  }
  const client = connect('http://server', { environment: { ...w.environment, socket } })
  assert.equal(client.transport, 'sse')
  client.close()
  const only = connect('http://server', { environment: { ...w.environment, socket }, transport: 'websocket' })
  assert.equal(only.state.name, 'closed')
})
