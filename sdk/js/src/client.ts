import { Collection, query, type Freshness, type Row, type SubscribeOptions } from './collection.ts'
import { Listeners, surroundings, type Environment, type SocketLike } from './env.ts'
import { Link } from './link.ts'
import { problem, Problem } from './problem.ts'
import { Meter, type Pulse } from './pulse.ts'
import { Writer, type WriteOptions, type WriteResult } from './writes.ts'
import type { ClientFrame, EpochFrame, ServerFrame, SubscribeRequest, WireRow } from './wire.ts'

/** Version of the SDK. */
export const version = '0.1.0'

/** The state of a connection. Times are Unix ms of the local clock; docs/sdk.md has the transitions. */
export type State =
  | { name: 'connecting'; attempt: number; retryAt: number; reason?: Problem | undefined }
  | { name: 'catching_up'; since: number }
  | { name: 'live'; since: number }
  | { name: 'stale'; since: number; attempt: number; retryAt: number; reason?: Problem | undefined }
  | { name: 'closed'; reason?: Problem }

/** One applied frame of changes. */
export interface EpochEvent {
  position: string
  /** The log's time in ms (server's clock). */
  at: number
  /** The collections that changed. */
  changed: Collection[]
}

/** How to connect. Every field may be left out. */
export interface ConnectOptions {
  /** Who asks, for the server's log: `name/version`. */
  client?: string
  /** A bearer token, or a function that gets one; it is asked anew for every connection. Sent in the first frame, never in the URL. */
  token?: string | (() => string | Promise<string>)
  /** Most frames per second that this client wants; the server merges epochs instead. */
  rate?: number
  /** Big integers and numerics as strings. */
  exact?: boolean
  /** `auto` (default): an epoch counts as shown after the next painted frame. `manual`: when the page calls `shown()`. */
  shown?: 'auto' | 'manual'
  /** The WebSocket class, where there is none built in (Node before 22: the package `ws`). */
  WebSocket?: new (url: string, protocol: string) => SocketLike
  /** For tests: timers, sockets and the rest. */
  environment?: Partial<Environment>
}

/** A connection to one Laaster: live collections and writes. Made by `connect`. */
export class Client {
  #env: Environment
  #options: ConnectOptions
  #link: Link
  #writer: Writer
  #meter = new Meter()
  #subs = new Map<string, Collection>()
  #n = 0
  #cursor: string | undefined
  #state: State = { name: 'connecting', attempt: 0, retryAt: 0 }
  #states = new Listeners<State>()
  #epochs = new Listeners<EpochEvent>()
  #reported: 'live' | 'catching_up' | 'stale' = 'live'
  #fresh = 0 // when the rows were last known to be right
  #first = true // no epoch with changes on this socket yet
  #unshown: { position: string; at: number } | undefined // the oldest epoch that is not on the screen, with shown: 'manual'
  #asked = new Set<string>() // subscriptions that the last hello named
  #behind = new Set<string>() // those among them that have no answer yet
  #sockets = 0
  #unwake: () => void
  #token: ConnectOptions['token']

