import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connect, type Problem, type QueueEvent, type WriteResult } from '../src/index.ts'
import { memoryStore } from '../src/store.ts'
import { Locks, settle, World } from './fake.ts'

const ok = { final: true, accepted: 1, duplicates: 0, rejected: [] }

function start(w = new World(), offline: object | true = true) {
  const client = connect('http://server', { environment: w.environment, offline })
  const told: QueueEvent[] = []
  client.onQueue((e) => told.push(e))
  return { w, client, told }
}

/** Another page with the same store, after a reload. */
function reload(before: World, prefix = 'next'): World {
  const w = new World()
  w.store = before.store
  w.prefix = prefix
  w.time.now = before.time.now
  return w
}

function watch(p: Promise<WriteResult>) {
  const out: { result?: WriteResult; problem?: Problem } = {}
  p.then((r) => (out.result = r), (e: Problem) => (out.problem = e))
  return out
}

test('writes wait for the server, in order per table', async () => {
  const { w, client, told } = start()
  const outs = ['a', 'b', 'c'].map((k) => watch(client.insert('votes', { k })))
  const other = watch(client.insert('marks', { k: 'm' }))
  await w.time.advance(3_600_000)
  assert.equal(w.requests.length, 1, 'nothing but the question whether plain HTTP gets through')
  assert.deepEqual(client.queue.map((q) => [q.table, q.sending]), [['votes', false], ['votes', false], ['votes', false], ['marks', false]])
  await w.socket.welcome()
  await settle()
  const first = w.socket.take('write')
  assert.deepEqual(first.rows, [{ k: 'a' }])
  const mark = w.socket.take('write')
  assert.equal(mark.table, 'marks', 'tables do not wait for each other')
  assert.ok(!w.socket.has('write'))
  await w.socket.say({ type: 'result', id: mark.id, position: 'p-1', ...ok })
  await w.socket.say({ type: 'error', id: first.id, error: { code: 'busy', retry: 'after', retry_after_ms: 50 } as never })
  assert.ok(!w.socket.has('write'), 'the next one does not overtake')
  await w.time.advance(50)
  await w.socket.say({ type: 'result', id: w.socket.take('write').id, position: 'p-2', ...ok })
  const second = w.socket.take('write')
  await w.socket.say({ type: 'error', id: second.id, error: { code: 'constraint', detail: 'no', retry: 'no' } as never })
  await w.socket.say({ type: 'result', id: w.socket.take('write').id, position: 'p-3', ...ok })
  assert.equal(outs[0]!.result?.position, 'p-2')
  assert.equal(outs[1]!.problem?.code, 'constraint')
  assert.equal(outs[2]!.result?.position, 'p-3')
  assert.equal(other.result?.position, 'p-1')
  assert.deepEqual(client.queue, [])
  assert.deepEqual(await w.store.load(), [])
  assert.deepEqual(told.map((e) => e.type), ['queued', 'queued', 'queued', 'queued', 'done', 'done', 'refused', 'done'])
  client.close()
})

test('a reload in the middle: the next page sends them, each with its key', async () => {
  const one = start()
  await one.w.socket.welcome()
  for (const k of ['a', 'b']) one.client.insert('votes', { k }, { optimistic: [{ view: 'tally', put: [{ k, n: 1 }] }] }).catch(() => {})
  await settle()
  const sent = one.w.socket.take('write') // the page is gone before the answer
  const { w, client, told } = start(reload(one.w))
  const c = client.subscribe('tally')
  await settle()
  assert.deepEqual(client.queue.map((q) => q.key), ['key2', 'key3'])
  await w.socket.welcome()
  await w.socket.say({ type: 'snapshot', id: 's1', position: 'l.0-1', key: ['k'], rows: [], more: false })
  assert.equal(c.size, 2, 'their optimistic rows are here again')
  const again = w.socket.take('write')
  assert.deepEqual({ ...again, id: '' }, { ...sent, id: '' }, 'the same key and content')
  await w.socket.say({ type: 'result', id: again.id, position: 'l.0-4', ...ok, accepted: 0, duplicates: 1 })
  await w.socket.say({ type: 'result', id: w.socket.take('write').id, position: 'l.0-5', ...ok })
  assert.deepEqual(told.map((e) => [e.type, e.key]), [['queued', 'key2'], ['queued', 'key3'], ['done', 'key2'], ['done', 'key3']])
  await w.socket.say({ type: 'epoch', position: 'l.0-5', at: 1, changes: { s1: { put: [{ k: 'a', n: 1 }, { k: 'b', n: 1 }] } } })
  assert.equal(c.size, 2)
  assert.deepEqual(await w.store.load(), [])
  client.close()
})

test('a write that was sent long ago is not risked again; one that was not, or may be repeated, is', async () => {
  const one = start()
  await one.w.socket.welcome()
  one.client.insert('votes', { k: 'sent' }).catch(() => {})
  one.client.insert('votes', { k: 'never sent' }).catch(() => {})
  one.client.insert('marks', { k: 'harmless' }, { repeatable: true }).catch(() => {})
  await settle()
  const w = reload(one.w)
  w.time.now += 700_000
  const { client, told } = start(w)
  await w.socket.welcome({ dedupe_seconds: 600 })
  await settle()
  const ends = told.filter((e) => e.type !== 'queued')
  assert.deepEqual(ends.map((e) => [e.type, e.type === 'refused' && e.problem.code]), [['refused', 'timeout']])
  const rows = [w.socket.take('write'), w.socket.take('write')].map((f) => (f.rows as { k: string }[])[0]!.k)
  assert.deepEqual(rows.sort(), ['harmless', 'never sent'])
  client.close()
})

