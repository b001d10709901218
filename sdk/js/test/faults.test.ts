// One page after another on a bad line: writes queued, sent, cut, delayed, doubled, refused, pages reloaded, by seed. In the end each
// write had one effect, in order, and what is shown was at every moment the truth at its position with what is pending on top.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connect, type Client, type Collection } from '../src/index.ts'
import type { ServerFrame, WireRow, WriteFrame } from '../src/wire.ts'
import { memoryStore, type Store } from '../src/store.ts'
import { generator, Locks, Model, settle, World, type FakeRequest, type FakeSocket } from './fake.ts'

/** What the writes of one run did. */
class Server {
  readonly model = new Model(['k'])
  readonly answers = new Map<string, ServerFrame>() // by key
  readonly effects: { key: string; table: string }[] = []

  constructor(readonly pick: (n: number) => number) {}

  write(now: number, f: Omit<WriteFrame, 'type'>): ServerFrame {
    const key = f.key!
    const before = this.answers.get(key)
    if (before) return { ...before, id: f.id } as ServerFrame
    if (this.pick(8) === 0) return { type: 'error', id: f.id, error: { code: 'busy', retry: 'after', retry_after_ms: 30 } as never }
    const rows = [...this.model.rows(this.model.head).values()]
    const put: WireRow[] = []
    const del: unknown[][] = []
    if (f.rows) put.push(...(f.rows as WireRow[]))
    else {
      const [, k] = /^k=eq\.(.*)$/.exec(f.filter!)!
      for (const r of rows) {
        if (r['k'] !== k) continue
        if (f.patch) put.push({ ...r, ...f.patch })
        else del.push([k])
      }
    }
    this.effects.push({ key, table: f.table })
    let answer: ServerFrame
    const error = { code: 'constraint', retry: 'no' } as never
    const refused = { type: 'result' as const, id: f.id, position: Model.pos(this.model.head), final: true, accepted: 0, duplicates: 0, rejected: [{ index: 0, error }] }
    if (put.some((r) => (r['n'] as number) > 16)) answer = f.rows && this.pick(2) ? refused : { type: 'error', id: f.id, error }
    else {
      this.model.commit(now, put, del)
      answer = { type: 'result', id: f.id, position: Model.pos(this.model.head), final: true, accepted: 1, duplicates: 0, rejected: [] }
    }
    this.answers.set(key, answer)
    return answer
  }
}

/** One page and its line to the server. */
class Page {
  readonly w = new World()
  readonly client: Client
  readonly c: Collection
  readonly touched = new Set<unknown>() // keys that this page's writes were about
  socket: FakeSocket | undefined
  sub: string | undefined
  at = 0
  down: ServerFrame[] = []
  checks = 0

  constructor(readonly run: Run, n: number, now: number) {
    this.w.store = run.store
    this.w.prefix = `p${n}-`
    this.w.time.now = now
    this.w.random = run.pick(100) / 100
    this.w.environment.locks = run.locks
    this.client = connect('http://server', { environment: this.w.environment, offline: true })
    for (const k of run.touched) this.touched.add(k)
    this.c = this.client.subscribe('t', { order: 'k' })
    this.c.onChange(() => this.check())
  }

  /** Rows that are not pending are those of the position; those of the position are shown, unless a write that was made says otherwise. */
  check(): void {
    if (!this.c.position) return
    const truth = this.run.server.model.rows(Model.seq(this.c.position))
    for (const r of this.c.rows) {
      if (!this.c.pending(r)) assert.deepEqual(r, truth.get(JSON.stringify([r['k']])), `seed ${this.run.seed}, ${JSON.stringify(r)} at ${this.c.position}`)
    }
    for (const [k, r] of truth) if (!this.touched.has(r['k'])) assert.deepEqual(this.c.get(...(JSON.parse(k) as unknown[])), r)
    this.checks++
  }

  async connect(): Promise<void> {
    for (let i = 0; i < 50 && (!this.w.sockets.length || this.w.socket.closed); i++) await this.w.time.advance(500)
    this.socket = this.w.socket
    const { subscribe, resume } = await this.socket.welcome()
    const q = subscribe![0]!
    this.sub = q.id
    this.down = []
    const from = q.from === undefined ? resume : q.from
    const { model } = this.run.server
    if (from && this.run.pick(2)) {
      this.at = Model.seq(from)
      this.down.push({ type: 'resumed', id: q.id, position: from })
    } else {
      this.at = model.head
      this.down.push({ type: 'snapshot', id: q.id, position: Model.pos(this.at), key: ['k'], rows: [...model.rows(this.at).values()], more: false })
    }
  }

  /** The server takes what came, in order. */
  serve(): void {
    while (this.socket!.has('write')) this.down.push(this.run.server.write(this.w.time.now, this.socket!.take('write')))
  }

  epoch(): void {
    const { model } = this.run.server
    if (this.at === model.head) return
    this.down.push({ type: 'epoch', position: Model.pos(model.head), at: this.w.time.now, changes: { [this.sub!]: model.between(this.at, model.head) } })
    this.at = model.head
  }

