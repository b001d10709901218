import { delay } from './backoff.ts'
import { Alignment } from './clock.ts'
import type { Environment, SocketLike } from './env.ts'
import { problem, Problem } from './problem.ts'
import { EventSocket } from './sse.ts'
import { timers } from './states.ts'
import type { ClientFrame, ServerFrame, WelcomeFrame } from './wire.ts'

/** What a link does with what it hears. @internal */
export interface LinkHandler {
  /** Gets what hello needs, as long as it takes. */
  token(): Promise<string | undefined>
  /** The first frame of a new socket. */
  hello(token: string | undefined): ClientFrame
  opened(welcome: WelcomeFrame): void
  frame(f: ServerFrame): void
  /** The socket is gone or could not be had; the next attempt is at retryAt. */
  down(): void
  /** No further attempt will be made. */
  ended(reason: Problem): void
  /** The token is no longer good: says whether there is a way to a fresh one, which the next hello or a frame brings. */
  renew(): boolean
}

/** Which way the frames go. @internal */
export type Transport = 'auto' | 'websocket' | 'sse'

const FATAL = ['unauthenticated', 'token_expired', 'forbidden', 'invalid_request']
const EXPIRED = ['unauthenticated', 'token_expired']
const MISSES = 2

/** Keeps one socket open: transport, attempts, back-off, heartbeat, clock alignment. It knows nothing of subscriptions. @internal */
export class Link {
  /** Attempts since the last live spell. */
  attempt = 0
  /** When the next attempt starts; 0 while there is a socket. */
  retryAt = 0
  /** Why the last socket went. */
  reason: Problem | undefined
  /** When the last frame came. */
  heard = 0
  readonly clock = new Alignment()

  #env: Environment
  #base: string
  #mode: Transport
  #h: LinkHandler
  #socket: SocketLike | undefined
  #open = false
  #sse: boolean
  #asking = false // whether plain HTTP gets through
  #misses = 0 // attempts in a row in which no WebSocket came to a welcome
  #openedAt = 0 // 0: never, or it is doubted that a WebSocket gets through
  #helloAt = 0
  #pinged = 0 // when the oldest unanswered ping went
  #pings = 0
  #lastPing = 0
  #retryAfter: number | undefined
  #frameBytes = Infinity // the largest frame that the server takes
  #pace: number | undefined // the server's base of the back-off
  #fatal: Problem | undefined
  #timer: unknown
  #unwake: () => void

  constructor(env: Environment, base: string, mode: Transport, handler: LinkHandler) {
    this.#env = env
    this.#base = base
    this.#mode = mode
    this.#sse = mode === 'sse'
    this.#h = handler
    this.#unwake = env.onWake(() => this.#wake())
  }

  get open(): boolean {
    return this.#open
  }

  /** Open, and by a socket that takes writes and signals; streams of events do not. */
  get duplex(): boolean {
    return this.#open && !this.#sse
  }

  get transport(): 'websocket' | 'sse' {
    return this.#sse ? 'sse' : 'websocket'
  }

