import type { Environment, SocketLike } from './env.ts'
import { bodyOf, refusal } from './problem.ts'
import { timers } from './states.ts'
import type { ClientFrame, SignalFrame, SubscribeRequest } from './wire.ts'

/** One event of a stream. An event that only moves the position has no data. @internal */
export interface StreamEvent {
  event: string
  data: string
  id: string | undefined
  retry: number | undefined
}

const MOST = 1 << 26

/** Parses a stream of events as HTML defines it, fed in pieces of any size. @internal */
export class EventParser {
  #rest = ''
  #e: StreamEvent = blank()

  /** The events that text completes. Throws when a line is longer than 64 Mi characters. */
  push(text: string): StreamEvent[] {
    const out: StreamEvent[] = []
    this.#rest += text
    const lines = this.#rest.split(/\r\n|\n|\r(?=[^])/) // a CR at the end may be half of a CRLF
    this.#rest = lines.pop()!
    if (this.#rest.length > MOST) throw Error('a line is too long')
    for (const line of lines) {
      const [, field, value = ''] = /^([^:]*)(?:: ?([^]*))?$/.exec(line)!
      const e = this.#e
      if (!line) {
        if (e.data || e.id !== undefined || e.retry) out.push({ ...e, data: e.data.slice(0, -1) })
        this.#e = blank()
      } else if (field === 'data') e.data += value + '\n'
      else if (field === 'event') e.event = value
      else if (field === 'id' && !value.includes('\0')) e.id = value
      else if (field === 'retry' && /^\d+$/.test(value)) e.retry = Number(value)
    }
    return out
  }
}

const blank = (): StreamEvent => ({ event: '', data: '', id: undefined, retry: undefined })

/**
 * Looks like a WebSocket to the link, and is a request with a stream of events for each subscription: for networks that let
 * plain HTTP through and nothing else. It takes no writes; the loss of one stream is the loss of all. Each stream has
 * positions of its own: its epochs name the only subscription that they are about.
 * @internal
 */
export class EventSocket implements SocketLike {
  onopen: SocketLike['onopen'] = null
  onmessage: SocketLike['onmessage'] = null
  onclose: SocketLike['onclose'] = null
  onerror: SocketLike['onerror'] = null
  #env: Environment
  #base: string
  #streams = new Map<string, AbortController & { pinged: number }>() // pinged: when the first ping went since it was heard, 0: none
  #token: string | undefined
  #instance!: string // of the hello
  #exact = false
  #closed = false

  constructor(env: Environment, base: string) {
    this.#env = env
    this.#base = base
    this.#ask(() => this.onopen?.({}))
  }

