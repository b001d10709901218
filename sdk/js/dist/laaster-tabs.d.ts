/*! laaster 0.1.0 | Apache-2.0 */
/** The codes of this server's errors, see docs/errors.md. A newer server may send others. */
type ServerCode = 'invalid_json' | 'invalid_row' | 'invalid_request' | 'unknown_table' | 'unknown_view' | 'unknown_column' | 'not_found' | 'bad_filter' | 'duplicate' | 'conflict' | 'sequence_gap' | 'constraint' | 'unauthenticated' | 'token_expired' | 'forbidden' | 'rate_limited' | 'busy' | 'unresolved' | 'not_yet' | 'too_large' | 'too_many' | 'slow_consumer' | 'gap' | 'draining' | 'storage_damaged' | 'not_supported' | 'internal';
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
type SocketClass = new (url: string, protocol: string) => SocketLike;
/** How tabs share a connection. */
export interface TabsOptions {
    /** Who shares: tabs with the same name and server. Put the user into it, since all of them write with one token. Default: ''. */
    name?: string;
    /** The class of the one real socket. Default: the browser's. */
    WebSocket?: SocketClass;
    /** For tests. Default: the browser's. */
    locks?: Pick<LockManager, 'request'>;
    /** For tests. Default: the browser's. */
    BroadcastChannel?: new (name: string) => BusLike;
}
/** The part of a BroadcastChannel that is used. */
export interface BusLike {
    onmessage: {
        on(e: {
            data: unknown;
        }): unknown;
    }['on'] | null;
    postMessage(m: unknown): void;
    close(): void;
}
/**
 * A class to be used in place of WebSocket, `connect(url, { WebSocket: sharedSocket() })`: the sockets of all tabs of one browser that
 * use it are one connection. One tab leads and holds it, the others follow over a BroadcastChannel; when the leading tab closes,
 * another takes over (the browser's locks decide) and everybody resumes there. Each tab has its own subscriptions and hears of
 * nobody else's. Where the browser lacks locks or channels, the answer is its WebSocket.
 */
export declare function sharedSocket(options?: TabsOptions): SocketClass;
export {};
