import { delay } from './backoff.ts'
import { Alignment } from './clock.ts'
import type { Environment, SocketLike } from './env.ts'
import { problem, Problem } from './problem.ts'
import type { ClientFrame, ServerFrame, WelcomeFrame } from './wire.ts'

/** What a link does with what it hears. @internal */
export interface LinkHandler {
  /** The first frame of a new socket. */
  hello(): Promise<ClientFrame>
  opened(welcome: WelcomeFrame): void
  frame(f: ServerFrame): void
  /** The socket is gone or could not be had; the next attempt is at retryAt. */
  down(): void
  /** No further attempt will be made. */
  ended(reason: Problem): void
  /** Gets a fresh token where that is possible. */
  renew(): boolean
}

const PING_QUIET = 10_000
const DEAD_QUIET = 25_000
const PONG_WAIT = 5_000
const WELCOME_WAIT = 10_000
const CALM = 5_000
const TICK = 2_500
const FATAL = ['unauthenticated', 'token_expired', 'forbidden', 'invalid_request']

/** Keeps one socket open: attempts, back-off, heartbeat, clock alignment. It knows nothing of subscriptions. @internal */
export class Link {
  /** Attempts since the last live spell. */
  attempt = 0
  /** When the next attempt starts; 0 while there is a socket. */
  retryAt = 0
  /** Why the last socket went. */
  reason: Problem | undefined
  /** When the last frame came. */
  heard = 0
  frameBytes = 0
  readonly clock = new Alignment()

  #env: Environment
  #url: string
  #h: LinkHandler
  #socket: SocketLike | undefined
  #open = false
  #openedAt = 0
  #helloAt = 0
  #pinged = 0 // when the oldest unanswered ping went
  #pings = 0
  #lastPing = 0
  #retryAfter: number | undefined
  #fatal: Problem | undefined
  #timer: unknown
  #unwake: () => void

  constructor(env: Environment, url: string, handler: LinkHandler) {
    this.#env = env
    this.#url = url
    this.#h = handler
    this.#unwake = env.onWake(() => this.#wake())
  }

  get open(): boolean {
    return this.#open
  }

  /** Sends a frame if the socket is open; else it is lost, and the caller sends it anew from opened(). */
  send(f: ClientFrame): void {
    if (this.#open) this.#socket!.send(JSON.stringify(f))
  }

  /** Starts an attempt now. */
  start(): void {
    this.#env.clearTimeout(this.#timer)
    this.retryAt = 0
    let s: SocketLike
    try {
      s = this.#env.socket(this.#url, 'laaster.v1')
    } catch (err) {
      this.#h.ended(problem('invalid_request', String(err)))
      return
    }
    this.#socket = s
    s.onopen = () => void this.#hello(s)
    s.onmessage = (e) => s === this.#socket && this.#message(e.data)
    s.onclose = (e) => s === this.#socket && this.#lost(problem('unreachable', e.reason || `the connection closed (${e.code})`, 'after'))
    s.onerror = () => {}
    this.#timer = this.#env.setTimeout(() => this.#drop('no welcome in time'), WELCOME_WAIT)
  }

  async #hello(s: SocketLike): Promise<void> {
    try {
      const hello = await this.#h.hello()
      if (s !== this.#socket) return
      this.#helloAt = this.#env.now()
      s.send(JSON.stringify(hello))
    } catch (err) {
      if (s === this.#socket) this.#drop(String(err))
    }
  }

  #message(data: unknown): void {
    let f: ServerFrame
    try {
      f = JSON.parse(data as string) as ServerFrame
    } catch {
      return this.#drop('a frame that is not JSON')
    }
    const now = (this.heard = this.#env.now())
    switch (f.type) {
      case 'welcome':
        this.#open = true
        this.#openedAt = now
        this.#pinged = this.#pings = 0
        this.reason = this.#fatal = undefined
        this.frameBytes = f.limits.frame_bytes
        this.clock.restart()
        this.clock.add(this.#helloAt, now, f.now)
        this.#env.clearTimeout(this.#timer)
        this.#h.opened(f)
        this.#tick()
        return
      case 'pong':
        this.#pinged = 0
        this.clock.add(f.t, now, f.now)
        if (this.#pings < 4) this.#ping(now)
        return
      case 'goodbye':
        this.#retryAfter = f.retry_after_ms
        this.reason = new Problem({ code: f.code, detail: f.reason ?? f.code, retry: 'after' })
        return
      case 'error':
        if (f.id === undefined) {
          this.reason = new Problem(f.error)
          this.#retryAfter = f.error.retry_after_ms
          if (FATAL.includes(f.error.code)) this.#fatal = this.reason
        }
    }
    this.#h.frame(f)
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
    if (now - this.heard >= DEAD_QUIET && this.#pinged && now - this.#pinged >= PONG_WAIT) return this.#drop('nothing heard for too long')
    if (now - this.#lastPing >= PING_QUIET || !this.#pings) this.#ping(now)
    this.#timer = this.#env.setTimeout(() => this.#tick(), TICK)
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
    if (this.#open && now - this.#openedAt >= CALM) this.attempt = 0
    this.#open = false
    this.reason ??= reason
    const fatal = this.#fatal
    this.#fatal = undefined
    if (fatal && !(fatal.code === 'token_expired' && this.#h.renew())) {
      this.close()
      this.#h.ended(fatal)
      return
    }
    const wait = this.#retryAfter ?? delay(this.attempt, this.#env.random())
    this.#retryAfter = undefined
    this.attempt++
    this.retryAt = now + wait
    this.#timer = this.#env.setTimeout(() => this.start(), wait)
    this.#h.down()
  }

  /** Network or user are back: ask at once whether the server is there. */
  #wake(): void {
    if (this.#open) this.#ping(this.#env.now())
    else if (this.retryAt) this.start()
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
