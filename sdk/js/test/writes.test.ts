import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connect, Problem, type WriteResult } from '../src/index.ts'
import { settle, World } from './fake.ts'

function start() {
  const w = new World()
  return { w, client: connect('http://server/', { environment: w.environment, token: 'secret' }) }
}

/** What a promise has become so far. */
function watch(p: Promise<WriteResult>) {
  const out: { result?: WriteResult; problem?: Problem } = {}
  p.then((r) => (out.result = r), (e: Problem) => (out.problem = e))
  return out
}

const ok = { position: 'p-9', final: true, accepted: 1, duplicates: 0, rejected: [] }

test('over the socket when it is open', async () => {
  const { w, client } = start()
  await w.socket.welcome()
  const out = watch(client.insert('votes', { to: 'UA' }, { onConflict: 'merge', ack: 'logged', atomic: true }))
  const f = w.socket.take('write')
  assert.deepEqual(f, {
    type: 'write', id: 'w1', table: 'votes', rows: [{ to: 'UA' }], key: 'key1', on_conflict: 'merge', ack: 'logged', atomic: true,
  })
  await w.socket.say({ type: 'result', id: 'w1', ...ok })
  assert.deepEqual(out.result, { position: 'p-9', final: true, accepted: 1, duplicates: 0, rejected: [], key: 'key1' })
  assert.equal(w.requests.length, 0)
  client.close()
})

test('update and delete name their rows by a filter', async () => {
  const { w, client } = start()
  await w.socket.welcome()
  void client.update('show', { id: 'eq.stage' }, { speed: 2 })
  void client.delete('show', 'id=eq.stage', { key: 'mine' })
  assert.deepEqual(w.socket.take('write'), { type: 'write', id: 'w1', table: 'show', filter: 'id=eq.stage', patch: { speed: 2 }, key: 'key1' })
  assert.deepEqual(w.socket.take('write'), { type: 'write', id: 'w2', table: 'show', filter: 'id=eq.stage', delete: true, key: 'mine' })
  for (const id of ['w1', 'w2']) await w.socket.say({ type: 'result', id, ...ok })
  client.close()
})

test('by HTTP while there is no socket', async () => {
  const { w, client } = start()
  const a = watch(client.insert('my votes', { to: 'UA' }, { onConflict: 'ignore', ack: 'logged', atomic: true }))
  await settle()
  const r = w.request
  assert.equal(r.url, 'http://server/v1/tables/my%20votes?_atomic=true&on_conflict=ignore&_ack=logged')
  assert.equal(r.method, 'POST')
  assert.deepEqual(r.headers, { 'Content-Type': 'application/json', 'Idempotency-Key': 'key1', Authorization: 'Bearer secret' })
  assert.deepEqual(r.body, [{ to: 'UA' }])
  await r.answer(200, ok)
  assert.equal(a.result!.position, 'p-9')

  const b = watch(client.update('show', 'id=eq.stage', { speed: 2 }))
  await settle()
  assert.equal(`${w.request.method} ${w.request.url}`, 'PATCH http://server/v1/tables/show?id=eq.stage')
  await w.request.answer(200, ok)
  assert.equal(b.result!.accepted, 1)

  void client.delete('show', { id: 'eq.stage' })
  await settle()
  assert.equal(`${w.request.method} ${w.request.url} ${w.request.body}`, 'DELETE http://server/v1/tables/show?id=eq.stage undefined')
  await w.request.answer(200, ok)
  client.close()
})

test('HTTP is repeated with the same key and content until it answers', async () => {
  const { w, client } = start()
  const out = watch(client.insert('votes', { to: 'UA' }))
  await settle()
  await w.request.fail()
  await w.socket.cut() // the socket's attempts go on beside it
  await w.time.advance(200)
  assert.equal(w.requests.length, 2)
  await w.request.answer(503, { code: 'busy', status: 503, retry: 'after', retry_after_ms: 2000 })
  await w.time.advance(1999)
  assert.equal(w.requests.length, 2)
  await w.time.advance(1)
  assert.equal(w.requests.length, 3)
  assert.deepEqual(new Set(w.requests.map((r) => r.headers['Idempotency-Key'] + JSON.stringify(r.body))).size, 1)
  await w.request.answer(429, 'proxy page', { 'Retry-After': '1' })
  await w.time.advance(1000)
  assert.equal(w.requests.length, 4)
  await w.request.answer(200, { ...ok, accepted: 0, duplicates: 1 })
  assert.equal(out.result!.duplicates, 1)
  client.close()
})

test('a write in flight on a lost socket goes again on the next one, with the same key', async () => {
  const { w, client } = start()
  await w.socket.welcome()
  const out = watch(client.insert('votes', { to: 'UA' }))
  const first = w.socket.take('write')
  await w.socket.cut()
  await w.time.advance(10_000)
  assert.equal(w.requests.length, 0, 'not over another transport')
  await w.socket.welcome()
  assert.deepEqual(w.socket.take('write'), first)
  await w.socket.say({ type: 'result', id: first.id, ...ok, accepted: 0, duplicates: 1 })
  assert.equal(out.result!.duplicates, 1)
  client.close()
})

