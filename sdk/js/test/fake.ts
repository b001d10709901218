// A scripted server, virtual time and virtual network for the tests of the SDK. Nothing here waits: time moves by advance(),
// frames move when the test says so, and everything between is microtasks.

import type { Environment, SocketLike } from '../src/env.ts'
import { memoryStore, type Store } from '../src/store.ts'
import type { ClientFrame, ServerFrame, WireChanges, WireRow } from '../src/wire.ts'

/** Lets promises that are due settle. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve()
  await new Promise((f) => setImmediate(f)) // streams take turns of the loop
  for (let i = 0; i < 20; i++) await Promise.resolve()
}

/** Timers that fire only by advance(). */
export class Time {
  now = 1_000_000
  /** What the server's clock shows more than ours. */
  skew = 0
  #timers = new Map<number, { at: number; f: () => void }>()
  #n = 0

  setTimeout = (f: () => void, ms: number): number => {
    this.#timers.set(++this.#n, { at: this.now + ms, f })
    return this.#n
  }

  clearTimeout = (t: unknown): void => void this.#timers.delete(t as number)

  /** Moves the clock, running timers in their order, each followed by the promises that it made due. */
  async advance(ms: number): Promise<void> {
    const end = this.now + ms
    for (;;) {
      await settle()
      const due = [...this.#timers].filter(([, t]) => t.at <= end).sort((a, b) => a[1].at - b[1].at || a[0] - b[0])[0]
      if (!due) break
      this.#timers.delete(due[0])
      this.now = Math.max(this.now, due[1].at)
      due[1].f()
    }
    this.now = end
    await settle()
  }

  /** Like a throttled tab: the clock moves, and only then the timers fire. */
  async freeze(ms: number): Promise<void> {
    this.now += ms
    await this.advance(0)
  }

  get timers(): number {
    return this.#timers.size
  }
}

/** The client's end of a socket; its server end are the methods after the first four. */
export class FakeSocket implements SocketLike {
  onopen: SocketLike['onopen'] = null
  onmessage: SocketLike['onmessage'] = null
  onclose: SocketLike['onclose'] = null
  onerror: SocketLike['onerror'] = null
  /** Frames from the client that the test has not taken yet. */
  readonly sent: ClientFrame[] = []
  closed = false

  constructor(readonly url: string, readonly protocol: string, private readonly time: Time) {}

  send(data: string): void {
    if (this.closed) throw new Error('send on a closed socket')
    this.sent.push(JSON.parse(data) as ClientFrame)
  }

  close(): void {
    this.closed = true
  }

  /** The handshake succeeds. */
  async accept(): Promise<void> {
    this.onopen?.({})
    await settle()
  }

  /** The connection ends from the far side, or never comes. */
  async cut(code = 1006, reason = ''): Promise<void> {
    this.closed = true
    this.onclose?.({ code, reason })
    await settle()
  }

  /** Sends frames to the client, each as a message of its own. */
  async say(...frames: ServerFrame[]): Promise<void> {
    for (const f of frames) this.onmessage?.({ data: JSON.stringify(f) })
    await settle()
  }

  /** Sends text as it is. */
  async raw(data: string): Promise<void> {
    this.onmessage?.({ data })
    await settle()
  }

  /** Takes the oldest frame of this type that the client sent. */
  take<T extends ClientFrame['type']>(type: T): Extract<ClientFrame, { type: T }> {
    const i = this.sent.findIndex((f) => f.type === type)
    if (i < 0) throw new Error(`the client sent no ${type}, but: ${this.sent.map((f) => f.type).join(' ') || 'nothing'}`)
    return this.sent.splice(i, 1)[0] as Extract<ClientFrame, { type: T }>
  }

  has(type: ClientFrame['type']): boolean {
    return this.sent.some((f) => f.type === type)
  }

  /** accept() and the welcome; returns the hello. */
  async welcome(limits: Record<string, number> = {}): Promise<Extract<ClientFrame, { type: 'hello' }>> {
    await this.accept()
    const hello = this.take('hello')
    await this.say({ type: 'welcome', session: 'x', now: this.time.now + this.time.skew, log: 'l', limits: limits as never })
    return hello
  }
}

/** One HTTP request of the client, waiting for its answer. */
export interface FakeRequest {
  url: string
  method: string
  headers: Record<string, string>
  body: unknown
  /** Answers it. */
  answer(status: number, body: unknown, headers?: Record<string, string>): Promise<void>
  /** The network fails. */
  fail(): Promise<void>
  /** Answers with a stream of events that stays open; the answer writes to it. */
  stream(): Promise<FakeStream>
  aborted(): boolean
}

/** The server's end of a stream of events. */
export interface FakeStream {
  say(text: string): Promise<void>
  end(): Promise<void>
}

/** The surroundings of one client. */
export class World {
  readonly time = new Time()
  readonly sockets: FakeSocket[] = []
  readonly requests: FakeRequest[] = []
  random = 0.5
  seen = true
  #wakers = new Set<() => void>()
  #keys = -1 // the first is the instance of the client
  /** What its random keys begin with: another for another page. */
  prefix = 'key'
  /** Where queued writes are kept; hand it to the next World for a reload. */
  store: Store = memoryStore()

