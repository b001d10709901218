// Random histories, cuts, resumes, pages and merges by seed: at every position that a client was told, its rows are the view's.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connect, type Client, type Collection } from '../src/index.ts'
import type { ServerFrame, SubscribeRequest, WireChanges, WireRow } from '../src/wire.ts'
import { generator, Model, settle, World, type FakeSocket } from './fake.ts'

/** The server's side of one connection: where each subscription stands, and which frames are still to be sent. */
interface Session {
  socket: FakeSocket
  at: Map<string, number>
  views: Map<string, string>
  queue: ServerFrame[]
  position: number
}

class Run {
  readonly random: () => number
  readonly w = new World()
  readonly models = new Map([['a', new Model(['k'])], ['b', new Model(['k', 'l'])]])
  readonly client: Client
  readonly cs: Collection[] = []
  session: Session | undefined
  checks = 0

  constructor(readonly seed: number) {
    this.random = generator(seed)
    this.client = connect('http://server', { environment: this.w.environment })
    this.subscribe()
  }

  pick(n: number): number {
    return Math.floor(this.random() * n)
  }

  subscribe(): void {
    const c = this.client.subscribe(this.pick(2) ? 'a' : 'b')
    c.onChange(() => this.check(c))
    this.cs.push(c)
  }

  /** The promise: the rows are those of the position that they claim. */
  check(c: Collection): void {
    const m = this.models.get(c.view)!
    if (!c.position) return
    const want = [...m.rows(Model.seq(c.position)).entries()].sort()
    const got = c.rows.map((r) => [m.id(r), r] as const).sort()
    assert.deepEqual(got, want, `seed ${this.seed}, view ${c.view} at ${c.position}`)
    this.checks++
  }

  /** One epoch over both views. */
  commit(): void {
    for (const m of this.models.values()) {
      const put: WireRow[] = []
      const del: unknown[][] = []
      const used = new Set<string>()
      for (let i = this.pick(4); i > 0; i--) {
        const row: WireRow = { k: this.pick(5), l: 'x' + this.pick(2), n: this.pick(100) }
        if (m.key.length === 1) delete row['l']
        if (used.has(m.id(row))) continue
        used.add(m.id(row))
        if (this.pick(3)) put.push(row)
        else if (m.rows(m.head).has(m.id(row))) del.push(m.key.map((k) => row[k]))
      }
      m.commit(this.w.time.now, put, del)
    }
  }

  get head(): number {
    return this.models.get('a')!.head
  }

  /** Answers a subscription: resumed, gap, or a snapshot in pages. */
  answer(s: Session, q: SubscribeRequest, resume: string | undefined): void {
    const m = this.models.get(q.view)!
    const from = q.from === undefined ? resume : q.from
    s.views.set(q.id, q.view)
    if (from && this.pick(2)) {
      s.queue.push({ type: 'resumed', id: q.id, position: from })
      s.at.set(q.id, Model.seq(from))
      return
    }
    if (from && this.pick(2)) s.queue.push({ type: 'gap', id: q.id, kept_from: Model.pos(0) })
    const rows = [...m.rows(this.head).values()]
    const page = 1 + this.pick(3)
    for (let i = 0; i === 0 || i < rows.length; i += page) {
      s.queue.push({ type: 'snapshot', id: q.id, position: Model.pos(this.head), key: m.key, rows: rows.slice(i, i + page), more: i + page < rows.length })
    }
    s.at.set(q.id, this.head)
  }

  async connectNow(): Promise<void> {
    while (!this.w.sockets.length || this.w.socket.closed) await this.w.time.advance(500)
    const s: Session = (this.session = { socket: this.w.socket, at: new Map(), views: new Map(), queue: [], position: this.head })
    const hello = await s.socket.welcome()
    for (const q of hello.subscribe ?? []) this.answer(s, q, hello.resume)
    s.queue.sort(() => this.random() - 0.5 || 0) // conversations interleave …
    s.queue = inOrderPerSubscription(s.queue)
  }

  /** Takes the requests that came, and queues the next epoch: one, or several merged. */
  serve(s: Session): void {
    while (s.socket.has('subscribe')) this.answer(s, s.socket.take('subscribe'), undefined)
    while (s.socket.has('unsubscribe')) {
      const { id } = s.socket.take('unsubscribe')
      s.at.delete(id)
      s.queue = s.queue.filter((f) => !('id' in f) || f.id !== id)
    }
    s.position = this.head
    const changes: Record<string, WireChanges> = {}
    for (const [id, at] of s.at) {
      const m = this.models.get(s.views.get(id)!)!
      const c = m.between(Math.min(at, s.position), s.position)
      if (c.put?.length || c.del?.length) changes[id] = c
      s.at.set(id, s.position)
    }
    s.queue.push({ type: 'epoch', position: Model.pos(s.position), at: this.w.time.now, changes })
  }

  async step(): Promise<void> {
    const s = this.session
    if (this.pick(3) === 0) this.commit()
    if (!s) return this.connectNow()
    switch (this.pick(12)) {
      case 0:
        this.session = undefined
        return s.socket.cut()
      case 1:
        if (this.cs.length < 6) this.subscribe()
        break
      case 2:
        if (this.cs.length > 1) this.cs.splice(this.pick(this.cs.length), 1)[0]!.close()
        break
      default:
        break
    }
    if (this.pick(2)) this.serve(s)
    for (let n = this.pick(4); n > 0 && s.queue.length; n--) await s.socket.say(s.queue.shift()!)
  }

  async finish(): Promise<void> {
    if (!this.session) await this.connectNow()
    const s = this.session!
    this.serve(s)
    while (s.queue.length) await s.socket.say(s.queue.shift()!)
    await settle()
    assert.equal(this.client.state.name, 'live', `seed ${this.seed}`)
    for (const c of this.cs) {
      assert.equal(c.freshness.name, 'live')
      assert.equal(c.position, Model.pos(this.head), `seed ${this.seed}`)
      this.check(c)
    }
    this.client.close()
    await this.w.time.advance(16) // frames that were being painted
    assert.equal(this.w.time.timers, 0)
  }
}

/** Shuffled frames of several conversations, each conversation in its own order. */
function inOrderPerSubscription(frames: ServerFrame[]): ServerFrame[] {
  const original = new Map<string, ServerFrame[]>()
  const rank = (f: ServerFrame) => (f.type === 'gap' ? 0 : f.type === 'snapshot' && f.more ? 1 : 2)
  for (const f of frames) {
    const id = (f as { id: string }).id
    original.set(id, [...(original.get(id) ?? []), f])
  }
  for (const list of original.values()) list.sort((a, b) => rank(a) - rank(b))
  return frames.map((f) => original.get((f as { id: string }).id)!.shift()!)
}

test('rows equal the view at every position told, over 500 random conversations', async () => {
  let checks = 0
  for (let seed = 1; seed <= 500; seed++) {
    const run = new Run(seed)
    for (let i = 0; i < 60; i++) await run.step()
    await run.finish()
    checks += run.checks
  }
  assert.ok(checks > 5000, `only ${checks} checks`)
})
