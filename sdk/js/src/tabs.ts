import type { SocketLike } from './env.ts'
import { timers } from './states.ts'
import type { ClientFrame, EpochFrame, FreshnessFrame, HelloFrame, ServerFrame, SignalFrame, WelcomeFrame } from './wire.ts'

type SocketClass = new (url: string, protocol: string) => SocketLike

/** How tabs share a connection. */
export interface TabsOptions {
  /** Who shares: tabs with the same name and server. Put the user into it, since all of them write with one token. Default: ''. */
  name?: string
  /** The class of the one real socket. Default: the browser's. */
  WebSocket?: SocketClass
  /** For tests. Default: the browser's. */
  locks?: Pick<LockManager, 'request'>
  /** For tests. Default: the browser's. */
  BroadcastChannel?: new (name: string) => BusLike
}

/** The part of a BroadcastChannel that is used. */
export interface BusLike {
  onmessage: { on(e: { data: unknown }): unknown }['on'] | null
  postMessage(m: unknown): void
  close(): void
}

/** open, up, bye: from a member to the leader. leader, opened, down, gone: from the leader to one member, or to all. */
interface Message {
  kind: 'open' | 'up' | 'bye' | 'leader' | 'opened' | 'down' | 'gone'
  member?: string
  /** Which leader says it: what an earlier one said may come late. */
  hub?: string
  data?: string
}

/**
 * A class to be used in place of WebSocket, `connect(url, { WebSocket: sharedSocket() })`: the sockets of all tabs of one browser that
 * use it are one connection. One tab leads and holds it, the others follow over a BroadcastChannel; when the leading tab closes,
 * another takes over (the browser's locks decide) and everybody resumes there. Each tab has its own subscriptions and hears of
 * nobody else's. Where the browser lacks locks or channels, the answer is its WebSocket.
 */
export function sharedSocket(options: TabsOptions = {}): SocketClass {
  const Real = options.WebSocket ?? (globalThis.WebSocket as unknown as SocketClass)
  const Bus = options.BroadcastChannel ?? (globalThis.BroadcastChannel as unknown as TabsOptions['BroadcastChannel'])
  const locks = options.locks ?? (typeof navigator === 'undefined' ? undefined : navigator.locks)
  return Bus && locks ? shared(options.name ?? '', Real, Bus, locks) : Real
}

function shared(who: string, Real: SocketClass, Bus: new (name: string) => BusLike, locks: Pick<LockManager, 'request'>): SocketClass {
  const pages = new Map<string, Page>()
  return class {
    constructor(url: string, protocol: string) {
      const name = `laaster:tabs:${who}:${url}`
      let page = pages.get(name)
      if (!page) pages.set(name, (page = new Page(name, new Bus(name), locks, () => new Real(url, protocol))))
      return new Member(page)
    }
  } as unknown as SocketClass
}

/** This page's part in the sharing: its own sockets and, when it leads, the connection. */
class Page {
  readonly members = new Map<string, Member>()
  #bus: BusLike
  #hub: Hub | undefined

  constructor(readonly name: string, bus: BusLike, readonly locks: Pick<LockManager, 'request'>, real: () => SocketLike) {
    this.#bus = bus
    bus.onmessage = (e) => this.#hear(e.data as Message)
    void locks.request(name, () => {
      this.#hub = new Hub(this, real)
      this.#hub.say({ kind: 'leader' })
      return new Promise(() => {}) // for as long as the page is there
    })
  }

  /** To everybody, this page included. */
  say(m: Message): void {
    this.#bus.postMessage(m)
    queueMicrotask(() => this.#hear(m))
  }

  #hear(m: Message): void {
    if (m.kind === 'open' || m.kind === 'up' || m.kind === 'bye') return this.#hub?.hear(m)
    for (const [id, member] of this.members) if (m.member === undefined || m.member === id) member.hear(m)
  }
}

/** One socket of this page, as its client sees it. Ids carry the member's name on the way. */
class Member implements SocketLike {
  onopen: SocketLike['onopen'] = null
  onmessage: SocketLike['onmessage'] = null
  onclose: SocketLike['onclose'] = null
  onerror: SocketLike['onerror'] = null
  #page: Page
  #id = random()
  #hub = '' // the leader that it belongs to; '': not known
  #opened = false
  #welcomed = false
  #release: () => void = () => {}

