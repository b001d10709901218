/*! laaster 0.1.0 | Apache-2.0 */
/** The codes of this server's errors, see docs/errors.md. A newer server may send others. */
type ServerCode = 'invalid_json' | 'invalid_row' | 'invalid_request' | 'unknown_table' | 'unknown_view' | 'unknown_column' | 'not_found' | 'bad_filter' | 'duplicate' | 'conflict' | 'sequence_gap' | 'constraint' | 'unauthenticated' | 'token_expired' | 'forbidden' | 'rate_limited' | 'busy' | 'unresolved' | 'not_yet' | 'too_large' | 'too_many' | 'slow_consumer' | 'gap' | 'draining' | 'storage_damaged' | 'not_supported' | 'internal';
/** The stable name of an error: the server's (docs/errors.md), or one of the SDK's own four. */
type Code = ServerCode | 'timeout' | 'unreachable' | 'closed' | 'queue_full';
/** Every error of the SDK. `message` is the detail in words. */
declare class Problem extends Error {
    readonly name = "Problem";
    /** Decide by this. A newer server may send a code that is not in the type. */
    readonly code: Code;
    /** HTTP status of the code; 0 for the SDK's own codes. */
    readonly status: number;
    /** The column, parameter or member to blame, when there is one. */
    readonly field: string | undefined;
    /** What to do about it. */
    readonly hint: string | undefined;
    /** Whether the same request may succeed later. */
    readonly retry: 'no' | 'after';
    /** With retry `after`: how long to wait, in ms; undefined when the server did not say. */
    readonly retryAfterMs: number | undefined;
    /** The request id that is in the server's log line. */
    readonly request: string | undefined;
    /** For writes: the idempotency key. Repeating the write with it is safe. */
    key: string | undefined;
}
type Handler<E> = {
    on(e: E): unknown;
}['on'] | null;
/** The part of the browser's WebSocket that the SDK uses; `ws` for Node has it too. */
interface SocketLike {
    onopen: Handler<object>;
    onmessage: Handler<{
        data: unknown;
    }>;
    onclose: Handler<{
        code: number;
        reason: string;
    }>;
    onerror: Handler<object>;
    send(data: string): void;
    close(code?: number, reason?: string): void;
}
/** What the SDK takes from its surroundings. Tests hand in virtual ones. */
interface Environment {
    /** Milliseconds since 1970, fractional, never stepping back; the time that the machine slept counts. */
    now(): number;
    setTimeout(f: () => void, ms: number): unknown;
    clearTimeout(timer: unknown): void;
    /** Uniform in [0, 1). */
    random(): number;
    /** Whether somebody can see the page; true where there is none. */
    visible(): boolean;
    /** Calls f when what was drawn until now is on the screen. */
    painted(f: () => void): void;
    /** Calls f when the network or the user came back. */
    onWake(f: () => void): () => void;
    /** 128 random bits as 32 hexadecimal digits. */
    key(): string;
    socket(url: string, protocol: string): SocketLike;
    fetch(url: string, init: RequestInit): Promise<Response>;
    /** The origin that relative URLs mean. */
    origin(): string;
}
/** Compares two rows as Array.sort wants it. */
type Compare<R> = (a: R, b: R) => number;
/** What a write is expected to do to the rows of a view, shown until the truth is here. */
interface Expected {
    view: string;
    /** Rows as they will be; columns that are left out keep their values. Each needs the key columns of the view. */
    put?: readonly object[];
    /** Keys of rows that will be gone: values in the order of the view's key. */
    del?: readonly (readonly unknown[])[];
}
/** How fresh the rows of a collection are. Times are Unix ms of the local clock. With a reason, the view itself stands still: it passed a limit. */
type Freshness = {
    name: 'loading';
} | {
    name: 'catching_up';
    since: number;
} | {
    name: 'live';
} | {
    name: 'stale';
    since: number;
    reason?: string;
} | {
    name: 'refused';
    problem: Problem;
} | {
    name: 'closed';
};
/** A row when nothing more is known of it: column name to JSON value. */
type Row = Record<string, unknown>;
/** What happened to one row. */
type RowChange<R> = {
    op: 'insert';
    row: R;
    old?: undefined;
} | {
    op: 'update';
    row: R;
    old: R;
} | {
    op: 'delete';
    row?: undefined;
    old: R;
};
/** What happened to a collection in one epoch. */
interface Change<R> {
    /**
     * `epoch`: new events. `snapshot`: the difference to a state sent anew. `gap`: the same, and history between is gone.
     * `optimistic`: rows shown ahead of a write, or the truth in their place. `rollback`: such rows taken back, see `problem`.
     */
    cause: 'epoch' | 'snapshot' | 'gap' | 'optimistic' | 'rollback';
    position: string;
    /** The log's time of the epoch in ms (server's clock); NaN for anything else. */
    at: number;
    changes: RowChange<R>[];
    /** With `rollback`: why the write was refused. */
    problem?: Problem;
}
/** What to subscribe to beyond the view's name. */
interface SubscribeOptions<R> {
    /** PostgREST conditions: `run=eq.7&points=gt.0`, or as an object `{ run: 'eq.7' }`. */
    filter?: string | Record<string, string>;
    /** Columns to receive; key columns always come. Default: all. */
    select?: readonly string[] | string;
    /** `total.desc,country`: the order of `rows`, and with `limit` which rows. Default: by key. */
    order?: string;
    /** Only the first rows by `order`: a live window, which rows enter and leave. */
    limit?: number;
    /** With `limit`: how many rows to leave out before. */
    offset?: number;
    /** Sorts `rows` instead of `order`. */
    compare?: Compare<R>;
}
/** A live copy of one view, or of the part of it that was asked for. Made by `client.subscribe`. */
declare class Collection<R extends object = Row> {
    #private;
    /** Resolves at the first complete state; rejects with a Problem when refused or closed before. */
    readonly ready: Promise<this>;
    /** The view's name. */
    readonly view: string;
    /** The rows in order. A new array after a change, the same one otherwise. Do not change it. */
    get rows(): readonly R[];
    /** Number of rows. */
    get size(): number;
    /** Whether this row shows a write whose outcome is not here yet. */
    pending(row: R): boolean;
    /** Names of the key columns, in order; empty before the first complete state and for a view of one row. */
    get key(): readonly string[];
    /** The row of these key values, given in the order of `key`. */
    get(...key: unknown[]): R | undefined;
    get freshness(): Freshness;
    /** The position of these rows; empty before the first complete state. */
    get position(): string;
    /** Calls f once per epoch that changed a row, after the epoch was applied everywhere. The answer stops it. */
    onChange(f: (change: Change<R>) => void): () => void;
    /** Calls f when `freshness` changed. The answer stops it. */
    onFreshness(f: (freshness: Freshness) => void): () => void;
    /** Ends the subscription. The rows stay readable. Again: no effect. */
    close(): void;
}
/**
 * The rows of a channel or of presence: they live in the server's memory alone and have no position. What this client has set is
 * set again after every reconnect. Made by `client.channel` and `client.presence`.
 */
