import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createElement, StrictMode, type ReactElement } from 'react'
import { act, create, type ReactTestRenderer } from 'react-test-renderer'
import { connect } from 'laaster'
import { hooks, Laaster, useChannel, useFreshness, usePresence, useQueue, useView, useWrite, type Write } from '../src/index.ts'
import { World } from '../../js/test/fake.ts'

;(globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true

type Tally = { k: string; n: number }

/** A world, a client, and what is rendered in them. */
async function render(element: ReactElement, options = {}) {
  const w = new World()
  const client = connect('http://server', { environment: w.environment, ...options })
  let r!: ReactTestRenderer
  await act(async () => void (r = create(createElement(StrictMode, null, createElement(Laaster, { client }, element)))))
  const text = () => JSON.stringify(r.toJSON())
  const end = async () => {
    await act(async () => r.unmount())
    await new Promise((f) => setTimeout(f)) // the turn in which subscriptions end
    client.close()
  }
  return { w, client, r, text, end }
}

const snapshot = (id: string, rows: Tally[]) => ({ type: 'snapshot', id, position: 'l.0-1', key: ['k'], rows, more: false }) as never

test('a view: one subscription for all who ask for the same, drawn when it changes', async () => {
  let drawn = 0
  const Total = () => {
    const { rows } = useView<Tally>('tally', { order: 'n.desc' })
    return createElement('b', null, String(rows.reduce((sum, r) => sum + r.n, 0)))
  }
  const List = () => {
    drawn++
    const { rows, freshness } = useView<Tally>('tally', { order: 'n.desc' })
    return createElement('p', null, freshness.name, ...rows.map((r) => r.k))
  }
  const { w, text, end } = await render(createElement('div', null, createElement(List), createElement(Total)))
  assert.match(text(), /"loading"/)
  let hello!: { subscribe?: { id: string }[] }
  await act(async () => void (hello = await w.socket.welcome()))
  assert.equal(hello.subscribe!.length, 1)
  const { id } = hello.subscribe![0]!
  await act(async () => w.socket.say(snapshot(id, [{ k: 'a', n: 1 }, { k: 'b', n: 2 }])))
  assert.match(text(), /"live","b","a"/)
  assert.match(text(), /"3"/)
  const before = drawn
  await act(async () => w.socket.say({ type: 'epoch', position: 'l.0-2', at: 1, changes: {} }))
  assert.equal(drawn, before, 'nothing changed')
  await act(async () => w.socket.say({ type: 'epoch', position: 'l.0-3', at: 1, changes: { [id]: { put: [{ k: 'a', n: 9 }] } } }))
  assert.match(text(), /"live","a","b"/)
  await act(async () => w.socket.cut())
  assert.match(text(), /"stale","a","b"/)
  await end()
})

test('the last user ends the subscription', async () => {
  const List = () => createElement('p', null, useView('tally').freshness.name)
  const { w, client, r, end } = await render(createElement(List))
  await act(async () => void (await w.socket.welcome()))
  await act(async () => r.update(createElement(Laaster, { client })))
  await new Promise((f) => setTimeout(f))
  assert.ok(w.socket.has('unsubscribe'))
  await end()
})

test('writes: under way, refused, optimistic', async () => {
  let write!: Write<never>
  const Form = () => {
    write = useWrite() as never
    const { rows, pending } = useView<Tally>('tally')
    return createElement('p', null, `${write.sending} ${write.problem?.code}`, ...rows.map((r) => r.k + (pending(r) ? '?' : '')))
  }
  const { w, text, end } = await render(createElement(Form))
  await act(async () => void (await w.socket.welcome()))
  await act(async () => w.socket.say(snapshot('s1', []), snapshot('s2', [])))
  let failed!: Promise<unknown>
  await act(async () => {
    failed = assert.rejects(write.insert('tally' as never, { k: 'x', n: 1 } as never, { optimistic: true }))
  })
  assert.match(text(), /"1 undefined","x\?"/)
  await act(async () => w.socket.say({ type: 'error', id: w.socket.take('write').id, error: { code: 'constraint', retry: 'no' } as never }))
  await failed
  assert.match(text(), /"0 constraint"/)
  assert.doesNotMatch(text(), /x\?/)
  await end()
})

test('freshness of the connection, and the queue', async () => {
  let write!: Write<never>
  const Badge = () => {
    write = useWrite() as never
    return createElement('p', null, useFreshness().name, String(useQueue().length))
  }
  const { w, text, end } = await render(createElement(Badge), { offline: true })
  assert.match(text(), /"connecting","0"/)
  await act(async () => void write.insert('votes' as never, {} as never).catch(() => {}))
  assert.match(text(), /"connecting","1"/)
  await act(async () => void (await w.socket.welcome()))
  assert.match(text(), /"live","1"/)
  await act(async () => w.socket.say({ type: 'result', id: w.socket.take('write').id, position: 'p', final: true, accepted: 1, duplicates: 0, rejected: [] }))
  assert.match(text(), /"live","0"/)
  await end()
})

test('presence and channels', async () => {
  const Here = ({ page }: { page: string }) => {
    const here = usePresence<{ page: string }>('here', { page })
    const typing = useChannel<{ who: string }>('typing')
    return createElement('p', null, `${here.count} ${typing.rows.length}`)
  }
  const { w, client, r, text, end } = await render(createElement(Here, { page: '/a' }))
  let hello!: { subscribe?: { id: string; view: string }[] }
  await act(async () => void (hello = await w.socket.welcome()))
  const id = Object.fromEntries(hello.subscribe!.map((s) => [s.view, s.id]))
  assert.deepEqual(w.socket.take('signal').value, { page: '/a' })
  await act(async () => w.socket.say({ type: 'signals', id: id['here']!, full: true, key: ['connection'], put: [{ connection: 'me' }] }))
  await act(async () => w.socket.say({ type: 'signals', id: id['here']!, full: true, key: ['connection'], count: 300 }))
  assert.match(text(), /"300 0"/)
  w.socket.sent.length = 0
  await act(async () => r.update(createElement(StrictMode, null, createElement(Laaster, { client }, createElement(Here, { page: '/b' })))))
  assert.deepEqual(w.socket.take('signal').value, { page: '/b' })
  await end()
})

test('no client above is said, and types know the app', async () => {
  interface Schema {
    views: { tally: Tally }
    tables: { votes: { k: string } }
  }
  const typed = hooks<Schema>()
  const Typed = () => {
    const n: number | undefined = typed.useView('tally').rows[0]?.n
    // @ts-expect-error: no such view
    typed.useView('telly')
    return createElement('p', null, String(n))
  }
  const was = console.error
  console.error = () => {}
  await assert.rejects(async () => act(async () => void create(createElement(Typed))), /no client/)
  console.error = was
})
