import { delay } from './backoff.ts'
import type { Environment } from './env.ts'
import type { Link } from './link.ts'
import type { Expected } from './optimistic.ts'
import { bodyOf, problem, Problem, refusal } from './problem.ts'
import { timers } from './states.ts'
import type { ClientFrame, WireProblem, WireResult, WriteRequest } from './wire.ts'

/** How a write is to be done. */
export interface WriteOptions {
  /** Idempotency key: the same key and content have one effect. Default: a random one per call. */
  key?: string
  /** For a key that exists in a keyed table: `merge` replaces the given columns, `ignore` keeps the row. Default: conflict. */
  onConflict?: 'merge' | 'ignore'
  /** `applied` (default): the outcome is final. `logged`: durable, refusals come later in `laaster.rejected`. */
  ack?: 'applied' | 'logged'
  /** All rows or none. Default: each row for itself. */
  atomic?: boolean
  /** When to give up, in ms. Default 30,000; writes that are queued (`offline`) wait as long as it takes. */
  timeout?: number
  /**
   * Shows the write before the server has decided: in the collections of its own table, or as given. The rows are replaced by
   * the truth at the position of the write, and taken back when it is refused. Default false.
   */
  optimistic?: boolean | readonly Expected[]
  /** False: is not queued although the client is `offline`. */
  queue?: boolean
  /**
   * The rows carry primary keys and the table keeps its rows, so that a repeat has no effect however late it comes. Without it,
   * a queued write whose first sending was never answered is given up when the server may have forgotten its key.
   */
  repeatable?: boolean
}

/** What became of a write. */
export interface WriteResult {
  /** Where in the log it is. */
  position: string
  /** False with `ack: 'logged'`: durable, not yet decided. */
  final: boolean
  /** What the answer promises: `durable`, `buffered` or `memory`. */
  ack?: string
  accepted: number
  /** Rows that were there before: no effect. */
  duplicates: number
  /** Rows that were refused, each with its place in the request. */
  rejected: { index: number; problem: Problem }[]
  /** The idempotency key that was used. */
  key: string
}

/** What the writer needs of the connection. @internal */
export interface Wire {
  readonly link: Pick<Link, 'duplex' | 'send' | 'tooLarge'>
  readonly base: string
  token(): Promise<string | undefined>
  /** Gets a fresh token, where there is a function that gives one; else undefined. */
  renew(): Promise<unknown> | undefined
}

interface Pending {
  id: string
  request: WriteRequest & { key: string }
  via: 'socket' | 'http' | undefined
  sends: number
  /** When it was first sent to no answer; Infinity: it may be repeated at any time. */
  sent: number
  most: number
  renewed?: boolean
  wait: unknown
  end: unknown
  resolve(r: WriteResult): void
  reject(p: Problem): void
}

/** How the queue sends what it keeps. @internal */
export interface Persistent {
  sent: number
  repeatable: boolean
}

const MAX_SENDS = 3
const MAX_QUEUED_SENDS = 10

/** Sends writes, repeats them, settles them. @internal */
export class Writer {
  /** How long the server remembers idempotency keys, in ms. */
  window: number = timers.window
  #env: Environment
  #wire: Wire
  #all = new Map<string, Pending>()
  #n = 0

  constructor(env: Environment, wire: Wire) {
    this.#env = env
    this.#wire = wire
  }

  /** The request with its key and options. It is a copy: what the caller does with his rows later is no part of the write. */
  request(request: WriteRequest, o: WriteOptions): Pending['request'] {
    const full: Pending['request'] = { ...JSON.parse(JSON.stringify(request)), key: o.key ?? this.#env.key() }
    if (o.onConflict) full.on_conflict = o.onConflict
    if (o.ack) full.ack = o.ack
    if (o.atomic) full.atomic = true
    return full
  }

  /** Sends it until it is answered. The queue's writes have no time limit, but the one that their key has. */
  write(request: Pending['request'], timeout: number = timers.write_timeout, queued?: Persistent): Promise<WriteResult> {
    return new Promise((resolve, reject) => {
      const p: Pending = {
        id: 'w' + ++this.#n, request, via: undefined, sends: 0, sent: queued?.repeatable ? Infinity : (queued?.sent ?? 0),
        most: queued ? MAX_QUEUED_SENDS : MAX_SENDS, wait: 0, end: 0, resolve, reject,
      }
      if (!queued) {
        p.end = this.#env.setTimeout(
          () => this.#fail(p, problem('timeout', 'the write was not answered in time; whether it took effect is unknown', 'after')),
          timeout,
        )
      }
      this.#all.set(p.id, p)
      this.#send(p)
    })
  }