  constructor(page: Page) {
    this.#page = page
    page.members.set(this.#id, this)
    // The leader waits for this lock: it gets it when this socket or its page is gone.
    void page.locks.request(`${page.name}:${this.#id}`, () => {
      if (!page.members.has(this.#id)) return // closed meanwhile
      page.say({ kind: 'open', member: this.#id })
      return new Promise<void>((f) => (this.#release = f))
    })
  }

  send(data: string): void {
    this.#page.say({ kind: 'up', member: this.#id, data })
  }

  close(): void {
    if (this.#page.members.delete(this.#id)) this.#page.say({ kind: 'bye', member: this.#id })
    this.#release()
  }

  hear(m: Message): void {
    if (m.kind === 'leader' || !this.#hub) this.#hub = m.hub!
    if (m.hub !== this.#hub) return
    switch (m.kind) {
      case 'leader':
        return this.#opened ? this.#gone('the leading tab is gone') : this.#page.say({ kind: 'open', member: this.#id })
      case 'opened':
        this.#opened = true
        return void this.onopen?.({})
      case 'gone':
        return this.#gone(m.data ?? '')
      case 'down': {
        const f = JSON.parse(m.data!) as ServerFrame
        const mine = this.#id + '.'
        if (f.type === 'welcome') this.#welcomed = true
        // What others hear before it has said where it stands would move it past what it has missed.
        if (!this.#welcomed && (f.type === 'epoch' || f.type === 'freshness')) return
        if (f.type === 'epoch') f.changes = own(f, mine)
        else if ('id' in f && f.id) f.id = f.id.slice(mine.length)
        return void this.onmessage?.({ data: JSON.stringify(f) })
      }
    }
  }

  #gone(reason: string): void {
    this.close()
    this.onclose?.({ code: 1006, reason })
  }
}

const random = (): string => Array.from(crypto.getRandomValues(new Uint8Array(6)), (b) => b.toString(16).padStart(2, '0')).join('')

const own = (f: EpochFrame, mine: string): EpochFrame['changes'] =>
  Object.fromEntries(Object.entries(f.changes).flatMap(([id, c]) => (id.startsWith(mine) ? [[id.slice(mine.length), c]] : [])))

/** The leader's side: the one connection, and who uses it. */
class Hub {
  #id = random()
  #page: Page
  #real: () => SocketLike
  #socket: SocketLike | undefined
  #open = false
  #greeted = '' // the member whose hello was the first
  #welcome: WelcomeFrame | undefined
  #welcomed = 0
  #freshness: FreshnessFrame | undefined // what was said last of all subscriptions
  #members = new Map<string, Set<string>>() // and their subscriptions
  #waiting: [string, HelloFrame][] = [] // for the welcome
  #left: string[] = [] // subscriptions of the hello whose member is gone
  #pings: string[] = []
  #rows = new Map<string, Map<string, SignalFrame>>() // what members have set without a key, by table
  #due = 0 // until then something has to be heard; 0: nothing is waited for

  constructor(page: Page, real: () => SocketLike) {
    this.#page = page
    this.#real = real
  }

  say(m: Message): void {
    this.#page.say({ ...m, hub: this.#id })
  }

  hear({ kind, member = '', data }: Message): void {
    if (kind === 'open') this.#join(member)
    else if (kind === 'bye') this.#leave(member)
    else if (this.#members.has(member)) this.#frame(member, JSON.parse(data!) as ClientFrame)
  }

  #join(member: string): void {
    if (this.#members.has(member)) return
    if (this.#due && performance.now() > this.#due) this.#lost('the shared connection was silent for too long')
    this.#members.set(member, new Set())
    void this.#page.locks.request(`${this.#page.name}:${member}`, () => this.#leave(member))
    if (this.#open) this.say({ kind: 'opened', member })
    else if (!this.#socket) this.#connect()
  }

  #connect(): void {
    const s = (this.#socket = this.#real())
    this.#expect(timers.welcome)
    s.onopen = () => {
      if (s !== this.#socket) return
      this.#open = true
      this.#due = 0
      for (const member of this.#members.keys()) this.say({ kind: 'opened', member })
    }
    s.onmessage = (e) => s === this.#socket && this.#down(e.data as string)
    s.onclose = (e) => s === this.#socket && this.#lost(e.reason || `the connection closed (${e.code})`)
    s.onerror = () => {}
  }

  /** Something has to be heard within ms. When nothing was, the next member that comes gives the connection up. */
  #expect(ms: number): void {
    this.#due ||= performance.now() + ms
  }

  /** The connection is gone, for all who use it now. */
  #lost(reason: string): void {
    const s = this.#socket
    const members = [...this.#members.keys()]
    this.#members.clear()
    this.#reset()
    s?.close()
    for (const member of members) this.say({ kind: 'gone', member, data: reason })
  }

  #reset(): void {
    this.#socket = this.#welcome = this.#freshness = undefined
    this.#due = 0
    this.#rows.clear()
    this.#open = false
    this.#greeted = ''
    this.#waiting = []
    this.#left = []
    this.#pings = []
  }

  /** What a member subscribed to ends with it, and the connection with the last of them. */
  #leave(member: string): void {
    const subscriptions = this.#members.get(member)
    if (!subscriptions || !this.#members.delete(member)) return
    this.#waiting = this.#waiting.filter(([m]) => m !== member)
    if (this.#members.size) {
      if (this.#welcome) {
        for (const id of subscriptions) this.#send({ type: 'unsubscribe', id })
        for (const set of this.#rows.values()) if (set.has(member)) this.#signal(member, { ...set.get(member)!, value: null })
      } else if (this.#greeted === member) this.#left = [...subscriptions]
      return
    }
    const s = this.#socket
    this.#reset()
    s?.close(1000)
  }

  #send(f: ClientFrame): void {
    this.#socket?.send(JSON.stringify(f))
  }

  #frame(member: string, f: ClientFrame): void {
    const subscriptions = this.#members.get(member)!
    if (f.type === 'hello') {
      for (const q of f.subscribe ?? []) subscriptions.add((q.id = `${member}.${q.id}`))
      if (this.#welcome) this.#admit(member, f)
      else if (this.#greeted) this.#waiting.push([member, f])
      else {
        this.#greeted = member
        this.#waiting.push([member, { type: 'hello' }])
        this.#expect(timers.welcome)
        this.#send(f)
      }
      return
    }
    if ('id' in f) f.id = `${member}.${f.id}`
    if (f.type === 'subscribe') subscriptions.add(f.id)
    else if (f.type === 'unsubscribe') subscriptions.delete(f.id)
    else if (f.type === 'signal' && !f.key) return this.#signal(member, f)
    else if (f.type === 'ping') {
      this.#pings.push(member)
      this.#expect(timers.pong_wait)
    }
    this.#send(f)
  }

  /** A row whose key is the connection is one for all of them: it shows what was set last by those that are here, and goes with the last of them. */
  #signal(member: string, f: SignalFrame): void {
    const set = this.#rows.get(f.table) ?? new Map<string, SignalFrame>()
    this.#rows.set(f.table, set)
    set.delete(member)
    if (f.value) set.set(member, f)
    this.#send([...set.values()].at(-1) ?? f)
  }

  /** Greets whoever comes later: its subscriptions join those that are there. */
  #admit(member: string, f: HelloFrame): void {
    const welcome = { ...this.#welcome!, now: this.#welcome!.now + performance.now() - this.#welcomed }
    for (const frame of this.#freshness ? [welcome, this.#freshness] : [welcome]) this.say({ kind: 'down', member, data: JSON.stringify(frame) })
    for (const q of f.subscribe ?? []) this.#send({ type: 'subscribe', from: f.resume ?? null, ...q })
  }

  #down(data: string): void {
    const f = JSON.parse(data) as ServerFrame
    this.#due = 0
    if (f.type === 'welcome') {
      this.#welcome = f
      this.#welcomed = performance.now()
      for (const id of this.#left.splice(0)) this.#send({ type: 'unsubscribe', id })
      for (const [member, hello] of this.#waiting.splice(0)) this.#admit(member, hello)
      return
    }
    if (f.type === 'freshness' && !f.id) this.#freshness = f
    const member = f.type === 'pong' ? this.#pings.shift() : 'id' in f && f.id ? f.id.slice(0, f.id.indexOf('.')) : undefined
    this.say({ kind: 'down', ...(member === undefined ? {} : { member }), data })
  }
}
