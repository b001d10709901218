import type { Environment } from './env.ts'
import type { Effect } from './optimistic.ts'
import { problem, Problem } from './problem.ts'
import type { Store, Stored } from './store.ts'
import type { WriteResult } from './writes.ts'

/** How writes wait for the server: `connect(url, { offline: … })`. */
export interface OfflineOptions {
  /** Whose queue it is: pages with the same name send each other's writes after a reload. Default: the server's origin. */
  name?: string
  /** Most writes that wait; more are refused with `queue_full`. Default 1,000. */
  limit?: number
}

/** A write that waits. */
export interface QueuedWrite {
  table: string
  /** Its idempotency key. */
  key: string
  /** When it was made, Unix ms. */
  at: number
  /** Whether it is under way. */
  sending: boolean
}

/** What became of a queued write, also of one that an earlier page queued: that one is told as `queued` when it is found. */
export type QueueEvent =
  | { type: 'queued'; table: string; key: string }
  | { type: 'done'; table: string; key: string; result: WriteResult }
  | { type: 'refused'; table: string; key: string; problem: Problem }

/** What the queue needs of its client. @internal */
export interface QueueHost {
  readonly open: boolean
  send(w: Stored): Promise<WriteResult>
  tell(e: QueueEvent): void
  /** A write of an earlier page is here. */
  adopted(key: string, effects: Effect[]): void
}

interface Entry extends Stored {
  busy?: boolean
  settle?: { resolve(r: WriteResult): void; reject(p: Problem): void }
}

/**
 * Writes that wait for the server, in order per table: the next one of a table goes when the one before has its answer. Each is
 * stored before it is sent and deleted after its answer, and carries its idempotency key, so that it has one effect whatever
 * happens in between.
 * @internal
 */
export class Queue {
  #env: Environment
  #host: QueueHost
  #limit: number
  #store: Promise<Store>
  #all: Entry[] = []
  #owner: string
  #lock: string
  #mine: Set<string> // owners whose writes are ours
  #durable = false
  #closed = false
  #release: () => void = () => {}
  #held = new Promise<void>((f) => (this.#release = f))

  constructor(env: Environment, name: string, limit: number, host: QueueHost) {
    this.#env = env
    this.#host = host
    this.#limit = limit
    this.#owner = env.key()
    this.#mine = new Set([this.#owner])
    this.#lock = `laaster:${name}:`
    this.#store = env.store('laaster:' + name)
    void this.#store.then((s) => (this.#durable = s.durable))
    void env.locks?.request(this.#lock + this.#owner, () => this.#held)
    void this.#adopt()
  }

  /** Whether waiting writes survive a reload. */
  get durable(): boolean {
    return this.#durable
  }

  get list(): QueuedWrite[] {
    return this.#all.map(({ request: { table, key }, at, busy }) => ({ table, key, at, sending: !!busy }))
  }

  /** Queues a write; the answer settles when the server has decided, however late. */
  add(w: Omit<Stored, 'owner' | 'at' | 'sent'>): Promise<WriteResult> {
    const { table, key } = w.request
    if (this.#all.length >= this.#limit) {
      return Promise.reject(named(problem('queue_full', `${this.#limit} writes wait already`, 'after'), key))
    }
    return new Promise((resolve, reject) => {
      const e: Entry = { ...w, owner: this.#owner, at: this.#env.now(), sent: 0, settle: { resolve, reject } }
      this.#all.push(e)
      this.#host.tell({ type: 'queued', table, key })
      void this.#save(e).then(
        () => this.#pump(table),
        (err) => this.#drop(e, problem('queue_full', 'the write could not be stored: ' + err)),
      )
    })
  }

  /** The connection is open: everything may go, also what pages left behind that are no more. */
  opened(): void {
    for (const table of new Set(this.#all.map((e) => e.request.table))) void this.#pump(table)
    void this.#adopt()
  }

  /** Rejects whoever waits. The writes stay stored for the next page. */
  close(): void {
    this.#closed = true
    const all = this.#all.splice(0)
    for (const e of all) e.settle?.reject(named(problem('closed', 'closed; the write waits for the next client'), e.request.key))
    this.#release()
    void this.#store.then((s) => s.close())
  }

  async #save(e: Entry): Promise<void> {
    const { busy: _, settle: __, ...stored } = e
    e.n = await (await this.#store).put(stored)
  }

  /** Takes over the writes of clients that are gone: their lock is free. Where there are no locks, the keys alone keep writes from having two effects. */
  async #adopt(): Promise<void> {
    const store = await this.#store
    for (const owner of new Set((await store.load()).map((w) => w.owner))) {
      if (this.#mine.has(owner) || this.#closed) continue
      const take = async () => {
        this.#mine.add(owner)
        const found = (await store.load()).filter((w) => w.owner === owner)
        if (this.#closed) return
        this.#all = [...found, ...this.#all].sort((a, b) => (a.n ?? Infinity) - (b.n ?? Infinity))
        for (const { request: { table, key }, effects } of found) {
          this.#host.adopted(key, effects)
          this.#host.tell({ type: 'queued', table, key })
          void this.#pump(table)
        }
      }
      if (!this.#env.locks) await take()
      else {
        void this.#env.locks.request(this.#lock + owner, { ifAvailable: true }, async (lock) => {
          if (!lock) return
          await take()
          await this.#held
        })
      }
    }
  }

  /** Sends the first write of a table, when none is under way. */
  async #pump(table: string): Promise<void> {
    const e = this.#all.find((e) => e.request.table === table)
    if (!e || e.busy || e.n === undefined || this.#closed || !this.#host.open) return
    e.busy = true
    let result: WriteResult
    try {
      if (this.#durable && !this.#env.locks) {
        // Another page may have it, too: what the store says is the truth.
        const kept = (await (await this.#store).load()).find((w) => w.n === e.n)
        if (!kept) throw problem('timeout', 'sent by another page; whether it took effect is unknown')
        e.sent = kept.sent
      }
      const sent = e.sent
      e.sent ||= this.#env.now()
      if (!sent) await this.#save(e) // so that a later page knows since when the outcome is open
      if (this.#closed) return
      result = await this.#host.send({ ...e, sent })
    } catch (err) {
      const p = err instanceof Problem ? err : problem('queue_full', 'the write could not be stored: ' + err)
      if (p.code !== 'closed' && !this.#closed) await this.#drop(e, p)
      return void this.#pump(table)
    }
    if (await this.#forget(e)) {
      this.#host.tell({ type: 'done', table, key: e.request.key, result })
      e.settle?.resolve(result)
    }
    void this.#pump(table)
  }

  async #drop(e: Entry, p: Problem): Promise<void> {
    const { table, key } = e.request
    await this.#forget(e)
    this.#host.tell({ type: 'refused', table, key, problem: named(p, key) })
    e.settle?.reject(p)
  }

  async #forget(e: Entry): Promise<boolean> {
    const i = this.#all.indexOf(e)
    if (i >= 0) this.#all.splice(i, 1)
    if (e.n !== undefined) await (await this.#store).delete(e.n).catch(() => {}) // it is sent again some day, without an effect
    return i >= 0
  }
}

function named(p: Problem, key: string): Problem {
  p.key = key
  return p
}