  /** The socket is open again: what was in flight on the old one is sent anew. */
  reopened(): void {
    for (const p of this.#all.values()) {
      if (p.via !== 'socket') continue
      if (!this.#wire.link.duplex) p.via = 'http' // other frames get through now
      this.#send(p)
    }
  }

  /** A `result` or `error` frame that names a write of ours; the answer says whether it did. */
  answer(id: string, answer: WireResult | { error: WireProblem }): boolean {
    const p = this.#all.get(id)
    if (!p) return false
    if ('error' in answer) this.#refused(p, new Problem(answer.error))
    else this.#done(p, answer)
    return true
  }

  /** Rejects everything that waits. */
  close(): void {
    for (const p of this.#all.values()) this.#fail(p, problem('closed', 'closed; whether it took effect is unknown'))
  }

  #send(p: Pending): void {
    this.#env.clearTimeout(p.wait)
    const now = this.#env.now()
    if (p.sent && now - p.sent > this.window) {
      return this.#fail(p, problem('timeout', 'sent and never answered; the server may have forgotten its key, whether it took effect is unknown'))
    }
    p.sent ||= now
    if (!p.via) p.via = this.#wire.link.duplex ? 'socket' : 'http'
    if (p.via === 'http') void this.#post(p)
    else if (this.#wire.link.duplex) this.#frame(p)
    // else: reopened() sends it
  }

  #frame(p: Pending): void {
    const frame: ClientFrame = { type: 'write', id: p.id, ...p.request }
    const large = this.#wire.link.tooLarge(frame)
    if (large) this.#fail(p, large)
    else if (p.sends++ >= p.most) {
      this.#fail(p, problem('unreachable', `sent ${p.most} times, and the connection closed`, 'after'))
    } else this.#wire.link.send(frame)
  }

  async #post(p: Pending): Promise<void> {
    const { table, rows, patch, filter, key, atomic, on_conflict, ack } = p.request
    const q = new URLSearchParams(filter)
    if (atomic) q.set('_atomic', 'true')
    if (on_conflict) q.set('on_conflict', on_conflict)
    if (ack) q.set('_ack', ack)
    try {
      const token = await this.#wire.token()
      if (!this.#all.has(p.id)) return
      const headers: Record<string, string> = { 'Content-Type': 'application/json', 'Idempotency-Key': key }
      if (token) headers['Authorization'] = 'Bearer ' + token
      const res = await this.#env.fetch(`${this.#wire.base}/v1/tables/${encodeURIComponent(table)}${q.size ? '?' + q : ''}`, {
        method: rows ? 'POST' : patch ? 'PATCH' : 'DELETE',
        headers,
        ...(rows || patch ? { body: JSON.stringify(rows ?? patch) } : {}),
      })
      const body = await bodyOf<WireResult & WireProblem>(res)
      if (!this.#all.has(p.id)) return
      if (body.rejected) return this.#done(p, body)
      this.#refused(p, new Problem(refusal(res, body)))
    } catch {
      // no answer, or half of one: the network, or no server
      if (this.#all.has(p.id)) p.wait = this.#env.setTimeout(() => this.#send(p), delay(p.sends++, this.#env.random()))
    }
  }

  #refused(p: Pending, err: Problem): void {
    const again = () => {
      if (this.#all.has(p.id)) this.#send(p)
    }
    if (p.sent < Infinity && (err.code === 'busy' || err.code === 'rate_limited')) p.sent = 0 // this much is known: it had no effect
    if (err.status === 401 || err.code === 'token_expired' || err.code === 'unauthenticated') {
      const fresh = p.renewed ? undefined : this.#wire.renew()
      if (fresh) {
        p.renewed = true
        return void fresh.then(again, () => this.#fail(p, err))
      }
    }
    if (err.retry !== 'after') return this.#fail(p, err)
    p.sends = 0
    p.wait = this.#env.setTimeout(again, err.retryAfterMs ?? timers.write_again * (1 + this.#env.random()))
  }

  #done(p: Pending, r: WireResult): void {
    this.#forget(p)
    p.resolve({
      position: r.position,
      final: r.final,
      ...(r.ack === undefined ? {} : { ack: r.ack }),
      accepted: r.accepted,
      duplicates: r.duplicates,
      rejected: r.rejected.map(({ index, error }) => ({ index, problem: new Problem(error) })),
      key: p.request.key,
    })
  }

  #fail(p: Pending, err: Problem): void {
    this.#forget(p)
    err.key = p.request.key
    p.reject(err)
  }

  #forget(p: Pending): void {
    this.#env.clearTimeout(p.wait)
    this.#env.clearTimeout(p.end)
    this.#all.delete(p.id)
  }
}