declare class Channel<R extends object = Row> extends Collection<R> {
    #private;
    /** How many rows there are; more than `size` when presence has too many to list them. */
    get count(): number;
    /** Sets a row of this client's: key has the key columns, as far as they have no default, value the others. In presence there is no key. */
    set(value: Partial<R>, key?: Partial<R>): void;
    /** Takes it away. */
    clear(key?: Partial<R>): void;
    /** Calls f when the server refused what was set. The answer stops it. */
    onProblem(f: (p: Problem) => void): () => void;
    /** Takes away what this client set, and ends the subscription. */
    close(): void;
}
/** What the pulse chip of a page shows. */
interface Pulse {
    /** Median delay from the log's stamp to the painted frame, in ms, over the last 60 s; NaN without samples. */
    p50: number;
    /** 99th percentile of the same. */
    p99: number;
    /** How many delays these are taken from: at most 512. */
    samples: number;
    /** Changes per second over the last 5 s, all subscriptions together. */
    rate: number;
    /** Server's clock less ours, in ms. */
    offset: number;
    /** Shortest recent round trip to the server, in ms; NaN before the first. */
    rtt: number;
}
/** How a write is to be done. */
interface WriteOptions {
    /** Idempotency key: the same key and content have one effect. Default: a random one per call. */
    key?: string;
    /** For a key that exists in a keyed table: `merge` replaces the given columns, `ignore` keeps the row. Default: conflict. */
    onConflict?: 'merge' | 'ignore';
    /** `applied` (default): the outcome is final. `logged`: durable, refusals come later in `laaster.rejected`. */
    ack?: 'applied' | 'logged';
    /** All rows or none. Default: each row for itself. */
    atomic?: boolean;
    /** When to give up, in ms. Default 30,000; writes that are queued (`offline`) wait as long as it takes. */
    timeout?: number;
    /**
     * Shows the write before the server has decided: in the collections of its own table, or as given. The rows are replaced by
     * the truth at the position of the write, and taken back when it is refused. Default false.
     */
    optimistic?: boolean | readonly Expected[];
    /** False: is not queued although the client is `offline`. */
    queue?: boolean;
    /**
     * The rows carry primary keys and the table keeps its rows, so that a repeat has no effect however late it comes. Without it,
     * a queued write whose first sending was never answered is given up when the server may have forgotten its key.
     */
    repeatable?: boolean;
}
/** What became of a write. */
interface WriteResult {
    /** Where in the log it is. */
    position: string;
    /** False with `ack: 'logged'`: durable, not yet decided. */
    final: boolean;
    /** What the answer promises: `durable`, `buffered` or `memory`. */
    ack?: string;
    accepted: number;
    /** Rows that were there before: no effect. */
    duplicates: number;
    /** Rows that were refused, each with its place in the request. */
    rejected: {
        index: number;
        problem: Problem;
    }[];
    /** The idempotency key that was used. */
    key: string;
}
/** How writes wait for the server: `connect(url, { offline: … })`. */
interface OfflineOptions {
    /** Whose queue it is: pages with the same name send each other's writes after a reload. Default: the server's origin. */
    name?: string;
    /** Most writes that wait; more are refused with `queue_full`. Default 1,000. */
    limit?: number;
}
/** A write that waits. */
interface QueuedWrite {
    table: string;
    /** Its idempotency key. */
    key: string;
    /** When it was made, Unix ms. */
    at: number;
    /** Whether it is under way. */
    sending: boolean;
}
/** What became of a queued write, also of one that an earlier page queued: that one is told as `queued` when it is found. */
type QueueEvent = {
    type: 'queued';
    table: string;
    key: string;
} | {
    type: 'done';
    table: string;
    key: string;
    result: WriteResult;
} | {
    type: 'refused';
    table: string;
    key: string;
    problem: Problem;
};
/** Version of the SDK. */
declare const version = "0.1.0";
/** The state of a connection. Times are Unix ms of the local clock; docs/sdk.md has the transitions. */
type State = {
    name: 'connecting';
    attempt: number;
    retryAt: number;
    reason?: Problem | undefined;
} | {
    name: 'catching_up';
    since: number;
} | {
    name: 'live';
    since: number;
} | {
    name: 'stale';
    since: number;
    attempt: number;
    retryAt: number;
    reason?: Problem | undefined;
} | {
    name: 'closed';
    reason?: Problem;
};
/** One applied frame of changes. */
interface EpochEvent {
    position: string;
    /** The log's time in ms (server's clock). */
    at: number;
    /** The collections that changed. */
    changed: Collection[];
}
/** What an app has, by name: `laaster schema export --format typescript` prints it. `connect<Schema>()` then knows every row. */
interface AnySchema {
    /** Rows as they are read. */
    views: object;
    /** Rows as they are written. */
    tables: object;
    /** Rows of channels and presence. */
    channels?: object;
}
/** A schema of which nothing is known. */
interface Untyped {
    views: Record<string, Row>;
    tables: Record<string, Row>;
    channels: Record<string, Row>;
}
/** The names in one part of a schema. */
type Names<T> = keyof T & string;
/** The rows of one name. */
type RowOf<T, N> = N extends keyof T ? (T[N] extends object ? T[N] : never) : Row;
/** How to connect. Every field may be left out. */
interface ConnectOptions {
    /** Who asks, for the server's log: `name/version`. */
    client?: string;
    /**
     * A bearer token, or a function that gets one. The function is asked for every connection, when the server says that a token
     * has expired, and shortly before a JWT does. Sent in frames and headers, never in the URL.
     */
    token?: string | (() => string | Promise<string>);
    /** Most frames per second that this client wants; the server merges epochs instead. */
    rate?: number;
    /** Every epoch in a frame of its own, nothing merged. Not together with `rate`. */
    every?: boolean;
    /** Big integers and numerics as strings. */
    exact?: boolean;
    /** `auto` (default): a WebSocket, and streams of events with plain requests where it does not get through. */
    transport?: 'auto' | 'websocket' | 'sse';
    /** Queues writes until the server has answered them, over reloads where there is IndexedDB. Default: writes fail after their timeout. */
    offline?: boolean | OfflineOptions;
    /** `auto` (default): an epoch counts as shown after the next painted frame. `manual`: when the page calls `shown()`. */
    shown?: 'auto' | 'manual';
    /** The WebSocket class, where there is none built in (Node before 22: the package `ws`). */
    WebSocket?: new (url: string, protocol: string) => SocketLike;
    /** For tests: timers, sockets and the rest. */
    environment?: Partial<Environment>;
}
/** A connection to one Laaster: live collections and writes. Made by `connect`. */
declare class Client<S extends AnySchema = Untyped> {
    #private;
    get state(): State;
    /** Calls f when `state` changed. The answer stops it. */
    onState(f: (state: State) => void): () => void;
    /** Calls f once per applied epoch that changed a row, after the listeners of the collections. The answer stops it. */
    onEpoch(f: (epoch: EpochEvent) => void): () => void;
    /** How the server is reached just now. */
    get transport(): 'websocket' | 'sse';
    /** What others see of this client in the column `connection` of presence, once it is known. */
    get connection(): string | undefined;
    /** With `offline`: the writes that have no answer yet, in order. */
    get queue(): readonly QueuedWrite[];
    /** Whether waiting writes survive a reload. */
    get durable(): boolean;
    /** Calls f when a write was queued, is done or was refused, also one of an earlier page. The answer stops it. */
    onQueue(f: (e: QueueEvent) => void): () => void;
    /** A live copy of a view or table. Wrong names and filters show as `refused`, since only the server can tell. */
    subscribe<V extends Names<S['views']>>(view: V, options?: SubscribeOptions<RowOf<S['views'], V>>): Collection<RowOf<S['views'], V>>;
    subscribe<R extends object = Row>(view: string extends Names<S['views']> ? string : never, options?: SubscribeOptions<R>): Collection<R>;
    /** The rows of a channel, and the way to set them. */
    channel<V extends Names<S['channels']>>(name: V, options?: SubscribeOptions<RowOf<S['channels'], V>>): Channel<RowOf<S['channels'], V>>;
    channel<R extends object = Row>(name: string extends Names<S['channels']> ? string : never, options?: SubscribeOptions<R>): Channel<R>;
    /** Who is there: joins with these fields, and follows the others. `set` changes the fields, `close` leaves. */
    presence<V extends Names<S['channels']>>(name: V, fields?: Partial<RowOf<S['channels'], V>>, options?: SubscribeOptions<RowOf<S['channels'], V>>): Channel<RowOf<S['channels'], V>>;
    presence<R extends object = Row>(name: string extends Names<S['channels']> ? string : never, fields?: Partial<R>, options?: SubscribeOptions<R>): Channel<R>;
    /** Appends one row. Rejects with the row's Problem when it is refused. */
    insert<T extends Names<S['tables']>>(table: T, row: RowOf<S['tables'], T>, options?: WriteOptions): Promise<WriteResult>;
    /** Appends rows, each for itself unless `atomic`. Resolves with the refused ones listed. */
    insertMany<T extends Names<S['tables']>>(table: T, rows: readonly RowOf<S['tables'], T>[], options?: WriteOptions): Promise<WriteResult>;
    /** Sets the columns of patch in every row of a keyed table that the filter finds. */
    update<T extends Names<S['tables']>>(table: T, filter: string | Record<string, string>, patch: Partial<RowOf<S['tables'], T>>, options?: WriteOptions): Promise<WriteResult>;
    /** Deletes every row of a keyed table that the filter finds. */
    delete(table: Names<S['tables']>, filter: string | Record<string, string>, options?: WriteOptions): Promise<WriteResult>;
    /** The server's time in ms, as far as it is known. */
    now(): number;
    /** Delay, rate and clock, for the pulse chip. */
    pulse(): Pulse;
    /** With `shown: 'manual'`: what arrived until now is on the screen. */
    shown(): void;
    /** Uses another token from now on, on the open connection too. */
    setToken(token: string): void;
    /** Ends everything: subscriptions keep their rows, waiting writes reject; queued ones stay for the next client. Again: no effect. */
    close(): void;
}
/**
 * Connects to a Laaster at url (`https://host[:port]`, or '' for the page's own origin) and keeps reconnecting until `close()`.
 * With a schema, `connect<Schema>()`, names and rows are checked by the compiler.
 */
declare function connect<S extends AnySchema = Untyped>(url?: string, options?: ConnectOptions): Client<S>;
export { Channel };
export { connect, Client, version };
export type { AnySchema, ConnectOptions, EpochEvent, Names, RowOf, State, Untyped };
export { Collection };
export type { Change, Freshness, Row, RowChange, SubscribeOptions };
export type { Environment, SocketLike };
export type { Expected };
export type { Compare };
export { Problem };
export type { Code };
export type { Pulse };
export type { OfflineOptions, QueuedWrite, QueueEvent };
export type { WriteOptions, WriteResult };
