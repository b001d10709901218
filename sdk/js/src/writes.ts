import { delay } from './backoff.ts'
import type { Environment } from './env.ts'
import { problem, Problem, type Code } from './problem.ts'
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
  /** When to give up, in ms. Default 30,000. */
  timeout?: number
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
  readonly open: boolean
  /** Largest frame that the server takes, in bytes; 0 when it did not say. */
  readonly frameBytes: number
  send(frame: ClientFrame): void
  readonly base: string
  token(): Promise<string | undefined>
}

interface Pending {
  id: string
  request: WriteRequest & { key: string }
  via: 'socket' | 'http' | undefined
  sends: number
  wait: unknown
  end: unknown
  resolve(r: WriteResult): void
  reject(p: Problem): void
}

const MAX_SENDS = 3

/** Sends writes, repeats them, settles them. @internal */
export class Writer {
  #env: Environment
  #wire: Wire
  #all = new Map<string, Pending>()
  #n = 0

  constructor(env: Environment, wire: Wire) {
    this.#env = env
    this.#wire = wire
  }

  write(request: WriteRequest, o: WriteOptions): Promise<WriteResult> {
    return new Promise((resolve, reject) => {
      const full = { ...request, key: o.key ?? this.#env.key() }
      if (o.onConflict) full.on_conflict = o.onConflict
      if (o.ack) full.ack = o.ack
      if (o.atomic) full.atomic = true
      const p: Pending = { id: 'w' + ++this.#n, request: full, via: undefined, sends: 0, wait: 0, end: 0, resolve, reject }
      p.end = this.#env.setTimeout(
        () => this.#fail(p, problem('timeout', 'the write was not answered in time; whether it took effect is unknown', 'after')),
        o.timeout ?? 30_000,
      )
      this.#all.set(p.id, p)
      this.#send(p)
    })
  }

  /** The socket is open again: what was in flight on the old one is sent anew. */
  reopened(): void {
    for (const p of this.#all.values()) if (p.via === 'socket') this.#send(p)
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
    for (const p of this.#all.values()) this.#fail(p, problem('closed', 'the client was closed; whether the write took effect is unknown'))
  }

  #send(p: Pending): void {
    this.#env.clearTimeout(p.wait)
    if (!p.via) p.via = this.#wire.open ? 'socket' : 'http'
    if (p.via === 'http') void this.#post(p)
    else if (this.#wire.open) this.#frame(p)
    // else: reopened() sends it
  }

  #frame(p: Pending): void {
    const frame: ClientFrame = { type: 'write', id: p.id, ...p.request }
    const max = this.#wire.frameBytes
    if (max && new TextEncoder().encode(JSON.stringify(frame)).length > max) {
      this.#fail(p, problem('too_large', `the write is larger than the server's limit of ${max} bytes; send fewer rows at once`))
    } else if (p.sends++ >= MAX_SENDS) {
      this.#fail(p, problem('unreachable', `sent ${MAX_SENDS} times, and the connection ended each time`, 'after'))
    } else this.#wire.send(frame)
  }

  async #post(p: Pending): Promise<void> {
    const { table, rows, patch, filter, key, atomic, on_conflict, ack } = p.request
    const q = new URLSearchParams(filter)
    if (atomic) q.set('_atomic', 'true')
    if (on_conflict) q.set('on_conflict', on_conflict)
    if (ack) q.set('_ack', ack)
    const again = (after: number) => {
      p.wait = this.#env.setTimeout(() => this.#send(p), after)
    }
    try {
      const token = await this.#wire.token()
      const headers: Record<string, string> = { 'Content-Type': 'application/json', 'Idempotency-Key': key }
      if (token) headers['Authorization'] = 'Bearer ' + token
      const res = await this.#env.fetch(`${this.#wire.base}/v1/tables/${encodeURIComponent(table)}${q.size ? '?' + q : ''}`, {
        method: rows ? 'POST' : patch ? 'PATCH' : 'DELETE',
        headers,
        ...(rows || patch ? { body: JSON.stringify(rows ?? patch) } : {}),
      })
      const body = (await res.json().catch(() => ({}))) as WireResult & WireProblem
      if (!this.#all.has(p.id)) return
      if (body.rejected) return this.#done(p, body)
      const after = Number(res.headers.get('Retry-After')) * 1000
      if (after && !body.retry_after_ms) body.retry_after_ms = after
      const retry = body.retry ?? (res.status === 429 || res.status >= 502 ? 'after' : 'no')
      const code: Code = res.status >= 500 ? 'internal' : 'invalid_request'
      this.#refused(p, new Problem({ title: `HTTP ${res.status}`, status: res.status, ...body, code: body.code ?? code, retry }))
    } catch {
      if (this.#all.has(p.id)) again(delay(p.sends++, this.#env.random())) // no answer: the network, or no server
    }
  }

  #refused(p: Pending, err: Problem): void {
    if (err.retry !== 'after') return this.#fail(p, err)
    p.sends = 0
    p.wait = this.#env.setTimeout(() => this.#send(p), err.retryAfterMs ?? 500 + 500 * this.#env.random())
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
