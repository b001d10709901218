import { Collection, type Change, type Host, type Row, type RowChange, type SubscribeOptions } from './collection.ts'
import { Listeners } from './env.ts'
import type { Problem } from './problem.ts'
import type { SignalsFrame, SubscribeRequest, WireRow } from './wire.ts'

/** What a channel asks of its client. @internal */
export interface ChannelHost extends Host {
  signal(c: Channel, key: object | undefined, value: object | null): void
}

/**
 * The rows of a channel or of presence: they live in the server's memory alone and have no position. What this client has set is
 * set again after every reconnect. Made by `client.channel` and `client.presence`.
 */
export class Channel<R extends object = Row> extends Collection<R> {
  #host: ChannelHost
  #own = new Map<string, { key: object | undefined; value: object; seen?: boolean | undefined }>() // seen: it was among the rows
  #full: { key: string[]; rows: WireRow[] } | undefined
  #told = false // a full state since the subscription was sent
  #count: number | undefined
  #problems = new Listeners<Problem>()

  /** @internal */
  constructor(host: ChannelHost, id: string, name: string, options: SubscribeOptions<R>) {
    super(host, id, name, options)
    this.#host = host
  }

  /** How many rows there are; more than `size` when presence has too many to list them. */
  get count(): number {
    return this.#count ?? this.size
  }

  /** Sets a row of this client's: key has the key columns, as far as they have no default, value the others. In presence there is no key. */
  set(value: Partial<R>, key?: Partial<R>): void {
    const id = JSON.stringify(key)
    this.#own.set(id, { key, value, seen: this.#own.get(id)?.seen })
    this.#host.signal(this as never, key, value)
  }

  /** Takes it away. */
  clear(key?: Partial<R>): void {
    this.#own.delete(JSON.stringify(key))
    this.#host.signal(this as never, key, null)
  }

  /** Calls f when the server refused what was set. The answer stops it. */
  onProblem(f: (p: Problem) => void): () => void {
    return this.#problems.add(f)
  }

  /** Takes away what this client set, and ends the subscription. */
  override close(): void {
    for (const { key } of [...this.#own.values()]) this.clear(key as Partial<R>)
    super.close()
  }

  /** Rows without positions are never in step. @internal */
  override get inStep(): boolean {
    return false
  }

  /** @internal */
  override request(): SubscribeRequest {
    return { ...super.request(undefined), from: undefined } as never
  }

  /** @internal */
  override reset(): void {
    super.reset()
    this.#full = undefined
    this.#told = false
  }

  /** The connection is open, or time has passed in which a row without a connection may have ended. @internal */
  again(): void {
    for (const o of this.#own.values()) {
      o.seen = false
      this.#host.signal(this as never, o.key, o.value)
    }
  }

  /** @internal */
  problem(p: Problem): void {
    this.#problems.emit(p)
  }

  /** One frame; the answer is what changed, or nothing while more of a full state follows. @internal */
  signals(f: SignalsFrame): Change<R>[] | undefined {
    if (f.full) {
      this.#full = { key: f.key ?? [], rows: [] }
      if (this.#told) this.again() // the app may have changed, and the server forgotten them
      this.#told = true
    }
    this.#count = f.count
    const full = this.#full
    if (full) {
      full.rows.push(...(f.put ?? []))
      if (f.more) return undefined
      this.#full = undefined
      return this.snapshot({ type: 'snapshot', id: this.id, position: '', key: full.key, rows: full.rows, more: false })
    }
    const changes = this.epoch(f, '', NaN)
    for (const [id, o] of this.#own) {
      const { key } = o
      if (!key) continue // it lasts as long as the connection
      const mine = (row: object) => Object.entries(key).every(([c, v]) => (row as WireRow)[c] === v)
      if (f.put?.some(mine)) o.seen = true
      else if (f.del && o.seen && !this.rows.some(mine)) this.#own.delete(id) // its time has passed
    }
    return changes.length ? changes : [{ cause: 'epoch', position: '', at: NaN, changes: [] as RowChange<R>[] }]
  }
}
