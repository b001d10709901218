import { Listeners } from './env.ts'
import { comparison, type Compare } from './order.ts'
import { problem, type Problem } from './problem.ts'
import type { SnapshotFrame, SubscribeRequest, WireChanges, WireRow } from './wire.ts'

/** How fresh the rows of a collection are. Times are Unix ms of the local clock. With a reason, the view itself stands still: it passed a limit. */
export type Freshness =
  | { name: 'loading' }
  | { name: 'catching_up'; since: number }
  | { name: 'live' }
  | { name: 'stale'; since: number; reason?: string }
  | { name: 'refused'; problem: Problem }
  | { name: 'closed' }

/** A row when nothing more is known of it: column name to JSON value. */
export type Row = Record<string, unknown>

/** What happened to one row. */
export type RowChange<R> =
  | { op: 'insert'; row: R; old?: undefined }
  | { op: 'update'; row: R; old: R }
  | { op: 'delete'; row?: undefined; old: R }

/** What happened to a collection in one epoch. */
export interface Change<R> {
  /** `epoch`: new events. `snapshot`: the difference to a state sent anew. `gap`: the same, and history between is gone. */
  cause: 'epoch' | 'snapshot' | 'gap'
  position: string
  /** The log's time of the epoch in ms (server's clock); NaN for a snapshot. */
  at: number
  changes: RowChange<R>[]
}

/** What to subscribe to beyond the view's name. */
export interface SubscribeOptions<R> {
  /** PostgREST conditions: `run=eq.7&points=gt.0`, or as an object `{ run: 'eq.7' }`. */
  filter?: string | Record<string, string>
  /** Columns to receive; key columns always come. Default: all. */
  select?: readonly string[] | string
  /** `total.desc,country`: the order of `rows`, and with `limit` which rows. Default: by key. */
  order?: string
  /** Only the first rows by `order`. A server that cannot do so yet refuses it: use a top-N view. */
  limit?: number
  /** Sorts `rows` instead of `order`. */
  compare?: Compare<R>
}

/** What a collection asks of its client. @internal */
export interface Host {
  now(): number
  left(c: Collection): void
}

interface Pending {
  position: string
  key: string[]
  rows: Map<string, WireRow>
  later: { frame: WireChanges; position: string; at: number }[]
}

/** PostgREST conditions as one query string. @internal */
export const query = (f: string | Record<string, string> | undefined): string =>
  typeof f === 'string' ? f : f ? new URLSearchParams(f).toString() : ''

/** A live copy of one view, or of the part of it that was asked for. Made by `client.subscribe`. */
export class Collection<R extends object = Row> {
  /** Resolves at the first complete state; rejects with a Problem when refused or closed before. */
  readonly ready: Promise<this>
  /** The view's name. */
  readonly view: string
  /** @internal */ readonly id: string
  /** Where these rows stand, when that is not the connection's cursor. @internal */
  position_ = ''
  /** @internal */ complete = false
  /** A state of the server's own about this view. @internal */
  reported: 'live' | 'catching_up' | 'stale' = 'live'
  /** Why it stands still, when the server said so. @internal */
  reason: string | undefined

  #host: Host
  #options: SubscribeOptions<R>
  #rows = new Map<string, WireRow>()
  #sorted: R[] | undefined
  #key: string[] = []
  #compare: Compare<WireRow>
  #pending: Pending | undefined
  #gap = false
  #freshness: Freshness = { name: 'loading' }
  #changed = new Listeners<Change<R>>()
  #fresh = new Listeners<Freshness>()
  #settle!: { resolve(c: Collection<R>): void; reject(p: Problem): void }