  readonly environment: Environment = {
    now: () => this.time.now,
    setTimeout: this.time.setTimeout,
    clearTimeout: this.time.clearTimeout,
    random: () => this.random,
    visible: () => this.seen,
    painted: (f) => void this.time.setTimeout(f, 16),
    onWake: (f) => {
      this.#wakers.add(f)
      return () => void this.#wakers.delete(f)
    },
    key: () => this.prefix + ++this.#keys,
    socket: (url, protocol) => {
      const s = new FakeSocket(url, protocol, this.time)
      this.sockets.push(s)
      return s
    },
    fetch: (url, init) =>
      new Promise((resolve, reject) => {
        this.requests.push({
          url,
          method: init.method ?? 'GET',
          headers: init.headers as Record<string, string>,
          body: init.body === undefined ? undefined : JSON.parse(init.body as string),
          answer: async (status, body, headers = {}) => {
            resolve(new Response(JSON.stringify(body), { status, headers }))
            await settle()
          },
          stream: async () => {
            let to!: ReadableStreamDefaultController<Uint8Array>
            const body = new ReadableStream<Uint8Array>({ start: (c) => void (to = c) })
            resolve(new Response(body, { headers: { 'Content-Type': 'text/event-stream' } }))
            await settle()
            return {
              say: async (text) => {
                to.enqueue(new TextEncoder().encode(text))
                await settle()
              },
              end: async () => {
                to.close()
                await settle()
              },
            }
          },
          aborted: () => !!init.signal?.aborted,
          fail: async () => {
            reject(new TypeError('fetch failed'))
            await settle()
          },
        })
      }),
    origin: () => 'http://server',
    locks: undefined,
    store: async () => this.store,
  }

  /** The newest socket. */
  get socket(): FakeSocket {
    const s = this.sockets.at(-1)
    if (!s) throw new Error('no socket was opened')
    return s
  }

  get request(): FakeRequest {
    const r = this.requests.at(-1)
    if (!r) throw new Error('no request was made')
    return r
  }

  async wake(): Promise<void> {
    for (const f of this.#wakers) f()
    await settle()
  }

  get wakers(): number {
    return this.#wakers.size
  }
}

/** mulberry32: a small generator with a seed. */
export function generator(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/** A view with its whole history: what a server would answer at every position. */
export class Model {
  readonly history: { at: number; changes: WireChanges; rows: Map<string, WireRow> }[] = [
    { at: 0, changes: {}, rows: new Map() },
  ]

  constructor(readonly key: string[]) {}

  static pos = (seq: number): string => `aaaaaaaaaaaaaaaa.0-${seq}`
  static seq = (position: string): number => Number(position.split('-')[1])

  get head(): number {
    return this.history.length - 1
  }

  rows(seq: number): Map<string, WireRow> {
    return this.history[seq]!.rows
  }

  id(row: WireRow): string {
    return JSON.stringify(this.key.map((k) => row[k]))
  }

  /** Appends one epoch. */
  commit(at: number, put: WireRow[], del: unknown[][]): void {
    const rows = new Map(this.rows(this.head))
    for (const k of del) rows.delete(JSON.stringify(k))
    for (const r of put) rows.set(this.id(r), r)
    this.history.push({ at, changes: { put, del }, rows })
  }

  /** The changes after one position up to another, merged: each key once. */
  between(from: number, to: number): WireChanges {
    const a = this.rows(from)
    const b = this.rows(to)
    const out: Required<WireChanges> = { put: [], del: [] }
    for (const k of a.keys()) if (!b.has(k)) out.del.push(JSON.parse(k) as unknown[])
    for (const [k, r] of b) if (a.get(k) !== r) out.put.push(r)
    return out
  }
}

/** Locks as the browser has them, within one process: first come, first served. */
export class Locks {
  #held = new Map<string, (() => void)[]>()

  request = (async (name: string, ...rest: unknown[]) => {
    const f = rest.at(-1) as (lock: object | null) => unknown
    const ifAvailable = rest.length > 1 && (rest[0] as { ifAvailable?: boolean }).ifAvailable
    const queue = this.#held.get(name)
    if (queue && ifAvailable) return f(null)
    if (queue) await new Promise<void>((next) => queue.push(next))
    else this.#held.set(name, [])
    await undefined // a browser never grants one at once
    try {
      return await f({ name })
    } finally {
      const next = this.#held.get(name)?.shift()
      if (next) next()
      else this.#held.delete(name)
    }
  }) as unknown as LockManager['request']

  /** The page that holds this lock is gone. */
  drop(name: string): void {
    const next = this.#held.get(name)?.shift()
    if (next) next()
    else this.#held.delete(name)
  }

  held(prefix = ''): string[] {
    return [...this.#held.keys()].filter((n) => n.startsWith(prefix))
  }
}
