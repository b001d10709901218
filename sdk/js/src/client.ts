import { Channel } from './channel.ts'
import { Collection, query, type Change, type Freshness, type Row, type SubscribeOptions } from './collection.ts'
import { Listeners, surroundings, type Environment, type SocketLike } from './env.ts'
import { Link } from './link.ts'
import { effects, type Effect } from './optimistic.ts'
import { problem, Problem } from './problem.ts'
import { Meter, type Pulse } from './pulse.ts'
import { Queue, type OfflineOptions, type QueuedWrite, type QueueEvent } from './queue.ts'
import { timers, transitions, type StateEvent } from './states.ts'
import { claims } from './token.ts'
import { Writer, type WriteOptions, type WriteResult } from './writes.ts'
import type { ClientFrame, EpochFrame, ServerFrame, SubscribeRequest, WelcomeFrame, WireRow } from './wire.ts'

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

/** What an app has, by name: `laaster schema export --format typescript` prints it. `connect<Schema>()` then knows every row. */
export interface AnySchema {
  /** Rows as they are read. */
  views: object
  /** Rows as they are written. */
  tables: object
  /** Rows of channels and presence. */
  channels?: object
}

/** A schema of which nothing is known. */
export interface Untyped {
  views: Record<string, Row>
  tables: Record<string, Row>
  channels: Record<string, Row>
}

/** The names in one part of a schema. */
export type Names<T> = keyof T & string

/** The rows of one name. */
export type RowOf<T, N> = N extends keyof T ? (T[N] extends object ? T[N] : never) : Row

/** How to connect. Every field may be left out. */
export interface ConnectOptions {
  /** Who asks, for the server's log: `name/version`. */
  client?: string
  /**
   * A bearer token, or a function that gets one. The function is asked for every connection, when the server says that a token
   * has expired, and shortly before a JWT does. Sent in frames and headers, never in the URL.
   */
  token?: string | (() => string | Promise<string>)
  /** Most frames per second that this client wants; the server merges epochs instead. */
  rate?: number
  /** Every epoch in a frame of its own, nothing merged. Not together with `rate`. */
  every?: boolean
  /** Big integers and numerics as strings. */
  exact?: boolean
  /** `auto` (default): a WebSocket, and streams of events with plain requests where it does not get through. */
  transport?: 'auto' | 'websocket' | 'sse'
  /** Queues writes until the server has answered them, over reloads where there is IndexedDB. Default: writes fail after their timeout. */
  offline?: boolean | OfflineOptions
  /** `auto` (default): an epoch counts as shown after the next painted frame. `manual`: when the page calls `shown()`. */
  shown?: 'auto' | 'manual'
  /** The WebSocket class, where there is none built in (Node before 22: the package `ws`). */
  WebSocket?: new (url: string, protocol: string) => SocketLike
  /** For tests: timers, sockets and the rest. */
  environment?: Partial<Environment>
}

/** A connection to one Laaster: live collections and writes. Made by `connect`. */
export class Client<S extends AnySchema = Untyped> {
  #env: Environment
  #options: ConnectOptions
  #link: Link
  #writer: Writer
  #queue: Queue | undefined
  #queued = new Listeners<QueueEvent>()
  #effects = new Map<string, Effect[]>() // of writes without an outcome, by key
  #meter = new Meter()
  #subs = new Map<string, Collection>()
  #n = 0
  #cursor: string | undefined
  #holder: string | undefined // what of the token decides what may be seen
  #shown: string | undefined // the same of the token that the rows came by
  #state: State = { name: 'connecting', attempt: 0, retryAt: 0 }
  #states = new Listeners<State>()
  #epochs = new Listeners<EpochEvent>()
  #reported: 'live' | 'catching_up' | 'stale' = 'live'
  #fresh = 0 // when the rows were last known to be right
  #first = true // no epoch with changes on this socket yet
  #unshown: { position: string; at: number } | undefined // the oldest epoch that is not on the screen, with shown: 'manual'
  #connected = false // whether the link was open when the state was last derived
  #asked = new Set<string>() // subscriptions that the last hello named
  #behind = new Set<string>() // those among them that have no answer yet
  #sockets = 0
  #unwake: () => void
  #token: ConnectOptions['token']
  #bearer: string | undefined // the token in use
  #expires: unknown // the timer before its end
  #instance: string
  #me: string | undefined
  #signals: unknown // the timer that sets rows again that belong to no connection