test('a write that ends connections is given up', async () => {
  const { w, client } = start()
  await w.socket.welcome()
  const out = watch(client.insert('votes', { to: 'UA' }, { timeout: 1e6 }))
  for (let i = 0; i < 3; i++) {
    assert.ok(w.socket.has('write'))
    await w.socket.cut()
    await w.time.advance(10_000)
    await w.socket.welcome()
  }
  assert.equal(w.socket.has('write'), false)
  assert.equal(out.problem!.code, 'unreachable')
  assert.equal(out.problem!.key, 'key1')
  client.close()
})

test('a frame beyond the limit of the server is not sent', async () => {
  const { w, client } = start()
  await w.socket.welcome({ frame_bytes: 200 })
  const out = watch(client.insert('votes', { to: 'ü'.repeat(100) }))
  await settle()
  assert.equal(out.problem!.code, 'too_large')
  assert.equal(w.socket.has('write'), false)
  client.close()
})

test('time out: the key tells how to repeat it', async () => {
  const { w, client } = start()
  await w.socket.welcome()
  const out = watch(client.insert('votes', { to: 'UA' }, { timeout: 500 }))
  await w.time.advance(500)
  assert.equal(out.problem!.code, 'timeout')
  assert.equal(out.problem!.retry, 'after')
  assert.equal(out.problem!.key, 'key1')
  await w.socket.say({ type: 'result', id: 'w1', ...ok }) // too late: nobody asks any more
  client.close()
})

test('a refused row: insert throws it, insertMany lists it', async () => {
  const { w, client } = start()
  await w.socket.welcome()
  const error = { code: 'invalid_row', detail: 'points is not an integer', field: 'points', hint: 'a number', retry: 'no', request: 'r1' }
  const rejected = [{ index: 0, error: error as never }]
  const one = watch(client.insert('votes', { points: 'x' }))
  const many = watch(client.insertMany('votes', [{ points: 'x' }, { points: 1 }]))
  await w.socket.say({ type: 'result', id: 'w1', ...ok, accepted: 0, rejected })
  await w.socket.say({ type: 'result', id: 'w2', ...ok, rejected })
  const p = one.problem!
  assert.ok(p instanceof Problem && p instanceof Error)
  assert.deepEqual([p.code, p.message, p.field, p.hint, p.retry, p.request], ['invalid_row', 'points is not an integer', 'points', 'a number', 'no', 'r1'])
  assert.equal(many.result!.accepted, 1)
  assert.equal(many.result!.rejected[0]!.problem.field, 'points')
  client.close()
})

test('a refused request rejects on both transports', async () => {
  const { w, client } = start()
  const error = { code: 'unknown_table', status: 404, detail: 'no table vote', hint: 'votes?', retry: 'no' }
  const a = watch(client.insert('vote', {}))
  await settle()
  await w.request.answer(404, error)
  await w.socket.welcome()
  const b = watch(client.insert('vote', {}))
  await w.socket.say({ type: 'error', id: 'w2', error: error as never })
  for (const x of [a, b]) assert.deepEqual([x.problem!.code, x.problem!.status, x.problem!.hint], ['unknown_table', 404, 'votes?'])
  const c = watch(client.insertMany('votes', [{}]))
  await w.socket.say({ type: 'error', id: 'w3', error: { ...error, code: 'busy', retry: 'after', retry_after_ms: 50 } as never })
  w.socket.take('write')
  w.socket.take('write')
  await w.time.advance(50)
  assert.equal(w.socket.take('write').id, 'w3')
  await w.socket.say({ type: 'result', id: 'w3', ...ok })
  assert.equal(c.result!.accepted, 1)
  client.close()
})

test('all rows refused over HTTP is still a list', async () => {
  const { w, client } = start()
  const out = watch(client.insertMany('votes', [{}, {}]))
  await settle()
  const error = { code: 'invalid_row', detail: 'no' }
  await w.request.answer(422, { ...ok, accepted: 0, rejected: [{ index: 0, error }, { index: 1, error }] })
  assert.equal(out.result!.rejected.length, 2)
  client.close()
})

test('close rejects what waits, and what comes after', async () => {
  const { w, client } = start()
  const http = watch(client.insert('votes', {}))
  await settle()
  await w.socket.welcome()
  const ws = watch(client.insert('votes', {}))
  client.close()
  const after = watch(client.insert('votes', {}))
  await settle()
  for (const x of [http, ws, after]) assert.equal(x.problem!.code, 'closed')
  await w.request.answer(200, ok)
  assert.equal(w.time.timers, 0)
})

test('half an answer is none: the write goes again with its key', async () => {
  const { w, client } = start()
  const out = watch(client.insert('votes', { to: 'UA' }))
  await settle()
  const s = await w.request.stream()
  await s.say('{"position":"p-9","final":tr')
  await s.end()
  await w.time.advance(1000)
  assert.equal(w.requests.length, 2)
  assert.equal(w.requests[1]!.headers['Idempotency-Key'], w.requests[0]!.headers['Idempotency-Key'])
  await w.request.answer(200, { ...ok, accepted: 0, duplicates: 1 })
  assert.equal(out.result!.duplicates, 1)
  client.close()
})
