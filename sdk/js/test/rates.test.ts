import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connect, type Problem, type WriteResult } from '../src/index.ts'
import { settle, World } from './fake.ts'

// What the server says when a caller is beyond a rate, on each transport: the client waits exactly as long as it is told, and goes on.

const limited = (ms: number) => ({
  type: '/errors/rate_limited', title: 'too many requests', status: 429, code: 'rate_limited',
  detail: 'more messages than this subject may have: 10/s burst 20', field: 'messages', retry: 'after', retry_after_ms: ms,
})
const ok = { position: 'p-1', final: true, ack: 'durable', accepted: 1, duplicates: 0, rejected: [] }

function watch(p: Promise<WriteResult>) {
  const out: { result?: WriteResult; problem?: Problem } = {}
  p.then((r) => (out.result = r), (e) => (out.problem = e as Problem))
  return out
}

test('writes over HTTP and a socket wait as they are told and go again', async () => {
  const w = new World()
  const client = connect('http://server', { environment: w.environment })
  const a = watch(client.insert('votes', { to: 'UA' }))
  await settle()
  await w.request.answer(429, limited(1300), { 'Retry-After': '2' })
  await w.time.advance(1299)
  assert.equal(w.requests.length, 1)
  await w.time.advance(1)
  assert.equal(w.requests.length, 2)
  await w.request.answer(200, ok)
  assert.equal(a.result!.accepted, 1)

  await w.socket.welcome()
  const b = watch(client.insert('votes', { to: 'UA' }))
  const id = w.socket.take('write').id
  for (const ms of [500, 7000]) {
    await w.socket.say({ type: 'error', id, error: limited(ms) as never })
    await w.time.advance(ms - 1)
    assert.equal(w.socket.has('write'), false)
    await w.time.advance(1)
    assert.equal(w.socket.take('write').id, id)
  }
  await w.socket.say({ type: 'result', id, ...ok } as never)
  assert.equal(b.result!.accepted, 1)
  client.close()
})

test('a subscription waits as it is told', async () => {
  const w = new World()
  const client = connect('http://server', { environment: w.environment })
  client.subscribe('tally')
  await w.socket.welcome()
  await w.socket.say({ type: 'error', id: 's1', error: limited(4000) as never })
  await w.time.advance(3999)
  assert.equal(w.socket.has('subscribe'), false)
  await w.time.advance(1)
  assert.equal(w.socket.take('subscribe').id, 's1')
  client.close()
})

test('a connection that is not let in, or is cut, comes back when it is told', async () => {
  const w = new World()
  const client = connect('http://server', { environment: w.environment })
  client.subscribe('tally')
  await w.socket.accept()
  await w.socket.say({ type: 'error', error: limited(60_000) as never }, { type: 'goodbye', code: 'rate_limited', reason: 'too much was harm', retry_after_ms: 60_000 })
  await w.socket.cut(1013)
  const s = client.state
  assert.ok(s.name === 'connecting')
  assert.equal(s.retryAt, w.time.now + 60_000)
  assert.equal(s.reason?.code, 'rate_limited')
  const before = w.sockets.length
  await w.time.advance(59_999)
  assert.equal(w.sockets.length, before)
  await w.time.advance(1)
  assert.equal(w.sockets.length, before + 1)
  await w.socket.welcome()
  client.close()
})
