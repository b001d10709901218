import { createContext, createElement, useCallback, useContext, useEffect, useMemo, useState, useSyncExternalStore, type ReactNode } from 'react'
import type {
  AnySchema, Channel, Client, Collection, Freshness, Names, Problem, QueuedWrite, Row, RowOf, State, SubscribeOptions, Untyped, WriteOptions, WriteResult,
} from 'laaster'

/** What a view or channel is filtered by. Sorting by a function is the component's business. */
export type ViewOptions<R> = Omit<SubscribeOptions<R>, 'compare'>

/** A live view, as a component sees it. The same object as long as nothing changed. */
export interface View<R> {
  /** In the order that was asked for. The same array as long as no row changed. */
  rows: readonly R[]
  freshness: Freshness
  /** Of the rows; empty before the first complete state and for channels. */
  position: string
  /** Whether a row shows a write that is not decided. */
  pending(row: R): boolean
}

/** A channel or presence, as a component sees it. */
export interface Room<R> extends View<R> {
  /** How many rows there are; more than are listed when presence is crowded. */
  count: number
  /** Sets a row of this client's. */
  set(value: Partial<R>, key?: Partial<R>): void
  /** Takes it away. */
  clear(key?: Partial<R>): void
}

/** Writes, and what becomes of them. */
export interface Write<S extends AnySchema> {
  insert<T extends Names<S['tables']>>(table: T, row: RowOf<S['tables'], T>, options?: WriteOptions): Promise<WriteResult>
  insertMany<T extends Names<S['tables']>>(table: T, rows: readonly RowOf<S['tables'], T>[], options?: WriteOptions): Promise<WriteResult>
  update<T extends Names<S['tables']>>(table: T, filter: string | Record<string, string>, patch: Partial<RowOf<S['tables'], T>>, options?: WriteOptions): Promise<WriteResult>
  delete(table: Names<S['tables']>, filter: string | Record<string, string>, options?: WriteOptions): Promise<WriteResult>
  /** How many writes of this component have no answer yet. */
  sending: number
  /** Why its last failed write failed; undefined again after the next one that does not. */
  problem: Problem | undefined
}

const Context = createContext<Client<AnySchema> | undefined>(undefined)

/** Gives its children a client. Whoever made the client closes it. */
export function Laaster(props: { client: Pick<Client, 'state' | 'onState' | 'close'>; children?: ReactNode }): ReactNode {
  return createElement(Context.Provider, { value: props.client as never }, props.children)
}

/** The client of the nearest `Laaster` above. */
export function useClient<S extends AnySchema = Untyped>(): Client<S> {
  const client = useContext(Context)
  if (!client) throw new Error('no client: put <Laaster client={…}> around the component')
  return client as never
}

/** One subscription for all components that ask for the same. */
interface Shared {
  c: Collection | Channel
  users: number
  view: View<Row> & { count: number }
}

const all = new WeakMap<object, Map<string, Shared>>()
const never = () => false
const loading: View<Row> & { count: number } = { rows: [], freshness: { name: 'loading' }, position: '', count: 0, pending: never }

function sharedBy(client: object): Map<string, Shared> {
  let map = all.get(client)
  if (!map) all.set(client, (map = new Map()))
  return map
}

function acquire(map: Map<string, Shared>, key: string, open: () => Collection | Channel): Shared {
  let s = map.get(key)
  if (!s) map.set(key, (s = { c: open(), users: 0, view: loading }))
  s.users++
  return s
}

/** Ends it when nobody uses it any more, and nobody takes it up again in the same turn: another page of the app, or React's strict mode. */
function release(map: Map<string, Shared>, key: string, s: Shared): void {
  if (--s.users) return
  setTimeout(() => {
    if (s.users || map.get(key) !== s) return
    map.delete(key)
    s.c.close()
  })
}

/** The same object until something changed. */
function look(s: Shared | undefined): View<Row> & { count: number } {
  if (!s) return loading
  const { c, view } = s
  const { rows, freshness, position } = c
  const count = 'count' in c ? c.count : rows.length
  if (view.rows !== rows || view.freshness !== freshness || view.count !== count) {
    s.view = { rows, freshness, position, count, pending: (row) => c.pending(row) }
  }
  return s.view
}

function useShared(client: object, key: string, open: () => Collection | Channel): View<Row> & { count: number } {
  const map = sharedBy(client)
  const subscribe = useCallback(
    (tell: () => void) => {
      const s = acquire(map, key, open)
      const stops = [s.c.onChange(tell), s.c.onFreshness(tell)]
      return () => {
        for (const stop of stops) stop()
        release(map, key, s)
      }
    },
    [map, key], // open is what key says
  )
  return useSyncExternalStore(subscribe, () => look(map.get(key)), () => loading)
}