  /** @internal */
  constructor(host: Host, id: string, view: string, options: SubscribeOptions<R>) {
    this.#host = host
    this.id = id
    this.view = view
    this.#options = options
    this.#compare = comparison(options.order ?? '', [])
    this.ready = new Promise((resolve, reject) => (this.#settle = { resolve: resolve as never, reject }))
    this.ready.catch(() => {}) // whoever awaits it hears of it; nobody has to
  }

  /** The rows in order. A new array after a change, the same one otherwise. Do not change it. */
  get rows(): readonly R[] {
    return (this.#sorted ??= ([...this.#rows.values()] as R[]).sort(this.#options.compare ?? (this.#compare as never)))
  }

  /** Number of rows. */
  get size(): number {
    return this.#rows.size
  }

  /** Names of the key columns, in order; empty before the first complete state and for a view of one row. */
  get key(): readonly string[] {
    return this.#key
  }

  /** The row of these key values, given in the order of `key`. */
  get(...key: unknown[]): R | undefined {
    return this.#rows.get(JSON.stringify(key)) as R | undefined
  }

  get freshness(): Freshness {
    return this.#freshness
  }

  /** The position of these rows; empty before the first complete state. */
  get position(): string {
    return this.position_
  }

  /** Calls f once per epoch that changed a row, after the epoch was applied everywhere. The answer stops it. */
  onChange(f: (change: Change<R>) => void): () => void {
    return this.#changed.add(f)
  }

  /** Calls f when `freshness` changed. The answer stops it. */
  onFreshness(f: (freshness: Freshness) => void): () => void {
    return this.#fresh.add(f)
  }

  /** Ends the subscription. The rows stay readable. Again: no effect. */
  close(): void {
    if (this.#freshness.name === 'closed') return
    this.#end({ name: 'closed' }, problem('closed', `the subscription to ${this.view} was closed`))
    this.#host.left(this as never)
  }

  /** @internal */
  refuse(p: Problem): void {
    this.#end({ name: 'refused', problem: p }, p)
  }

  #end(f: Freshness, p: Problem): void {
    this.#pending = undefined
    this.#settle.reject(p)
    this.setFreshness(f)
  }

  /** @internal */
  setFreshness(f: Freshness): void {
    const was = this.#freshness
    if (JSON.stringify(was) === JSON.stringify(f)) return
    this.#freshness = f
    this.#fresh.emit(f)
  }

  /** The frame that asks for these rows; resume is what the connection's cursor says. @internal */
  request(resume: string | undefined): SubscribeRequest {
    const o = this.#options
    const req: SubscribeRequest = { id: this.id, view: this.view }
    const filter = query(o.filter)
    if (filter) req.filter = filter
    if (o.select) req.select = typeof o.select === 'string' ? o.select : o.select.join(',')
    if (o.order) req.order = o.order
    if (o.limit !== undefined) req.limit = o.limit
    if (!this.complete) req.from = null
    else if (this.position_ !== resume) req.from = this.position_
    return req
  }

  /** Whether the rows are a complete state at the position of the last epoch. @internal */
  get inStep(): boolean {
    return this.complete && !this.#pending
  }

  /** A new socket: pages of the old one are void. @internal */
  reset(): void {
    this.#pending = undefined
    this.reported = 'live'
    this.reason = undefined
  }

  /** @internal */
  gap(): void {
    this.#gap = true
    this.complete = false
  }

  /** @internal */
  resumed(key: string[] | undefined): void {
    if (key) this.#setKey(key)
  }

  /** One page; the answer is the difference once the last page is here. @internal */
  snapshot(f: SnapshotFrame): Change<R>[] | undefined {
    let p = this.#pending
    if (!p || p.position !== f.position) {
      p = this.#pending = { position: f.position, key: f.key ?? p?.key ?? this.#key, rows: new Map(), later: p?.later ?? [] }
    }
    if (f.key) p.key = f.key
    for (const row of f.rows ?? []) p.rows.set(keyOf(row, p.key), row)
    if (f.more) return undefined
    this.#pending = undefined
    this.#setKey(p.key)
    const out: Change<R>[] = [
      { cause: this.#gap ? 'gap' : 'snapshot', position: p.position, at: NaN, changes: this.#replace(p.rows) as RowChange<R>[] },
    ]
    this.#gap = false
    this.complete = true
    this.position_ = p.position
    for (const { frame, position, at } of p.later) out.push(...this.epoch(frame, position, at))
    return out
  }

  /** Applies the changes of one epoch, or keeps them until the snapshot that they follow is whole. @internal */
  epoch(frame: WireChanges, position: string, at: number): Change<R>[] {
    if (this.#pending) {
      this.#pending.later.push({ frame, position, at })
      return []
    }
    if (!this.complete) return []
    const changes: RowChange<WireRow>[] = []
    for (const key of frame.del ?? []) {
      const k = JSON.stringify(key)
      const old = this.#rows.get(k)
      if (old && this.#rows.delete(k)) changes.push({ op: 'delete', old })
    }
    for (const row of frame.put ?? []) {
      const k = keyOf(row, this.#key)
      const old = this.#rows.get(k)
      this.#rows.set(k, row)
      changes.push(old ? { op: 'update', row, old } : { op: 'insert', row })
    }
    this.position_ = position
    if (!changes.length) return []
    this.#sorted = undefined
    return [{ cause: 'epoch', position, at, changes: changes as RowChange<R>[] }]
  }

  /** Tells the listeners, and whoever waits for the first complete state. @internal */
  tell(changes: Change<R>[]): void {
    if (this.complete) this.#settle.resolve(this)
    for (const c of changes) if (c.changes.length || c.cause !== 'epoch') this.#changed.emit(c)
  }

  #setKey(key: string[]): void {
    if (key.join() === this.#key.join()) return
    this.#key = key
    this.#compare = comparison(this.#options.order ?? '', key)
    this.#sorted = undefined
  }

  /** Puts next in place of the rows and returns what changed; equal rows stay the same objects. */
  #replace(next: Map<string, WireRow>): RowChange<WireRow>[] {
    const changes: RowChange<WireRow>[] = []
    for (const [k, old] of this.#rows) if (!next.has(k)) changes.push({ op: 'delete', old })
    for (const [k, row] of next) {
      const old = this.#rows.get(k)
      if (!old) changes.push({ op: 'insert', row })
      else if (JSON.stringify(old) !== JSON.stringify(row)) changes.push({ op: 'update', row, old })
      else next.set(k, old)
    }
    this.#rows = next
    if (changes.length) this.#sorted = undefined
    return changes
  }
}

const keyOf = (row: WireRow, key: string[]): string => JSON.stringify(key.map((c) => row[c]))