test('a page that is alive keeps its own writes; the next one takes them when it is gone', async () => {
  const locks = new Locks()
  const first = new World()
  first.environment.locks = locks
  const one = start(first)
  one.client.insert('votes', { k: 'a' }).catch(() => {})
  await settle()
  const w = reload(one.w)
  w.environment.locks = locks
  const two = start(w)
  await w.socket.welcome()
  assert.deepEqual(two.client.queue, [])
  assert.ok(!w.socket.has('write'))
  one.client.close() // or its tab; the lock is free
  await settle()
  await w.socket.cut()
  await w.time.advance(10_000)
  await w.socket.welcome()
  await settle()
  assert.equal(w.socket.take('write').key, 'key2')
  two.client.close()
})

test('a bound, and what the store refuses', async () => {
  const { w, client } = start(new World(), { limit: 2 })
  const outs = [1, 2, 3].map((k) => watch(client.insert('votes', { k })))
  await settle()
  assert.equal(outs[2]!.problem?.code, 'queue_full')
  assert.equal(client.queue.length, 2)
  w.store.put = () => Promise.reject(new Error('QuotaExceededError'))
  client.close()
  const full = new World()
  full.store = { ...memoryStore(), put: () => Promise.reject(new Error('disk full')) }
  const two = start(full)
  const out = watch(two.client.insert('votes', { k: 1 }))
  await settle()
  assert.match(out.problem!.message, /disk full/)
  assert.equal(out.problem!.key, 'key2')
  assert.deepEqual(two.client.queue, [])
  two.client.close()
})

test('a write for which there is no room shows nothing', async () => {
  const { w, client } = start(new World(), { limit: 0 })
  const c = client.subscribe('votes')
  await w.socket.welcome()
  await w.socket.say({ type: 'snapshot', id: 's1', position: 'l.0-1', key: ['k'], rows: [], more: false })
  const out = watch(client.insert('votes', { k: 1 }, { optimistic: true }))
  await settle()
  assert.equal(out.problem?.code, 'queue_full')
  assert.equal(c.size, 0)
  client.close()
})

test('what the caller does with a row later is no part of the write', async () => {
  const { w, client } = start()
  await w.socket.welcome()
  const row = { k: 'a' }
  watch(client.insert('votes', row))
  row.k = 'b'
  await settle()
  assert.deepEqual(w.socket.take('write').rows, [{ k: 'a' }])
  client.close()
})

test('without locks, a write that another page has sent is not sent again', async () => {
  const first = new World()
  first.store = { ...memoryStore(), durable: true }
  const one = start(first)
  const done = watch(one.client.insert('votes', { k: 'a' }))
  await settle()
  const two = start(reload(first))
  await settle()
  assert.equal(two.client.queue.length, 1)
  await first.socket.welcome()
  await settle()
  await first.socket.say({ type: 'result', id: first.socket.take('write').id, position: 'p-1', ...ok })
  assert.equal(done.result?.position, 'p-1')
  await two.w.socket.welcome()
  await settle()
  assert.ok(!two.w.socket.has('write'))
  assert.deepEqual(two.client.queue, [])
  assert.deepEqual(two.told.map((e) => e.type === 'refused' ? e.problem.code : e.type), ['queued', 'timeout'])
  one.client.close()
  two.client.close()
})

test('nothing goes out after close', async () => {
  const w = new World()
  const { put } = w.store
  let release = () => {}
  let puts = 0
  w.store.put = async (s) => {
    if (puts++) await new Promise<void>((f) => (release = f)) // the note that it is about to be sent
    return put(s)
  }
  const { client } = start(w)
  await w.socket.welcome()
  const out = watch(client.insert('votes', { k: 1 }))
  await settle()
  assert.equal(puts, 2)
  client.close()
  release()
  await settle()
  assert.equal(out.problem?.code, 'closed')
  assert.ok(!w.socket.has('write'))
  assert.equal(w.requests.length, 0)
})

test('close keeps them stored; queue: false goes past the queue', async () => {
  const { w, client } = start()
  const waiting = watch(client.insert('votes', { k: 1 }))
  const direct = watch(client.insert('votes', { k: 2 }, { queue: false }))
  await settle()
  assert.equal(w.request.method, 'POST')
  client.close()
  await settle()
  assert.equal(waiting.problem?.code, 'closed')
  assert.equal(direct.problem?.code, 'closed')
  assert.deepEqual((await w.store.load()).map((s) => s.request.rows), [[{ k: 1 }]])
  assert.equal(w.time.timers, 0)
})

test('over streams of events the queue drains by HTTP', async () => {
  const w = new World()
  const client = connect('http://server', { environment: w.environment, offline: true, transport: 'sse' })
  const out = watch(client.insert('votes', { k: 1 }))
  await w.request.answer(400, {})
  await settle()
  assert.equal(w.request.url, 'http://server/v1/tables/votes')
  await w.request.answer(200, { position: 'p-1', ...ok })
  assert.equal(out.result?.position, 'p-1')
  client.close()
})
