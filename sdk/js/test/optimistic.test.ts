import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connect, type Change } from '../src/index.ts'
import { reaches } from '../src/position.ts'
import type { ServerFrame, WireRow } from '../src/wire.ts'
import { settle, World } from './fake.ts'

type Todo = { id: string; list: string; text?: string; done?: boolean }

async function live(rows: WireRow[], options = {}) {
  const w = new World()
  const client = connect('http://server', { environment: w.environment })
  const c = client.subscribe<Todo>('todos', { order: 'id', ...options })
  const heard: Change<Todo>[] = []
  c.onChange((x) => heard.push(x))
  await w.socket.welcome()
  await w.socket.say({ type: 'snapshot', id: 's1', position: 'l.0-1', key: ['id'], rows, more: false })
  heard.length = 0
  return { w, client, c, heard }
}

const result = (id: string, position: string, rejected: object[] = []): ServerFrame => ({
  type: 'result', id, position, final: true, accepted: 1, duplicates: 0, rejected: rejected as never,
})
const epoch = (position: string, put: WireRow[] = [], del: unknown[][] = []): ServerFrame => ({ type: 'epoch', position, at: 1, changes: { s1: { put, del } } })
const ids = (c: { rows: readonly Todo[] }) => c.rows.map((r) => r.id).join('')

test('an inserted row shows at once and gives way to the truth at the position of its write', async () => {
  const { w, client, c, heard } = await live([{ id: 'a', list: 'x' }])
  client.insert('todos', { id: 'b', list: 'x', text: 'mine' }, { optimistic: true }).catch(() => {})
  assert.equal(ids(c), 'ab')
  const mine = c.get('b')!
  assert.ok(c.pending(mine))
  assert.ok(!c.pending(c.get('a')!))
  assert.equal(c.position, 'l.0-1', 'positions are not guessed')
  assert.deepEqual(heard.map((x) => x.cause), ['optimistic'])
  await w.socket.say(epoch('l.0-4', [{ id: 'c', list: 'x' }]))
  assert.equal(ids(c), 'abc', 'others go on beside it')
  await w.socket.say(result('w1', 'l.0-6'))
  assert.ok(c.pending(c.get('b')!), 'the position is known, the truth is not here')
  await w.socket.say(epoch('l.0-5'))
  assert.equal(ids(c), 'abc')
  heard.length = 0
  await w.socket.say(epoch('l.0-6', [{ id: 'b', list: 'x', text: 'mine', done: false }]))
  assert.deepEqual(heard, [
    { cause: 'epoch', position: 'l.0-6', at: 1, changes: [{ op: 'update', row: { id: 'b', list: 'x', text: 'mine', done: false }, old: mine }] },
  ])
  assert.ok(!c.pending(c.get('b')!))
  client.close()
})

test('the truth before the answer: no flicker, and an equal row is no change', async () => {
  const { w, client, c, heard } = await live([])
  client.insert('todos', { id: 'b', list: 'x' }, { optimistic: true }).catch(() => {})
  const mine = c.get('b')
  await w.socket.say(epoch('l.0-2', [{ id: 'b', list: 'x' }]))
  await w.socket.say(result('w1', 'l.0-2'))
  assert.equal(c.get('b'), mine)
  assert.deepEqual(heard.flatMap((x) => x.changes.map((y) => y.op)), ['insert'])
  assert.ok(!c.pending(c.get('b')!))
  client.close()
})

test('a refused write is taken back, with the reason', async () => {
  const { w, client, c, heard } = await live([{ id: 'a', list: 'x', text: 'old' }])
  const refused = assert.rejects(client.update('todos', { id: 'eq.a' }, { text: 'new' }, { optimistic: true }), /not yours/)
  assert.equal(c.get('a')!.text, 'new')
  await w.socket.say({ type: 'error', id: 'w1', error: { code: 'forbidden', detail: 'not yours', retry: 'no' } as never })
  await refused
  assert.equal(c.get('a')!.text, 'old')
  assert.equal(heard.at(-1)!.cause, 'rollback')
  assert.equal(heard.at(-1)!.problem!.message, 'not yours')
  client.close()
})

test('a refused row of many goes alone', async () => {
  const { w, client, c, heard } = await live([])
  const done = client.insertMany('todos', [{ id: 'a', list: 'x' }, { id: 'b', list: 'x' }], { optimistic: true })
  assert.equal(ids(c), 'ab')
  await w.socket.say(result('w1', 'l.0-2', [{ index: 0, error: { code: 'constraint', detail: 'no' } }]))
  assert.equal((await done).rejected.length, 1)
  assert.equal(ids(c), 'b')
  assert.deepEqual(heard.map((x) => x.cause), ['optimistic', 'rollback'])
  await w.socket.say(epoch('l.0-2', [{ id: 'b', list: 'x' }]))
  assert.equal(ids(c), 'b')
  client.close()
})