const keyOf = (kind: string, name: string, o: object) => JSON.stringify([kind, name, o])

/** Follows a view. Components that ask for the same share one subscription. */
export function useView<R extends object = Row>(view: string, options: ViewOptions<R> = {}): View<R> {
  const client = useClient()
  return useShared(client, keyOf('view', view, options), () => client.subscribe(view, options as never)) as unknown as View<R>
}

/** Writes of this component. */
export function useWrite<S extends AnySchema = Untyped>(): Write<S> {
  const client = useClient<S>()
  const [sending, setSending] = useState(0)
  const [problem, setProblem] = useState<Problem>()
  const methods = useMemo(() => {
    const watched = <A extends unknown[]>(write: (...a: A) => Promise<WriteResult>) => async (...a: A): Promise<WriteResult> => {
      setSending((n) => n + 1)
      try {
        const result = await write(...a)
        setProblem(undefined)
        return result
      } catch (p) {
        setProblem(p as Problem)
        throw p
      } finally {
        setSending((n) => n - 1)
      }
    }
    return {
      insert: watched(client.insert.bind(client) as never),
      insertMany: watched(client.insertMany.bind(client) as never),
      update: watched(client.update.bind(client) as never),
      delete: watched(client.delete.bind(client) as never),
    }
  }, [client])
  return useMemo(() => ({ ...methods, sending, problem }) as unknown as Write<S>, [methods, sending, problem])
}

/** The state of the connection: `connecting`, `catching_up`, `live`, `stale` (with the time since when), `closed`. */
export function useFreshness(): State {
  const client = useClient()
  const subscribe = useCallback((tell: () => void) => client.onState(tell), [client])
  return useSyncExternalStore(subscribe, () => client.state, () => client.state)
}

/** The writes that wait for the server, with `offline`. */
export function useQueue(): readonly QueuedWrite[] {
  const client = useClient()
  const [list, setList] = useState(client.queue)
  useEffect(() => {
    const tell = () => setList(client.queue)
    tell()
    return client.onQueue(tell)
  }, [client])
  return list
}

function useRoom<R extends object>(name: string, options: ViewOptions<R>): [Room<R>, () => Channel<R> | undefined] {
  const client = useClient()
  const key = keyOf('channel', name, options)
  const view = useShared(client, key, () => client.channel(name, options as never))
  const channel = useCallback(() => sharedBy(client).get(key)?.c as Channel<R> | undefined, [client, key])
  const methods = useMemo(
    () => ({
      set: (value: Partial<R>, of?: Partial<R>) => channel()?.set(value, of),
      clear: (of?: Partial<R>) => channel()?.clear(of),
    }),
    [channel],
  )
  return [useMemo(() => ({ ...view, ...methods }) as unknown as Room<R>, [view, methods]), channel]
}

/** Follows a channel. What this client set there goes when the last component that follows it does. */
export function useChannel<R extends object = Row>(name: string, options: ViewOptions<R> = {}): Room<R> {
  return useRoom(name, options)[0]
}

/** Is there, with these fields, as long as the component is. Other fields change them. */
export function usePresence<R extends object = Row>(name: string, fields: Partial<R>, options: ViewOptions<R> = {}): Room<R> {
  const [room, channel] = useRoom(name, options)
  const text = JSON.stringify(fields)
  useEffect(() => channel()?.set(JSON.parse(text) as Partial<R>), [channel, text])
  return room
}

/** The hooks with the names and rows of an app: `const { useView } = hooks<Schema>()`. */
export interface Hooks<S extends AnySchema> {
  useClient(): Client<S>
  useView<V extends Names<S['views']>>(view: V, options?: ViewOptions<RowOf<S['views'], V>>): View<RowOf<S['views'], V>>
  useWrite(): Write<S>
  useChannel<V extends Names<S['channels']>>(name: V, options?: ViewOptions<RowOf<S['channels'], V>>): Room<RowOf<S['channels'], V>>
  usePresence<V extends Names<S['channels']>>(
    name: V, fields: Partial<RowOf<S['channels'], V>>, options?: ViewOptions<RowOf<S['channels'], V>>,
  ): Room<RowOf<S['channels'], V>>
}

/** The same functions, with types. */
export function hooks<S extends AnySchema>(): Hooks<S> {
  return { useClient, useView, useWrite, useChannel, usePresence } as unknown as Hooks<S>
}