  /** Sends a frame if the socket is open; else it is lost, and the caller sends it anew from opened(). */
  send(f: ClientFrame): void {
    if (this.#open) this.#socket!.send(JSON.stringify(f))
  }

  /** What is wrong with a frame that is larger than the server takes. */
  tooLarge(f: ClientFrame): Problem | undefined {
    const max = this.#frameBytes
    return new TextEncoder().encode(JSON.stringify(f)).length > max
      ? problem('too_large', `larger than the server's limit of ${max} bytes; send less at once`)
      : undefined
  }

  /** Starts an attempt now. */
  start(): void {
    this.#env.clearTimeout(this.#timer)
    this.retryAt = 0
    let s: SocketLike
    try {
      s = this.#sse ? new EventSocket(this.#env, this.#base) : this.#env.socket(this.#base.replace(/^http/, 'ws') + '/v1/live', 'laaster.v1')
    } catch (err) {
      if (this.#mode === 'auto' && err instanceof ReferenceError) {
        this.#sse = true // no WebSocket here
        return this.start()
      }
      this.#h.ended(problem('invalid_request', String(err)))
      return
    }
    this.#socket = s
    s.onopen = () => void this.#hello(s)
    s.onmessage = (e) => s === this.#socket && this.#message(e.data)
    s.onclose = (e) => s === this.#socket && this.#lost(problem('unreachable', e.reason || `the connection closed (${e.code})`, 'after'))
    s.onerror = () => s === this.#socket && this.#drop('the connection failed') // Node tells of no close then
    this.#timer = this.#env.setTimeout(() => this.#drop('no welcome'), timers.welcome)
  }

  async #hello(s: SocketLike): Promise<void> {
    try {
      const token = await this.#h.token()
      if (s !== this.#socket) return
      this.#helloAt = this.#env.now()
      s.send(JSON.stringify(this.#h.hello(token)))
    } catch (err) {
      if (s === this.#socket) this.#drop(String(err))
    }
  }

  /** One frame. What makes no sense ends the connection, and harms nobody. */
  #message(data: unknown): void {
    try {
      this.#frame((typeof data === 'string' ? JSON.parse(data) : data) as ServerFrame)
    } catch (err) {
      this.#drop('not a frame: ' + err)
    }
  }

  #frame(f: ServerFrame): void {
    const now = (this.heard = this.#env.now())
    switch (f.type) {
      case 'welcome':
        this.#open = true
        this.#openedAt = now
        this.#pinged = this.#pings = this.#misses = 0
        this.reason = this.#fatal = undefined
        this.#frameBytes = f.limits.frame_bytes || Infinity
        this.clock.restart()
        if (f.now) this.clock.add(this.#helloAt, now, f.now)
        this.#env.clearTimeout(this.#timer)
        this.#h.opened(f)
        this.#tick()
        return
      case 'pong':
        this.#pinged = 0
        if (f.now) this.clock.add(f.t, now, f.now)
        if (f.now && this.#pings < 4) this.#ping(now)
        return
      case 'goodbye':
        this.#retryAfter = f.retry_after_ms || this.#retryAfter // 0: nothing was said
        this.reason = new Problem({ code: f.code, detail: f.reason ?? f.code, retry: 'after' })
        return
      case 'error':
        if (f.id === undefined) {
          this.reason = new Problem(f.error)
          this.#retryAfter = f.error.retry_after_ms
          if (FATAL.includes(f.error.code) && this.reason.retry !== 'after' && !this.#retryAfter) this.#fatal = this.reason
          if (this.#open && f.error.code === 'token_expired' && this.#h.renew()) this.#fatal = undefined
        }
    }
    if ((f.type as string) === 'retry') this.#pace = (f as unknown as { ms: number }).ms
    else this.#h.frame(f)
  }

  #ping(now: number): void {
    this.#pings++
    this.#lastPing = now
    if (!this.#pinged) this.#pinged = now
    this.send({ type: 'ping', t: now })
  }

  /** The heartbeat: looks at the clock, so that a late timer of a throttled tab does no harm. */
  #tick(): void {
    if (!this.#open) return
    const now = this.#env.now()
    if (now - this.heard >= timers.dead_quiet && this.#pinged && now - this.#pinged >= timers.pong_wait) {
      return this.#drop('nothing heard for too long')
    }
    if (now - this.#lastPing >= timers.ping_quiet || !this.#pings) this.#ping(now)
    this.#timer = this.#env.setTimeout(() => this.#tick(), timers.tick)
  }

  #drop(why: string): void {
    const s = this.#socket
    this.#lost(problem('unreachable', why, 'after'))
    s?.close()
  }

  #lost(reason: Problem): void {
    const now = this.#env.now()
    this.#env.clearTimeout(this.#timer)
    this.#socket = undefined
    if (this.#open && now - this.#openedAt >= timers.calm) this.attempt = 0
    const fatal = this.#fatal
    this.#fatal = undefined
    if (!this.#open && !fatal) this.#missed()
    this.#open = false
    this.reason ??= reason
    if (fatal && !(EXPIRED.includes(fatal.code) && this.#h.renew())) {
      this.close()
      this.#h.ended(fatal)
      return
    }
    this.attempt++
    this.#wait(this.#retryAfter || delay(this.attempt - 1, this.#env.random(), this.#pace))
    this.#retryAfter = undefined
    this.#h.down()
  }

  #wait(ms: number): void {
    this.#env.clearTimeout(this.#timer)
    this.retryAt = this.#env.now() + ms
    this.#timer = this.#env.setTimeout(() => this.start(), ms)
  }

  /** An attempt came to no welcome. When plain HTTP gets through where a WebSocket does not, the next one is made of streams of events. */
  #missed(): void {
    if (this.#mode !== 'auto') return
    if (this.#sse) {
      this.#sse = false
      this.#misses = MISSES - 1
    } else if (++this.#misses >= MISSES && !this.#asking) {
      this.#asking = true
      this.#env.fetch(this.#base + '/v1/live', {}).finally(() => (this.#asking = false)).then((res) => {
        if (!this.retryAt) return // connected or closed meanwhile
        const after = Number(res.headers.get('Retry-After'))
        if (res.status !== 503 && res.status !== 429) {
          this.#sse = !this.#openedAt // what got through before is tried once more: a server that is just back answers, too
          this.#openedAt = 0
        } else if (after) {
          this.#wait(after * 1000)
          this.#h.down()
        }
      }, () => {}) // no network, or no server: nothing to choose from
    }
  }

  /** Network or user are back: ask at once whether the server is there. */
  #wake(): void {
    if (this.#open) this.#ping(this.#env.now())
    else if (this.retryAt) {
      this.#sse = this.#mode === 'sse' // another network may let more through
      this.start()
    }
  }

  close(): void {
    this.#env.clearTimeout(this.#timer)
    this.#unwake()
    this.#open = false
    this.retryAt = 0
    const s = this.#socket
    this.#socket = undefined
    s?.close(1000)
  }
}