test('all rows refused: the truth goes on alone', async () => {
  const { w, client, c } = await live([])
  client.insertMany('todos', [{ id: 'a', list: 'x' }], { optimistic: true }).catch(() => {})
  await w.socket.say(result('w1', 'l.0-1', [{ index: 0, error: { code: 'constraint' } }]))
  assert.equal(c.size, 0)
  await w.socket.say(epoch('l.0-2', [{ id: 'b', list: 'x' }]))
  assert.equal(ids(c), 'b')
  client.insert('todos', {}, { optimistic: [{ view: 'todos' }] }).catch(() => {}) // expects nothing
  await w.socket.say({ type: 'error', id: 'w2', error: { code: 'constraint' } as never })
  await w.socket.say(epoch('l.0-3', [{ id: 'c', list: 'x' }]))
  assert.equal(ids(c), 'bc')
  client.close()
})

test('updates and deletes by filter follow the truth below them', async () => {
  const { w, client, c } = await live([{ id: 'a', list: 'x' }, { id: 'b', list: 'y' }])
  client.update('todos', { list: 'eq.x' }, { done: true }, { optimistic: true }).catch(() => {})
  client.delete('todos', 'list=eq.y', { optimistic: true }).catch(() => {})
  client.delete('todos', 'list=like.*', { optimistic: true }).catch(() => {}) // the server's to decide
  assert.deepEqual(c.rows, [{ id: 'a', list: 'x', done: true }])
  await w.socket.say(epoch('l.0-2', [{ id: 'a', list: 'x', text: 'other' }, { id: 'c', list: 'y' }]))
  assert.deepEqual(c.rows, [{ id: 'a', list: 'x', text: 'other', done: true }])
  await w.socket.say(result('w1', 'l.0-3'), result('w2', 'l.0-4'), result('w3', 'l.0-5'))
  await w.socket.say(epoch('l.0-9', [{ id: 'a', list: 'x', text: 'other', done: true }], [['b'], ['c']]))
  assert.deepEqual(c.rows, [{ id: 'a', list: 'x', text: 'other', done: true }])
  client.close()
})

test('only what the filter lets in, within the window', async () => {
  const { client, c } = await live([{ id: 'a', list: 'x' }, { id: 'b', list: 'x' }], { filter: 'list=eq.x', limit: 2 })
  client.insert('todos', { id: '0', list: 'y' }, { optimistic: true }).catch(() => {})
  assert.equal(ids(c), 'ab')
  client.insert('todos', { id: 'A', list: 'x' }, { optimistic: true }).catch(() => {})
  assert.equal(ids(c), 'Aa')
  client.update('todos', 'id=eq.a', { list: 'y' }, { optimistic: true }).catch(() => {})
  assert.equal(ids(c), 'Ab', 'a row that is moved elsewhere leaves')
  client.close()
})

test('what is expected of other views, and subscriptions that come later', async () => {
  const { w, client } = await live([])
  client.insert('todos', { id: 'b', list: 'x' }, { optimistic: [{ view: 'counts', put: [{ list: 'x', open: 1 }], del: [['y']] }] }).catch(() => {})
  const counts = client.subscribe('counts')
  await w.socket.say({ type: 'snapshot', id: 's2', position: 'l.0-1', key: ['list'], rows: [{ list: 'x', open: 0 }, { list: 'y', open: 3 }], more: false })
  assert.deepEqual(counts.rows, [{ list: 'x', open: 1 }])
  await w.socket.say(result('w1', 'l.0-7'))
  assert.deepEqual(counts.rows, [{ list: 'x', open: 1 }])
  // A resume instead of an epoch, then a snapshot beyond the write.
  await w.socket.cut()
  await w.time.advance(10_000)
  await w.socket.welcome()
  await w.socket.say({ type: 'snapshot', id: 's2', position: 'l.0-8', key: ['list'], rows: [{ list: 'x', open: 5 }], more: false })
  assert.deepEqual(counts.rows, [{ list: 'x', open: 5 }])
  client.close()
})

test('an empty epoch at the position of the write takes it away: the view shows it nowhere', async () => {
  const { w, client, c, heard } = await live([])
  client.insert('todos', { id: 'b', list: 'x' }, { optimistic: true }).catch(() => {})
  await w.socket.say(result('w1', 'l.0-7'))
  await w.socket.say({ type: 'epoch', position: 'l.0-7', at: 1, changes: {} })
  assert.equal(c.size, 0)
  assert.deepEqual(heard.at(-1)!.changes.map((x) => x.op), ['delete'])
  await settle()
  client.close()
})

test('positions of one log are ordered by shard', () => {
  assert.ok(reaches('l.0-10', 'l.0-9'))
  assert.ok(reaches('l.0-9', 'l.0-9'))
  assert.ok(!reaches('l.0-9', 'l.0-10'))
  assert.ok(reaches('l.0-9,1-4', 'l.1-4'))
  assert.ok(!reaches('l.0-9,1-4', 'l.0-9,1-5'))
  assert.ok(reaches('other.0-1', 'l.0-10'))
})