  /** @internal */
  constructor(url: string, options: ConnectOptions) {
    this.#options = options
    this.#token = options.token
    this.#env = { ...surroundings(options.WebSocket), ...options.environment }
    this.#instance = this.#env.key()
    const base = (url || this.#env.origin()).replace(/\/+$/, '')
    const link = (this.#link = new Link(this.#env, base, options.transport ?? 'auto', {
      token: () => this.#ask(),
      hello: (token) => this.#hello(token),
      opened: (f) => this.#opened(f),
      frame: (f) => this.#frame(f),
      down: () => this.#down(),
      ended: (reason) => this.#end('refused', reason),
      renew: () => !!this.#renew(),
    }))
    this.#writer = new Writer(this.#env, {
      base,
      link,
      token: async () => this.#bearer ?? this.#ask(),
      renew: () => this.#renew(),
    })
    const { offline } = options
    if (offline) {
      const o = offline === true ? {} : offline
      this.#queue = new Queue(this.#env, o.name ?? base, o.limit ?? 1000, {
        get open() {
          return link.open
        },
        send: (w) => this.#writer.write(w.request, 0, w),
        tell: (e) => this.#outcome(e),
        adopted: (key, fx) => this.#expect(key, fx),
      })
    }
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

  /** How the server is reached just now. */
  get transport(): 'websocket' | 'sse' {
    return this.#link.transport
  }

  /** What others see of this client in the column `connection` of presence, once it is known. */
  get connection(): string | undefined {
    return this.#me
  }

  /** With `offline`: the writes that have no answer yet, in order. */
  get queue(): readonly QueuedWrite[] {
    return this.#queue?.list ?? []
  }

  /** Whether waiting writes survive a reload. */
  get durable(): boolean {
    return !!this.#queue?.durable
  }

  /** Calls f when a write was queued, is done or was refused, also one of an earlier page. The answer stops it. */
  onQueue(f: (e: QueueEvent) => void): () => void {
    return this.#queued.add(f)
  }

  /** A live copy of a view or table. Wrong names and filters show as `refused`, since only the server can tell. */
  subscribe<V extends Names<S['views']>>(view: V, options?: SubscribeOptions<RowOf<S['views'], V>>): Collection<RowOf<S['views'], V>>
  subscribe<R extends object = Row>(view: string extends Names<S['views']> ? string : never, options?: SubscribeOptions<R>): Collection<R>
  subscribe(view: string, options: object = {}): never {
    return this.#begin(new Collection(this.#host, 's' + ++this.#n, view, options)) as never
  }

  /** The rows of a channel, and the way to set them. */
  channel<V extends Names<S['channels']>>(name: V, options?: SubscribeOptions<RowOf<S['channels'], V>>): Channel<RowOf<S['channels'], V>>
  channel<R extends object = Row>(name: string extends Names<S['channels']> ? string : never, options?: SubscribeOptions<R>): Channel<R>
  channel(name: string, options: object = {}): never {
    return this.#begin(new Channel(this.#host, 's' + ++this.#n, name, options)) as never
  }

  /** Who is there: joins with these fields, and follows the others. `set` changes the fields, `close` leaves. */
  presence<V extends Names<S['channels']>>(name: V, fields?: Partial<RowOf<S['channels'], V>>, options?: SubscribeOptions<RowOf<S['channels'], V>>): Channel<RowOf<S['channels'], V>>
  presence<R extends object = Row>(name: string extends Names<S['channels']> ? string : never, fields?: Partial<R>, options?: SubscribeOptions<R>): Channel<R>
  presence(name: string, fields: object = {}, options: object = {}): never {
    const c = this.#begin(new Channel(this.#host, 's' + ++this.#n, name, options))
    c.set(fields)
    return c as never
  }

  #host = {
    now: () => this.#env.now(),
    left: (c: Collection) => this.#left(c),
    signal: (c: Channel, key: object | undefined, value: object | null) =>
      this.#link.send({ type: 'signal', id: 'g' + c.id, table: c.view, key: key as WireRow, value: value as WireRow | null }),
  }

  #begin<C extends Collection>(c: C): C {
    if (this.#state.name === 'closed') c.refuse(this.#state.reason ?? problem('closed', 'the client is closed'))
    else {
      this.#subs.set(c.id, c)
      this.#request(c)
      for (const [key, fx] of this.#effects) for (const e of fx) if (e.view === c.view) c.expect(key, e)
    }
    return c
  }

  /** Asks for the rows of c. */
  #request(c: Collection): void {
    const f: ClientFrame = { type: 'subscribe', ...c.request(undefined) }
    const p = this.#link.tooLarge(f)
    if (p) this.#refusedSub(c.id, p)
    else this.#link.send(f)
  }

  /** Appends one row. Rejects with the row's Problem when it is refused. */
  async insert<T extends Names<S['tables']>>(table: T, row: RowOf<S['tables'], T>, options: WriteOptions = {}): Promise<WriteResult> {
    const r = await this.insertMany(table, [row], options)
    const bad = r.rejected[0]?.problem
    if (!bad) return r
    bad.key = r.key
    throw bad
  }

  /** Appends rows, each for itself unless `atomic`. Resolves with the refused ones listed. */
  insertMany<T extends Names<S['tables']>>(table: T, rows: readonly RowOf<S['tables'], T>[], options: WriteOptions = {}): Promise<WriteResult> {
    return this.#write({ table, rows: rows as unknown as WireRow[] }, options)
  }

  /** Sets the columns of patch in every row of a keyed table that the filter finds. */
  update<T extends Names<S['tables']>>(table: T, filter: string | Record<string, string>, patch: Partial<RowOf<S['tables'], T>>, options: WriteOptions = {}): Promise<WriteResult> {
    return this.#write({ table, filter: query(filter), patch: patch as WireRow }, options)
  }

  /** Deletes every row of a keyed table that the filter finds. */
  delete(table: Names<S['tables']>, filter: string | Record<string, string>, options: WriteOptions = {}): Promise<WriteResult> {
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
    this.#use(token)
    this.#link.send({ type: 'token', token })
  }

  /** Ends everything: subscriptions keep their rows, waiting writes reject; queued ones stay for the next client. Again: no effect. */
  close(): void {
    if (this.#state.name === 'closed') return
    for (const c of this.#subs.values()) if (c instanceof Channel) c.close() // others see at once that nobody is here
    this.#end('close', undefined)
  }

  async #write(request: Parameters<Writer['request']>[0], o: WriteOptions): Promise<WriteResult> {
    const full = this.#writer.request(request, o)
    const { key } = full
    const fx = effects(full, o.optimistic ?? false)
    this.#expect(key, fx)
    try {
      if (this.#state.name === 'closed') throw problem('closed', 'the client is closed')
      if (this.#queue && o.queue !== false) return await this.#queue.add({ request: full, effects: fx, repeatable: !!o.repeatable })
      const result = await this.#writer.write(full, o.timeout)
      this.#settle(key, result)
      return result
    } catch (p) {
      this.#rollback(key, p as Problem)
      throw p
    }
  }

  /** Shows what a write is to do. */
  #expect(key: string, fx: Effect[]): void {
    if (!fx.length) return
    this.#effects.set(key, fx)
    for (const e of fx) this.#retell((c) => (c.view === e.view ? c.expect(key, e) : []))
  }

  #settle(key: string, r: WriteResult): void {
    if (this.#effects.delete(key)) this.#retell((c) => c.settle(key, r.position, r.rejected))
  }

  #rollback(key: string, p: Problem): void {
    if (this.#effects.delete(key)) this.#retell((c) => c.rollback(key, p))
  }

  /** Changes what collections show, all of them before the first listener hears of it. */
  #retell(f: (c: Collection) => Change<Row>[]): void {
    const told = [...this.#subs.values()].map((c) => [c, f(c)] as const)
    for (const [c, changes] of told) c.tell(changes)
  }

  #outcome(e: QueueEvent): void {
    if (e.type === 'done') this.#settle(e.key, e.result)
    else if (e.type === 'refused') this.#rollback(e.key, e.problem)
    this.#queued.emit(e)
  }

  /** Asks for a token and uses it. */
  async #ask(): Promise<string | undefined> {
    const token = typeof this.#token === 'function' ? await this.#token() : this.#token
    this.#use(token)
    return token
  }

  #use(token: string | undefined): void {
    this.#bearer = token
    this.#env.clearTimeout(this.#expires)
    const { exp, iat, nbf, jti, ...holder } = claims(token) // these differ from one token to the next of the same login
    this.#holder = JSON.stringify(holder)
    const left = typeof this.#token === 'function' ? exp! * 1000 - this.now() : NaN
    if (left > 0 && left < 2 ** 31 && this.#state.name !== 'closed') {
      this.#expires = this.#env.setTimeout(() => void this.#renew(), Math.max(left / 2, left - timers.token_ahead))
    }
  }

  /** Gets a fresh token and tells the server, where there is a function that gives one. While there is no connection, the next hello does so. */
  #renew(): Promise<unknown> | undefined {
    if (typeof this.#token !== 'function') return undefined
    if (!this.#link.open) {
      this.#bearer = undefined
      return Promise.resolve()
    }
    const done = this.#ask().then((token) => token && this.#link.send({ type: 'token', token }))
    done.catch(() => {}) // whoever waits for it hears of it
    return done
  }

  #hello(token: string | undefined): ClientFrame {
    const o = this.#options
    const [name = 'laaster-js', v = version] = (o.client ?? '').split('/').filter(Boolean)
    const subscribe: SubscribeRequest[] = []
    for (const c of this.#subs.values()) {
      c.reset()
      if (this.#shown !== this.#holder) c.complete = false // somebody else's rows do not go on
      subscribe.push(c.request(this.#cursor))
    }
    this.#shown = this.#holder
    this.#asked = new Set(this.#subs.keys())
    return {
      type: 'hello',
      client: { name, version: v },
      instance: this.#instance,
      subscribe,
      token: token || undefined, // what is undefined is not sent
      resume: this.#cursor || undefined,
      rate: o.rate || undefined,
      every: o.every || undefined,
      exact: o.exact || undefined,
    } as ClientFrame
  }

  #opened(f: WelcomeFrame): void {
    this.#reported = 'live'
    this.#first = true
    this.#sockets++
    if (f.connection) this.#me = f.connection
    if (f.limits.dedupe_seconds) this.#writer.window = f.limits.dedupe_seconds * 1000
    this.#behind = new Set()
    for (const id of this.#asked) {
      if (this.#subs.has(id)) this.#behind.add(id)
      else this.#link.send({ type: 'unsubscribe', id }) // closed meanwhile
    }
    for (const c of this.#subs.values()) {
      if (!this.#asked.has(c.id)) this.#request(c) // made meanwhile
    }
    this.#signalAgain()
    this.#writer.reopened()
    this.#queue?.opened()
    this.#refresh()
  }

  /** Sets this client's rows in channels; again and again where they belong to no connection and would end by their time to live. */
  #signalAgain(): void {
    this.#env.clearTimeout(this.#signals)
    const all = [...this.#subs.values()].filter((c) => c instanceof Channel)
    for (const c of all) c.again()
    if (this.#link.open && !this.#link.duplex) this.#signals = this.#env.setTimeout(() => this.#signalAgain(), timers.signal_again)
  }

  #frame(f: ServerFrame): void {
    this.#me = (f as WelcomeFrame).connection ?? this.#me // a stream of events tells it so
    switch (f.type) {
      case 'epoch':
        return this.#epoch(f)
      case 'snapshot': {
        const c = this.#subs.get(f.id)
        const changes = c?.snapshot(f)
        if (!c || !changes) return
        this.#behind.delete(f.id)
        if (this.#link.duplex) this.#cursor ??= f.position
        this.#refresh()
        c.tell(changes)
        return this.#epochs.emit({ position: f.position, at: NaN, changed: [c] })
      }
      case 'signals': {
        const c = this.#subs.get(f.id)
        const changes = c instanceof Channel ? c.signals(f) : undefined
        if (!c || !changes) return
        this.#behind.delete(f.id)
        this.#refresh()
        return c.tell(changes)
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
        if (f.id[0] === 'g') return (this.#subs.get(f.id.slice(1)) as Channel | undefined)?.problem(new Problem(f.error))
        return this.#refusedSub(f.id, new Problem(f.error))
    }
  }

  /** Applies one frame whole, and then tells of it. only: the frame is about one subscription, whose positions are its own. */
  #epoch(f: EpochFrame & { only?: string }): void {
    const at = f.at
    const told: [Collection, Change<Row>[]][] = []
    let n = 0
    for (const c of f.only ? [this.#subs.get(f.only)] : this.#subs.values()) {
      const frame = c && f.changes[c.id]
      if (frame) n += (frame.put?.length ?? 0) + (frame.del?.length ?? 0)
      else if (!c?.inStep || this.#behind.has(c.id)) continue
      const changes = c.epoch(frame ?? {}, f.position, at)
      if (frame || changes.length) told.push([c, changes])
    }
    if (!f.only) this.#cursor = f.position
    this.#fresh = this.#env.now()
    if (n) this.#meter.count(this.#fresh, n)
    const live = this.#state.name === 'live'
    for (const [c, changes] of told) c.tell(changes)
    if (told.length) this.#epochs.emit({ position: f.position, at, changed: told.map(([c]) => c) })
    if (!n) return
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
    const fresh = p.code === 'token_expired' && this.#renew()
    if (p.retry === 'after' || fresh) {
      const socket = this.#sockets // a new one asks by itself
      this.#env.setTimeout(() => {
        if (!this.#subs.has(id) || socket !== this.#sockets) return
        if (c.complete) this.#behind.add(id) // until it is answered, epochs are none of its business
        this.#request(c)
        this.#refresh()
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

  #end(event: StateEvent, reason: Problem | undefined): void {
    this.#go(event, 0, reason)
    this.#unwake()
    for (const t of [this.#expires, this.#signals]) this.#env.clearTimeout(t)
    this.#link.close()
    this.#queue?.close()
    this.#writer.close()
    for (const c of this.#subs.values()) {
      this.#subs.delete(c.id)
      if (reason) c.refuse(reason)
      else c.close()
    }
  }

  /** Derives the states from what is known, and tells of those that changed. */
  #refresh(): void {
    if (this.#state.name === 'closed') return
    const now = this.#env.now()
    const link = this.#link
    if (this.#state.name === 'live') this.#fresh = link.heard
    const since = this.#fresh || now
    let event: StateEvent
    if (!link.open) event = this.#connected ? 'lost' : 'failed'
    else if (this.#reported === 'stale') event = 'stalled'
    else if (this.#behind.size > 0 || this.#reported === 'catching_up') event = 'behind'
    else {
      event = 'complete'
      this.#fresh = now
    }
    this.#connected = link.open
    this.#go(event, since)
    for (const c of this.#subs.values()) c.setFreshness(this.#freshnessOf(c, since))
  }

  /** Moves by the table of states.ts. */
  #go(event: StateEvent, since: number, reason?: Problem): void {
    const was = this.#state
    const name = transitions[was.name][event] ?? was.name
    const { attempt, retryAt, reason: why } = this.#link
    let s: State
    if (name === 'closed') s = { name, ...(reason ? { reason } : {}) }
    else if (name === 'connecting') s = { name, attempt, retryAt, reason: why }
    else if (name === 'stale') s = { name, since, attempt, retryAt, reason: why }
    else s = was.name === name ? was : { name, since: this.#env.now() }
    this.#state = s
    if (JSON.stringify(was) !== JSON.stringify(s)) this.#states.emit(s)
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
}

/**
 * Connects to a Laaster at url (`https://host[:port]`, or '' for the page's own origin) and keeps reconnecting until `close()`.
 * With a schema, `connect<Schema>()`, names and rows are checked by the compiler.
 */
export function connect<S extends AnySchema = Untyped>(url = '', options: ConnectOptions = {}): Client<S> {
  return new Client<S>(url, options)
}