  /** @internal */
  constructor(url: string, options: ConnectOptions) {
    this.#options = options
    this.#token = options.token
    this.#env = { ...surroundings(options.WebSocket), ...options.environment }
    const base = (url || this.#env.origin()).replace(/\/+$/, '')
    this.#link = new Link(this.#env, base.replace(/^http/, 'ws') + '/v1/live', {
      hello: () => this.#hello(),
      opened: () => this.#opened(),
      frame: (f) => this.#frame(f),
      down: () => this.#down(),
      ended: (reason) => this.#end(reason),
      renew: () => typeof this.#token === 'function',
    })
    const link = this.#link
    this.#writer = new Writer(this.#env, {
      base,
      get open() {
        return link.open
      },
      get frameBytes() {
        return link.frameBytes
      },
      send: (f) => link.send(f),
      token: () => this.#bearer(),
    })
    this.#unwake = this.#env.onWake(() => (this.#unshown = undefined)) // what waited for a hidden page tells nothing
    this.#link.start()
  }

  get state(): State {
    return this.#state
  }

  /** Calls f when `state` changed. The answer stops it. */
  onState(f: (state: State) => void): () => void {
    return this.#states.add(f)
  }

  /** Calls f once per applied epoch that changed a row, after the listeners of the collections. The answer stops it. */
  onEpoch(f: (epoch: EpochEvent) => void): () => void {
    return this.#epochs.add(f)
  }

  /** A live copy of a view or table. Wrong names and filters show as `refused`, since only the server can tell. */
  subscribe<R extends object = Row>(view: string, options: SubscribeOptions<R> = {}): Collection<R> {
    const c = new Collection<R>(
      { now: () => this.#env.now(), left: (s) => this.#left(s) },
      's' + ++this.#n, view, options,
    )
    if (this.#state.name === 'closed') c.refuse(this.#state.reason ?? problem('closed', 'the client is closed'))
    else {
      this.#subs.set(c.id, c as never)
      this.#link.send({ type: 'subscribe', ...c.request(undefined) })
    }
    return c
  }

  /** Appends one row. Rejects with the row's Problem when it is refused. */
  async insert<R extends object = Row>(table: string, row: R, options: WriteOptions = {}): Promise<WriteResult> {
    const r = await this.insertMany(table, [row], options)
    const bad = r.rejected[0]?.problem
    if (!bad) return r
    bad.key = r.key
    throw bad
  }

  /** Appends rows, each for itself unless `atomic`. Resolves with the refused ones listed. */
  insertMany<R extends object = Row>(table: string, rows: readonly R[], options: WriteOptions = {}): Promise<WriteResult> {
    return this.#write({ table, rows: rows as unknown as WireRow[] }, options)
  }

  /** Sets the columns of patch in every row of a keyed table that the filter finds. */
  update(table: string, filter: string | Record<string, string>, patch: object, options: WriteOptions = {}): Promise<WriteResult> {
    return this.#write({ table, filter: query(filter), patch: patch as WireRow }, options)
  }

  /** Deletes every row of a keyed table that the filter finds. */
  delete(table: string, filter: string | Record<string, string>, options: WriteOptions = {}): Promise<WriteResult> {
    return this.#write({ table, filter: query(filter), delete: true }, options)
  }

  /** The server's time in ms, as far as it is known. */
  now(): number {
    return this.#env.now() + this.#link.clock.offset
  }

  /** Delay, rate and clock, for the pulse chip. */
  pulse(): Pulse {
    const { offset, rtt } = this.#link.clock
    return { ...this.#meter.read(this.#env.now()), offset, rtt }
  }

  /** With `shown: 'manual'`: what arrived until now is on the screen. */
  shown(): void {
    const e = this.#unshown
    this.#unshown = undefined
    if (e) this.#measure(e.position, e.at)
  }

  /** Uses another token from now on, on the open connection too. */
  setToken(token: string): void {
    this.#token = token
    this.#link.send({ type: 'token', token })
  }

  /** Ends everything: subscriptions keep their rows, waiting writes reject. Again: no effect. */
  close(): void {
    if (this.#state.name !== 'closed') this.#end(undefined)
  }

  #write(request: Parameters<Writer['write']>[0], options: WriteOptions): Promise<WriteResult> {
    if (this.#state.name === 'closed') return Promise.reject(problem('closed', 'the client is closed'))
    return this.#writer.write(request, options)
  }

  async #bearer(): Promise<string | undefined> {
    return typeof this.#token === 'function' ? await this.#token() : this.#token
  }

  async #hello(): Promise<ClientFrame> {
    const o = this.#options
    const token = await this.#bearer()
    const [name = 'laaster-js', v = version] = (o.client ?? '').split('/').filter(Boolean)
    const subscribe: SubscribeRequest[] = []
    for (const c of this.#subs.values()) {
      c.reset()
      subscribe.push(c.request(this.#cursor))
    }
    this.#asked = new Set(this.#subs.keys())
    return {
      type: 'hello',
      client: { name, version: v },
      subscribe,
      ...(token ? { token } : {}),
      ...(this.#cursor ? { resume: this.#cursor } : {}),
      ...(o.rate ? { rate: o.rate } : {}),
      ...(o.exact ? { exact: true } : {}),
    }
  }

  #opened(): void {
    this.#reported = 'live'
    this.#first = true
    this.#sockets++
    this.#behind = new Set()
    for (const id of this.#asked) {
      if (this.#subs.has(id)) this.#behind.add(id)
      else this.#link.send({ type: 'unsubscribe', id }) // closed meanwhile
    }
    for (const c of this.#subs.values()) {
      if (!this.#asked.has(c.id)) this.#link.send({ type: 'subscribe', ...c.request(undefined) }) // made meanwhile
    }
    this.#writer.reopened()
    this.#refresh()
  }

  #frame(f: ServerFrame): void {
    switch (f.type) {
      case 'epoch':
        return this.#epoch(f)
      case 'snapshot': {
        const c = this.#subs.get(f.id)
        const changes = c?.snapshot(f)
        if (!c || !changes) return
        this.#behind.delete(f.id)
        this.#cursor ??= f.position
        this.#refresh()
        c.tell(changes)
        return this.#epochs.emit({ position: f.position, at: NaN, changed: [c] })
      }
      case 'resumed': {
        const c = this.#subs.get(f.id)
        c?.resumed(f.key)
        this.#behind.delete(f.id)
        this.#refresh()
        return c?.tell([])
      }
      case 'gap':
        this.#subs.get(f.id)?.gap()
        return this.#refresh()
      case 'result':
        return void this.#writer.answer(f.id, f)
      case 'freshness': {
        const c = f.id === undefined ? undefined : this.#subs.get(f.id)
        if (c) (c.reported = f.state), (c.reason = f.reason)
        else if (f.id === undefined) this.#reported = f.state
        return this.#refresh()
      }
      case 'error':
        if (f.id === undefined || this.#writer.answer(f.id, f)) return
        return this.#refusedSub(f.id, new Problem(f.error))
    }
  }

  #epoch(f: EpochFrame): void {
    const at = f.at
    const told: [Collection, ReturnType<Collection['epoch']>][] = []
    let n = 0
    for (const id in f.changes) {
      const c = this.#subs.get(id)
      const frame = f.changes[id]!
      n += (frame.put?.length ?? 0) + (frame.del?.length ?? 0)
      if (c) told.push([c, c.epoch(frame, f.position, at)])
    }
    this.#cursor = f.position
    for (const c of this.#subs.values()) if (c.inStep && !this.#behind.has(c.id)) c.position_ = f.position
    this.#fresh = this.#env.now()
    if (!n) return
    this.#meter.count(this.#fresh, n)
    const live = this.#state.name === 'live'
    for (const [c, changes] of told) c.tell(changes)
    this.#epochs.emit({ position: f.position, at, changed: told.map(([c]) => c) })
    if (live && !this.#first && this.#env.visible()) {
      if (this.#options.shown === 'manual') this.#unshown ??= { position: f.position, at }
      else this.#measure(f.position, at)
    }
    this.#first = false
  }

  #measure(position: string, at: number): void {
    this.#env.painted(() => {
      const now = this.#env.now()
      this.#meter.delay(now, position, Math.max(0, this.now() - at), this.#env.random())
      const r = this.#meter.report(now)
      if (r) this.#link.send({ type: 'seen', position: r.position, shown_ms: Math.round(r.ms * 1000) / 1000 })
    })
  }

  #refusedSub(id: string, p: Problem): void {
    const c = this.#subs.get(id)
    if (!c) return
    if (p.retry === 'after') {
      const socket = this.#sockets // a new one asks by itself
      this.#env.setTimeout(() => {
        if (this.#subs.has(id) && socket === this.#sockets) this.#link.send({ type: 'subscribe', ...c.request(undefined) })
      }, p.retryAfterMs ?? 1000)
      return
    }
    this.#subs.delete(id)
    this.#behind.delete(id)
    c.refuse(p)
    this.#refresh()
  }

  #left(c: Collection): void {
    if (!this.#subs.delete(c.id)) return
    this.#behind.delete(c.id)
    this.#link.send({ type: 'unsubscribe', id: c.id })
    this.#refresh()
  }

  #down(): void {
    this.#unshown = undefined
    this.#refresh()
  }

  #end(reason: Problem | undefined): void {
    this.#set({ name: 'closed', ...(reason ? { reason } : {}) })
    this.#unwake()
    this.#link.close()
    this.#writer.close()
    for (const c of [...this.#subs.values()]) {
      this.#subs.delete(c.id)
      if (reason) c.refuse(reason)
      else c.close()
    }
  }

  /** Derives the states from what is known, and tells of those that changed. */
  #refresh(): void {
    const s = this.#state
    if (s.name === 'closed') return
    const now = this.#env.now()
    const link = this.#link
    if (s.name === 'live') this.#fresh = link.heard
    const since = this.#fresh || now
    const away = { attempt: link.attempt, retryAt: link.retryAt, reason: link.reason }
    if (!link.open) this.#set(this.#fresh ? { name: 'stale', since, ...away } : { name: 'connecting', ...away })
    else if (this.#reported === 'stale') this.#set({ name: 'stale', since, ...away })
    else {
      const behind = this.#behind.size > 0 || this.#reported === 'catching_up'
      const name = behind ? 'catching_up' : 'live'
      if (!behind) this.#fresh = now
      if (s.name !== name) this.#set({ name, since: now })
    }
    for (const c of this.#subs.values()) c.setFreshness(this.#freshnessOf(c, since))
  }

  #freshnessOf(c: Collection, since: number): Freshness {
    if (!c.complete && !c.size && !c.position_) return { name: 'loading' }
    const was = c.freshness
    if ('since' in was) since = was.since // the spell goes on
    const link = this.#link
    if (c.reported === 'stale' && c.reason) return { name: 'stale', since, reason: c.reason }
    if (!link.open || this.#reported === 'stale' || c.reported === 'stale') return { name: 'stale', since }
    const behind = !c.complete || this.#behind.has(c.id) || c.reported === 'catching_up' || this.#reported === 'catching_up'
    return behind ? { name: 'catching_up', since } : { name: 'live' }
  }

  #set(s: State): void {
    const was = this.#state
    this.#state = s
    if (JSON.stringify(was) !== JSON.stringify(s)) this.#states.emit(s)
  }
}

/** Connects to a Laaster at url (`https://host[:port]`, or '' for the page's own origin) and keeps reconnecting until `close()`. */
export function connect(url = '', options: ConnectOptions = {}): Client {
  return new Client(url, options)
}