  /** HTTP writes: some are carried out, some answered, some twice. */
  async http(r: FakeRequest): Promise<void> {
    const m = /\/v1\/tables\/(\w+)\??(.*)/.exec(r.url)
    if (!m) return r.fail()
    const f = { id: '', table: m[1]!, filter: decodeURIComponent(m[2]!), key: r.headers['Idempotency-Key']!, ...(r.method === 'POST' ? { rows: r.body as WireRow[] } : r.method === 'PATCH' ? { patch: r.body as WireRow } : { delete: true }) }
    const answer = this.run.server.write(this.w.time.now, f)
    if (this.run.pick(3) === 0) return r.fail()
    if (answer.type === 'error') return r.answer(answer.error.code === 'busy' ? 503 : 409, answer.error)
    return r.answer(200, answer)
  }

  async cut(): Promise<void> {
    const s = this.socket
    this.socket = undefined
    if (this.run.pick(2)) this.serveQuietly(s!)
    await s?.cut()
  }

  /** It was carried out, and nobody heard of it. */
  serveQuietly(s: FakeSocket): void {
    while (s.has('write')) this.run.server.write(this.w.time.now, s.take('write'))
  }
}

class Run {
  readonly random: () => number
  readonly server: Server
  readonly store: Store = memoryStore()
  readonly locks = new Locks()
  readonly written: { key: string; table: string }[] = []
  readonly touched = new Set<unknown>() // keys that writes were about so far
  page: Page
  pages = 1
  n = 0
  checks = 0

  constructor(readonly seed: number) {
    this.random = generator(seed)
    this.server = new Server((n) => this.pick(n))
    this.page = new Page(this, 0, 1_000_000)
  }

  pick(n: number): number {
    return Math.floor(this.random() * n)
  }

  write(): void {
    const { client } = this.page
    const table = this.pick(4) ? 't' : 'u'
    const key = 'w' + this.n++
    const k = 'k' + this.pick(8)
    const o = { key, optimistic: table === 't' }
    const kind = this.pick(4)
    this.page.touched.add(k)
    this.touched.add(k)
    const p =
      kind === 0 ? client.delete(table, 'k=eq.' + k, o)
      : kind === 1 ? client.update(table, { k: 'eq.' + k }, { n: this.pick(20) }, o)
      : client.insert(table, { k, n: this.pick(20) }, o)
    p.catch(() => {})
    this.written.push({ key, table })
  }

  async step(): Promise<void> {
    const p = this.page
    switch (this.pick(14)) {
      case 0:
        if (p.socket) await p.cut()
        break
      case 1:
        if (this.pick(4) === 0) await this.reload()
        break
      case 2:
      case 3:
      case 4:
        this.write()
        break
      case 5:
        await p.w.time.advance(this.pick(400))
        break
      default:
        break
    }
    const q = this.page
    if (!q.socket || q.socket.closed) return void (this.pick(2) && (await q.connect()))
    if (this.pick(2)) q.serve()
    if (this.pick(2)) q.epoch()
    for (let n = this.pick(4); n > 0 && q.down.length; n--) {
      const f = q.down.shift()!
      await q.socket.say(f)
      if (this.pick(9) === 0 && f.type !== 'snapshot') await q.socket.say(f) // doubled
    }
  }

  /** The page is gone at this moment, with whatever it had under way. */
  async reload(): Promise<void> {
    const old = this.page
    await settle() // what was handed to IndexedDB is there
    if (old.socket) {
      if (this.pick(2)) old.serveQuietly(old.socket)
      old.socket.onmessage = old.socket.onclose = null
      old.socket.closed = true
    }
    for (const name of this.locks.held()) this.locks.drop(name)
    this.checks += old.checks
    this.page = new Page(this, this.pages++, old.w.time.now)
    await settle()
  }

  async finish(): Promise<void> {
    const p = this.page
    for (let i = 0; i < 400 && (p.client.queue.length || p.at !== this.server.model.head || p.down.length || !p.socket); i++) {
      if (!p.socket || p.socket.closed) await p.connect()
      p.serve()
      p.epoch()
      while (p.down.length) await p.socket!.say(p.down.shift()!)
      await p.w.time.advance(50)
      for (const r of p.w.requests.splice(0)) await p.http(r)
    }
    const seed = `seed ${this.seed}`
    assert.deepEqual(p.client.queue, [], seed)
    assert.deepEqual(await this.store.load(), [], seed)
    p.check()
    assert.deepEqual(p.c.rows.filter((r) => p.c.pending(r)), [], seed)
    assert.deepEqual(p.c.rows, [...this.server.model.rows(this.server.model.head).values()].sort((a, b) => (a['k']! < b['k']! ? -1 : 1)), seed)
    for (const table of ['t', 'u']) {
      const of = (list: { key: string; table: string }[]) => list.filter((e) => e.table === table).map((e) => e.key)
      assert.deepEqual(of(this.server.effects), of(this.written), `${seed}: each once, in order`)
    }
    this.checks += p.checks
    p.client.close()
  }
}

test('each write has one effect, in order, over cuts and reloads', async () => {
  let checks = 0
  let writes = 0
  const seeds = Number(process.env['LAASTER_SEEDS'] ?? 80)
  for (let seed = 1; seed <= seeds; seed++) {
    const run = new Run(seed)
    for (let i = 0; i < 60; i++) await run.step()
    await run.finish()
    checks += run.checks
    writes += run.written.length
  }
  assert.ok(checks > seeds * 10 && writes > seeds * 5, `only ${checks} checks and ${writes} writes`)
})
