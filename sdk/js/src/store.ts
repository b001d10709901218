import type { Effect } from './optimistic.ts'
import type { WriteRequest } from './wire.ts'

/** A write in the queue, as it is stored. @internal */
export interface Stored {
  /** Its place in the queue; given by the store. */
  n?: number
  /** The client that queued it. */
  owner: string
  /** When it was queued, Unix ms. */
  at: number
  /** When it was first sent without an answer; 0: never. */
  sent: number
  request: WriteRequest & { key: string }
  effects: Effect[]
  /** Whether it may be repeated however late. */
  repeatable: boolean
}

/** Keeps writes over a reload. Everything is done in the order of the calls. @internal */
export interface Store {
  /** Whether what is in it outlives the page. */
  readonly durable: boolean
  /** All writes by place. */
  load(): Promise<Stored[]>
  /** Adds it or, with n, replaces it; the answer is its n. */
  put(w: Stored): Promise<number>
  delete(n: number): Promise<void>
  close(): void
}

/** Keeps writes as long as the program runs. @internal */
export function memoryStore(): Store {
  const all = new Map<number, string>()
  let n = 0
  return {
    durable: false,
    load: async () => [...all].map(([n, w]) => ({ ...(JSON.parse(w) as Stored), n })),
    put: async (w) => {
      const at = w.n ?? ++n
      all.set(at, JSON.stringify(w))
      return at
    },
    delete: async (n) => void all.delete(n),
    close: () => {},
  }
}

const NAME = 'writes'

/** Keeps writes in IndexedDB; in memory where there is none or it may not be used. @internal */
export async function openStore(name: string): Promise<Store> {
  try {
    const open = indexedDB.open(name, 1)
    open.onupgradeneeded = () => open.result.createObjectStore(NAME, { keyPath: 'n', autoIncrement: true })
    const db = await new Promise<IDBDatabase>((ok, no) => {
      open.onsuccess = () => ok(open.result)
      open.onerror = open.onblocked = () => no(open.error)
    })
    db.onversionchange = () => db.close()
    const run = <T>(mode: IDBTransactionMode, f: (s: IDBObjectStore) => IDBRequest<T>) =>
      new Promise<T>((ok, no) => {
        const tx = db.transaction(NAME, mode)
        const req = f(tx.objectStore(NAME))
        tx.oncomplete = () => ok(req.result)
        tx.onabort = tx.onerror = () => no(tx.error)
      })
    return {
      durable: true,
      load: () => run('readonly', (s) => s.getAll()),
      put: (w) => run('readwrite', (s) => s.put(w) as IDBRequest<number>),
      delete: (n) => run('readwrite', (s) => s.delete(n)),
      close: () => db.close(),
    }
  } catch {
    return memoryStore()
  }
}
