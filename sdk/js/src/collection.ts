import { Listeners } from './env.ts'
import { comparison, type Compare } from './order.ts'
import { meets, type Effect } from './optimistic.ts'
import { reaches } from './position.ts'
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
  /**
   * `epoch`: new events. `snapshot`: the difference to a state sent anew. `gap`: the same, and history between is gone.
   * `optimistic`: rows shown ahead of a write, or the truth in their place. `rollback`: such rows taken back, see `problem`.
   */
  cause: 'epoch' | 'snapshot' | 'gap' | 'optimistic' | 'rollback'
  position: string
  /** The log's time of the epoch in ms (server's clock); NaN for anything else. */
  at: number
  changes: RowChange<R>[]
  /** With `rollback`: why the write was refused. */
  problem?: Problem
}

/** What to subscribe to beyond the view's name. */
export interface SubscribeOptions<R> {
  /** PostgREST conditions: `run=eq.7&points=gt.0`, or as an object `{ run: 'eq.7' }`. */
  filter?: string | Record<string, string>
  /** Columns to receive; key columns always come. Default: all. */
  select?: readonly string[] | string
  /** `total.desc,country`: the order of `rows`, and with `limit` which rows. Default: by key. */
  order?: string
  /** Only the first rows by `order`: a live window, which rows enter and leave. */
  limit?: number
  /** With `limit`: how many rows to leave out before. */
  offset?: number
  /** Sorts `rows` instead of `order`. */
  compare?: Compare<R>
}

/** What a collection asks of its client. @internal */
export interface Host {
  now(): number
  left(c: Collection): void
}

/** A write's effect on these rows, until the truth at its position takes its place. */
interface Overlay {
  key: string
  effect: Effect
  /** The position of the write, once it is known. */
  until?: string
  /** Its rows by key, for the key columns of. */
  puts?: Map<string, WireRow>
  of?: string[]
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
  #rows = new Map<string, WireRow>() // the truth
  #shown = this.#rows // the truth under the overlays; the same map when there are none
  #overlays: Overlay[] = []
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
    if (!this.#sorted) {
      this.#sorted = ([...this.#shown.values()] as R[]).sort(this.#options.compare ?? (this.#compare as never))
      if (this.#overlays.length && this.#options.limit) this.#sorted.length = Math.min(this.#sorted.length, this.#options.limit)
    }
    return this.#sorted
  }

  /** Number of rows. */
  get size(): number {
    return this.#shown.size
  }

