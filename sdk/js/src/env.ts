import { openStore, type Store } from './store.ts'

type Handler<E> = { on(e: E): unknown }['on'] | null

/** The part of the browser's WebSocket that the SDK uses; `ws` for Node has it too. */
export interface SocketLike {
  onopen: Handler<object>
  onmessage: Handler<{ data: unknown }>
  onclose: Handler<{ code: number; reason: string }>
  onerror: Handler<object>
  send(data: string): void
  close(code?: number, reason?: string): void
}

/** What the SDK takes from its surroundings. Tests hand in virtual ones. */
export interface Environment {
  /** Milliseconds since 1970, fractional, never stepping back; the time that the machine slept counts. */
  now(): number
  setTimeout(f: () => void, ms: number): unknown
  clearTimeout(timer: unknown): void
  /** Uniform in [0, 1). */
  random(): number
  /** Whether somebody can see the page; true where there is none. */
  visible(): boolean
  /** Calls f when what was drawn until now is on the screen. */
  painted(f: () => void): void
  /** Calls f when the network or the user came back. */
  onWake(f: () => void): () => void
  /** 128 random bits as 32 hexadecimal digits. */
  key(): string
  socket(url: string, protocol: string): SocketLike
  fetch(url: string, init: RequestInit): Promise<Response>
  /** The origin that relative URLs mean. */
  origin(): string
  /** Locks shared by the pages of this origin; undefined where there are none. @internal */
  locks: Pick<LockManager, 'request'> | undefined
  /** Where writes wait that are not answered yet. Default: IndexedDB, else memory. @internal */
  store(name: string): Promise<Store>
}

/** Calls a listener so that its exception disturbs nobody else. @internal */
export const guarded = <A>(f: (a: A) => void, a: A): void => {
  try {
    f(a)
  } catch (err) {
    const report = globalThis.reportError ?? console.error
    report(err)
  }
}

/** A set of listeners. @internal */
export class Listeners<A> {
  #all = new Set<(a: A) => void>()

  /** Adds f; the answer removes it. */
  add(f: (a: A) => void): () => void {
    const own = (a: A) => f(a)
    this.#all.add(own)
    return () => void this.#all.delete(own)
  }

  emit(a: A): void {
    for (const f of [...this.#all]) guarded(f, a)
  }
}

/** The real surroundings: a browser, or Node with its own or the given WebSocket class. @internal */
export function surroundings(Socket?: new (url: string, protocol: string) => SocketLike): Environment {
  let slept = 0 // what performance.now() has missed, in ms
  const doc = globalThis.document as Document | undefined
  return {
    now: () => {
      const t = performance.timeOrigin + performance.now()
      const missed = Date.now() - t
      if (missed > slept + 1000) slept = missed
      return t + slept
    },
    setTimeout: (f, ms) => setTimeout(f, ms),
    clearTimeout: (t) => clearTimeout(t as number),
    random: Math.random,
    visible: () => !doc?.hidden,
    painted: (f) => void (doc ? requestAnimationFrame(() => setTimeout(f)) : setTimeout(f)),
    onWake: (f) => {
      const seen = () => doc!.hidden || f()
      if (!doc) return () => {}
      addEventListener('online', f)
      doc.addEventListener('visibilitychange', seen)
      return () => {
        removeEventListener('online', f)
        doc.removeEventListener('visibilitychange', seen)
      }
    },
    key: () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join(''),
    socket: (url, protocol) => {
      const C = Socket ?? (globalThis.WebSocket as unknown as typeof Socket)
      if (!C) throw new ReferenceError('no WebSocket here: pass one as connect(url, { WebSocket })')
      return new C(url, protocol)
    },
    fetch: (url, init) => fetch(url, init),
    origin: () => globalThis.location?.origin ?? '',
    locks: globalThis.navigator?.locks,
    store: openStore,
  }
}
