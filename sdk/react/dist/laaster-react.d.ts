import { type ReactNode } from 'react';
import type { AnySchema, Client, Freshness, Names, Problem, QueuedWrite, Row, RowOf, State, SubscribeOptions, Untyped, WriteOptions, WriteResult } from 'laaster';
/** What a view or channel is filtered by. Sorting by a function is the component's business. */
export type ViewOptions<R> = Omit<SubscribeOptions<R>, 'compare'>;
/** A live view, as a component sees it. The same object as long as nothing changed. */
export interface View<R> {
    /** In the order that was asked for. The same array as long as no row changed. */
    rows: readonly R[];
    freshness: Freshness;
    /** Of the rows; empty before the first complete state and for channels. */
    position: string;
    /** Whether a row shows a write that is not decided. */
    pending(row: R): boolean;
}
/** A channel or presence, as a component sees it. */
export interface Room<R> extends View<R> {
    /** How many rows there are; more than are listed when presence is crowded. */
    count: number;
    /** Sets a row of this client's. */
    set(value: Partial<R>, key?: Partial<R>): void;
    /** Takes it away. */
    clear(key?: Partial<R>): void;
}
/** Writes, and what becomes of them. */
export interface Write<S extends AnySchema> {
    insert<T extends Names<S['tables']>>(table: T, row: RowOf<S['tables'], T>, options?: WriteOptions): Promise<WriteResult>;
    insertMany<T extends Names<S['tables']>>(table: T, rows: readonly RowOf<S['tables'], T>[], options?: WriteOptions): Promise<WriteResult>;
    update<T extends Names<S['tables']>>(table: T, filter: string | Record<string, string>, patch: Partial<RowOf<S['tables'], T>>, options?: WriteOptions): Promise<WriteResult>;
    delete(table: Names<S['tables']>, filter: string | Record<string, string>, options?: WriteOptions): Promise<WriteResult>;
    /** How many writes of this component have no answer yet. */
    sending: number;
    /** Why its last failed write failed; undefined again after the next one that does not. */
    problem: Problem | undefined;
}
/** Gives its children a client. Whoever made the client closes it. */
export declare function Laaster(props: {
    client: Pick<Client, 'state' | 'onState' | 'close'>;
    children?: ReactNode;
}): ReactNode;
/** The client of the nearest `Laaster` above. */
export declare function useClient<S extends AnySchema = Untyped>(): Client<S>;
/** Follows a view. Components that ask for the same share one subscription. */
export declare function useView<R extends object = Row>(view: string, options?: ViewOptions<R>): View<R>;
/** Writes of this component. */
export declare function useWrite<S extends AnySchema = Untyped>(): Write<S>;
/** The state of the connection: `connecting`, `catching_up`, `live`, `stale` (with the time since when), `closed`. */
export declare function useFreshness(): State;
/** The writes that wait for the server, with `offline`. */
export declare function useQueue(): readonly QueuedWrite[];
/** Follows a channel. What this client set there goes when the last component that follows it does. */
export declare function useChannel<R extends object = Row>(name: string, options?: ViewOptions<R>): Room<R>;
/** Is there, with these fields, as long as the component is. Other fields change them. */
export declare function usePresence<R extends object = Row>(name: string, fields: Partial<R>, options?: ViewOptions<R>): Room<R>;
/** The hooks with the names and rows of an app: `const { useView } = hooks<Schema>()`. */
export interface Hooks<S extends AnySchema> {
    useClient(): Client<S>;
    useView<V extends Names<S['views']>>(view: V, options?: ViewOptions<RowOf<S['views'], V>>): View<RowOf<S['views'], V>>;
    useWrite(): Write<S>;
    useChannel<V extends Names<S['channels']>>(name: V, options?: ViewOptions<RowOf<S['channels'], V>>): Room<RowOf<S['channels'], V>>;
    usePresence<V extends Names<S['channels']>>(name: V, fields: Partial<RowOf<S['channels'], V>>, options?: ViewOptions<RowOf<S['channels'], V>>): Room<RowOf<S['channels'], V>>;
}
/** The same functions, with types. */
export declare function hooks<S extends AnySchema>(): Hooks<S>;