  /** Whether this row shows a write whose outcome is not here yet. */
  pending(row: R): boolean {
    if (!this.#overlays.length) return false
    const k = keyOf(row as WireRow, this.#key)
    return this.#shown.get(k) === row && !same(row, this.#rows.get(k))
  }

  /** Names of the key columns, in order; empty before the first complete state and for a view of one row. */
  get key(): readonly string[] {
    return this.#key
  }

  /** The row of these key values, given in the order of `key`. */
  get(...key: unknown[]): R | undefined {
    return this.#shown.get(JSON.stringify(key)) as R | undefined
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
    this.#end({ name: 'closed' }, problem('closed', `${this.view} was closed`))
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
    return {
      id: this.id,
      view: this.view,
      filter: query(o.filter) || undefined, // what is undefined is not sent
      select: o.select ? String(o.select) : undefined,
      order: o.order || undefined,
      limit: o.limit,
      offset: o.offset || undefined,
      from: !this.complete ? null : this.position_ !== resume ? this.position_ : undefined,
    } as SubscribeRequest
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
    this.complete = true
    this.position_ = p.position
    const changes = this.#replace(p.rows) as RowChange<R>[]
    const out: Change<R>[] = [{ cause: this.#gap ? 'gap' : 'snapshot', position: p.position, at: NaN, changes }]
    this.#gap = false
    for (const { frame, position, at } of p.later) out.push(...this.epoch(frame, position, at))
    return out
  }

  /** Applies the changes of one epoch, or keeps them until the snapshot that they follow is whole. @internal */
  epoch(frame: WireChanges, position: string, at: number): Change<R>[] {
    if (this.#pending) {
      if (frame.put || frame.del) this.#pending.later.push({ frame, position, at })
      return []
    }
    if (!this.complete) return []
    this.position_ = position
    if (this.#overlays.length) return this.#covered(frame, position, at)
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
    if (!changes.length) return []
    this.#sorted = undefined
    return [{ cause: 'epoch', position, at, changes: changes as RowChange<R>[] }]
  }

  /** The same under overlays: those whose write is in go in the same step, so that nothing flickers. */
  #covered(frame: WireChanges, position: string, at: number): Change<R>[] {
    const dropped = this.#uncover()
    const keys = dropped ?? new Set()
    for (const key of frame.del ?? []) {
      const k = JSON.stringify(key)
      this.#rows.delete(k)
      keys.add(k)
    }
    for (const row of frame.put ?? []) {
      const k = keyOf(row, this.#key)
      this.#rows.set(k, row)
      keys.add(k)
    }
    const changes = this.#show(keys)
    return changes.length || dropped?.size ? [{ cause: 'epoch', position, at, changes }] : []
  }

  /** Shows the effect of a write ahead of its outcome. @internal */
  expect(key: string, effect: Effect): Change<R>[] {
    const o = { key, effect }
    if (this.#shown === this.#rows) this.#shown = new Map(this.#rows)
    this.#overlays.push(o)
    if (!this.complete) return []
    return [{ cause: 'optimistic', position: this.position_, at: NaN, changes: this.#show(this.#keys(o)) }]
  }

  /** The write is in at position: from there on the truth shows it. Rows of it that were refused go at once. @internal */
  settle(key: string, position: string, rejected: readonly { index: number; problem: Problem }[]): Change<R>[] {
    const out: Change<R>[] = []
    for (const o of this.#overlays) {
      if (o.key !== key) continue
      const bad = rejected[0]
      if (bad) {
        const keys = this.#keys(o)
        o.effect = { ...o.effect, put: (o.effect.put ?? []).filter((_, i) => !rejected.some((r) => r.index === i)) }
        delete o.of
        out.push({ cause: 'rollback', position: this.position_, at: NaN, changes: this.#show(keys), problem: bad.problem })
      }
      o.until = position
    }
    const keys = this.#uncover()
    if (keys) out.push({ cause: 'optimistic', position: this.position_, at: NaN, changes: this.#show(keys) })
    return out
  }

  /** The write was refused: what it was to do is taken back. @internal */
  rollback(key: string, problem: Problem): Change<R>[] {
    const keys = this.#uncover(key)
    return keys ? [{ cause: 'rollback', position: this.position_, at: NaN, changes: this.#show(keys), problem }] : []
  }

  /** Takes away the overlays whose write these rows contain, or those of one write; the answer is the keys that they covered, if there were any. */
  #uncover(key?: string): Set<string> | undefined {
    const gone = this.#overlays.filter((o) => (key ? o.key === key : o.until && this.complete && reaches(this.position_, o.until)))
    if (!gone.length) return undefined
    this.#overlays = this.#overlays.filter((o) => !gone.includes(o))
    return new Set(gone.flatMap((o) => [...this.#keys(o)]))
  }

  /** The rows that an overlay may touch. */
  #keys(o: Overlay): Set<string> {
    if (o.effect.where !== undefined) return new Set([...this.#rows.keys(), ...this.#shown.keys()])
    return new Set([...this.#puts(o).keys(), ...(o.effect.del ?? []).map((key) => JSON.stringify(key))])
  }

  #puts(o: Overlay): Map<string, WireRow> {
    if (o.of !== this.#key) {
      o.of = this.#key
      o.puts = new Map((o.effect.put ?? []).map((row) => [keyOf(row, this.#key), row]))
    }
    return o.puts!
  }

  /** What is to be seen at k: the truth and what is expected on top of it. */
  #expected(k: string): WireRow | undefined {
    let row = this.#rows.get(k)
    for (const o of this.#overlays) {
      const { del, where, patch } = o.effect
      const was = row
      const put = this.#puts(o).get(k)
      if (put) row = { ...row, ...put }
      if (del?.some((key) => JSON.stringify(key) === k)) row = undefined
      if (where !== undefined && row && meets(where, row)) row = patch && { ...row, ...patch }
      if (row && row !== was && meets(query(this.#options.filter), row) === false) row = undefined
    }
    return row
  }

  /** Brings what is shown up to date at these keys and returns what changed; equal rows stay the same objects. */
  #show(keys: Iterable<string>): RowChange<R>[] {
    const changes: RowChange<WireRow>[] = []
    for (const k of keys) {
      const old = this.#shown.get(k)
      const row = this.#expected(k)
      if (old && row && same(old, row)) {
        if (row === this.#rows.get(k)) this.#rows.set(k, old)
        continue
      }
      if (row) this.#shown.set(k, row)
      else this.#shown.delete(k)
      if (old && row) changes.push({ op: 'update', row, old })
      else if (row) changes.push({ op: 'insert', row })
      else if (old) changes.push({ op: 'delete', old })
    }
    if (!this.#overlays.length) this.#shown = this.#rows
    this.#sorted = undefined
    return changes as RowChange<R>[]
  }

  /** Tells the listeners, and whoever waits for the first complete state. @internal */
  tell(changes: Change<R>[]): void {
    if (this.complete) this.#settle.resolve(this)
    for (const c of changes) this.#changed.emit(c)
  }

  #setKey(key: string[]): void {
    if (key.join() === this.#key.join()) return
    this.#key = key
    this.#compare = comparison(this.#options.order ?? '', key)
    this.#sorted = undefined
  }

  /** Puts next in place of the rows and returns what changed; equal rows stay the same objects. */
  #replace(next: Map<string, WireRow>): RowChange<WireRow>[] {
    if (this.#overlays.length) {
      const keys = this.#uncover() ?? new Set()
      for (const map of [this.#shown, next]) for (const k of map.keys()) keys.add(k)
      for (const o of this.#overlays) for (const k of this.#keys(o)) keys.add(k)
      this.#rows = next
      return this.#show(keys) as RowChange<WireRow>[]
    }
    const changes: RowChange<WireRow>[] = []
    for (const [k, old] of this.#rows) if (!next.has(k)) changes.push({ op: 'delete', old })
    for (const [k, row] of next) {
      const old = this.#rows.get(k)
      if (!old) changes.push({ op: 'insert', row })
      else if (!same(old, row)) changes.push({ op: 'update', row, old })
      else next.set(k, old)
    }
    this.#rows = this.#shown = next
    if (changes.length) this.#sorted = undefined
    return changes
  }
}

const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b)
const keyOf = (row: WireRow, key: string[]): string => JSON.stringify(key.map((c) => row[c]))