  send(data: string): void {
    const f = JSON.parse(data) as ClientFrame
    switch (f.type) {
      case 'hello':
        this.#token = f.token
        this.#instance = f.instance!
        this.#exact = !!f.exact
        this.#say({ type: 'welcome', session: '', now: 0, log: '', limits: {} })
        for (const q of f.subscribe ?? []) void this.#follow(q, q.from === undefined ? f.resume : q.from)
        return
      case 'subscribe':
        return void this.#follow(f, f.from)
      case 'unsubscribe':
        this.#streams.get(f.id)?.abort()
        return void this.#streams.delete(f.id)
      case 'token':
        this.#token = f.token
        return
      case 'signal':
        return void this.#signal(f)
      case 'ping': // the server's comments show that a stream lives
        for (const c of this.#streams.values()) {
          c.pinged ||= f.t
          if (f.t - c.pinged >= timers.dead_quiet) return this.#end('nothing heard for too long')
        }
        if (!this.#streams.size) this.#ask(() => this.#say({ type: 'pong', t: f.t, now: 0 }))
    }
  }

  close(): void {
    this.#closed = true
    for (const c of this.#streams.values()) c.abort()
    this.#streams.clear()
  }

  /** Sets or clears a row of a channel. A row that is lost on the way is set again soon. */
  async #signal({ id, table, key, value }: SignalFrame): Promise<void> {
    const q = new URLSearchParams(Object.entries(key ?? {}).map(([c, v]) => [c, 'eq.' + v] as [string, string]))
    const headers = { 'Content-Type': 'application/json', ...this.#who() }
    const url = `${this.#base}/v1/tables/${encodeURIComponent(table)}`
    const res = await this.#env
      .fetch(value ? url : q.size ? `${url}?${q}` : url, value ? { method: 'POST', headers, body: JSON.stringify([{ ...key, ...value }]) } : { method: 'DELETE', headers })
      .catch(() => undefined)
    if (res && !res.ok) this.#say({ type: 'error', id, error: refusal(res, await bodyOf<object>(res).catch(() => ({}))) })
  }

  #who(): Record<string, string> {
    return { 'Laaster-Instance': this.#instance, ...(this.#token && { Authorization: 'Bearer ' + this.#token }) }
  }

  /** Whether the server is there: anything that it answers says so. */
  #ask(then: () => void): void {
    this.#env.fetch(this.#base + '/v1/live', {}).then(() => this.#closed || then(), (err) => this.#end(err))
  }

  async #follow(q: SubscribeRequest, from: string | null | undefined): Promise<void> {
    const control = Object.assign(new AbortController(), { pinged: 0 })
    this.#streams.set(q.id, control)
    const gone = () => this.#streams.get(q.id) !== control
    const p = new URLSearchParams(q.filter)
    for (const name of ['select', 'order', 'limit', 'offset']) {
      const value = (q as unknown as Record<string, unknown>)[name]
      if (value !== undefined) p.set(name, String(value))
    }
    if (this.#exact) p.set('_exact', 'true')
    const headers: Record<string, string> = { Accept: 'text/event-stream', ...this.#who() }
    if (from) headers['Last-Event-ID'] = from
    try {
      const res = await this.#env.fetch(`${this.#base}/v1/views/${encodeURIComponent(q.view)}${p.size ? '?' + p : ''}`, {
        headers, signal: control.signal, cache: 'no-store',
      })
      if (!res.ok) {
        const error = refusal(res, await bodyOf(res))
        if (gone()) return
        this.#streams.delete(q.id)
        return this.#refused(q.id, error)
      }
      this.#say({ connection: res.headers.get('Laaster-Connection') })
      const parser = new EventParser()
      const reader = res.body!.getReader()
      const text = new TextDecoder()
      for (;;) {
        const { done, value } = await reader.read()
        if (gone()) return
        if (done) return this.#end('the stream ended')
        control.pinged = 0
        this.#say({ type: 'heard' }) // a comment, too
        for (const e of parser.push(text.decode(value, { stream: true }))) if (!gone()) this.#event(q.id, e)
      }
    } catch (err) {
      if (!gone()) this.#end(err)
    }
  }

  #event(id: string, e: StreamEvent): void {
    if (e.retry) this.#say({ type: 'retry', ms: e.retry })
    if (!e.data) {
      if (e.id) this.#say({ type: 'epoch', position: e.id, at: 0, changes: {}, only: id })
      return
    }
    const data = JSON.parse(e.data)
    if (e.event === 'epoch') {
      const { put, del, ...rest } = data
      this.#say({ type: 'epoch', ...rest, changes: { [id]: { put, del } }, only: id })
    } else if (e.event === 'error') this.#refused(id, data.error)
    else if (e.event) this.#say({ id, ...data, type: e.event })
  }

  /** What is said of the token is said of the whole connection. */
  #refused(id: string, error: { code: string }): void {
    if (error.code !== 'unauthenticated' && error.code !== 'token_expired') return this.#say({ type: 'error', id, error })
    this.#say({ type: 'error', error })
    this.#end(error.code)
  }

  #say(frame: object): void {
    if (!this.#closed) this.onmessage?.({ data: frame })
  }

  #end(why: unknown): void {
    if (this.#closed) return
    this.close()
    this.onclose?.({ code: 1006, reason: String(why) })
  }
}
