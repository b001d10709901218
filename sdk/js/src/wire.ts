// Generated from internal/wire: go test ./internal/wire -run Generated -update. Do not edit.

/** One row: column names to JSON values. */
export type WireRow = Record<string, unknown>

/** The codes of this server's errors, see docs/errors.md. A newer server may send others. */
export type ServerCode =
  | 'invalid_json'
  | 'invalid_row'
  | 'invalid_request'
  | 'unknown_table'
  | 'unknown_view'
  | 'unknown_column'
  | 'not_found'
  | 'bad_filter'
  | 'duplicate'
  | 'conflict'
  | 'sequence_gap'
  | 'constraint'
  | 'unauthenticated'
  | 'token_expired'
  | 'forbidden'
  | 'rate_limited'
  | 'busy'
  | 'unresolved'
  | 'not_yet'
  | 'too_large'
  | 'too_many'
  | 'slow_consumer'
  | 'gap'
  | 'draining'
  | 'storage_damaged'
  | 'not_supported'
  | 'internal'

/** ClientName names the program that connects. */
export interface ClientName {
  name: string
  version: string
}

/** SubscribeRequest asks for the rows of a view and then for every change of them. */
export interface SubscribeRequest {
  /** chosen by the client, unique on the connection, at most 64 bytes */
  id: string
  /** a view, or a table that may be read */
  view: string
  /** PostgREST query string, such as `votes=gt.10&or=(a.eq.1,b.is.null)` */
  filter?: string
  /** columns, comma-separated; key columns always travel */
  select?: string
  /** with limit, what the first rows are; otherwise checked and the client's business: a live set of rows has no order */
  order?: string
  /** only the first rows, at most 1000; rows enter and leave */
  limit?: number
  /** with limit: without so many before them, at most 10000 */
  offset?: number
  /** position to go on from; null: no complete state here; left out: `hello.resume` */
  from?: string | null
}

/** WireLimits is what one connection may do. */
export interface WireLimits {
  /** size of a frame from the client */
  frame_bytes: number
  /** at one time */
  subscriptions: number
  /** not answered yet; more are refused with busy */
  writes_in_flight: number
  /** size of a row */
  row_bytes: number
  /** a quiet connection gets an empty epoch this often */
  heartbeat_seconds: number
  /** size of a row of a channel; left out: the app has no channels */
  signal_bytes?: number
  /** of one connection, for long; more wait, the newest of each key */
  signals_per_second?: number
  /** idempotency keys are remembered for so long: a repeat that comes later may have a second effect */
  dedupe_seconds?: number
}

/** WireChanges is what changed in one subscription. A key appears once per frame. */
export interface WireChanges {
  /** whole rows (of the selected columns), new or replacing */
  put?: WireRow[]
  /** keys of rows that left: values in the order of the snapshot's key */
  del?: unknown[][]
}

/** WireResult answers a write on every transport: the body of the HTTP answer, the fields of a result frame. */
export interface WireResult {
  /** where the write is in the history; reads with _after=<position> see it */
  position: string
  /** false with _ack=logged: durable, the outcome of each row is not known yet */
  final: boolean
  /** what the answer promises: durable, buffered or memory */
  ack?: string
  /** rows that took effect; with Final false, rows that were logged */
  accepted: number
  /** rows recognised as seen before: no effect */
  duplicates: number
  /** rows refused, ascending by index; never null */
  rejected: WireRejected[]
}

/** WireRejected is one refused row of a request. */
export interface WireRejected {
  /** of the row in the request, from 0 */
  index: number
  error: WireProblem
}

/** WireProblem is the one shape of an error on every transport: application/problem+json (RFC 9457) over HTTP, the same object under "error" in a frame. It implements error. */
export interface WireProblem {
  /** "/errors/<code>" */
  type?: string
  /** the code in words */
  title?: string
  /** HTTP status */
  status?: number
  code: string
  /** what is wrong here */
  detail?: string
  /** the column, parameter or member to blame */
  field?: string
  /** what to do about it */
  hint?: string
  retry?: 'no' | 'after'
  /** with Retry "after" */
  retry_after_ms?: number
  /** of a sequence_gap: the number to send next */
  expected?: number
  /** the request id that is in the log line */
  request?: string
}

/** HelloFrame opens the conversation: the first frame of every connection, once. */
export interface HelloFrame {
  type: 'hello'
  /** whom the connection speaks for; left out: anon, or whom the request's header said */
  token?: string
  /** for the server's log */
  client?: ClientName
  /** position: the default `from` of every subscription of this frame */
  resume?: string
  /** all start at one position */
  subscribe?: SubscribeRequest[]
  /** most epoch frames per second that this connection wants, from 0.01; 0: no limit */
  rate?: number
  /** a frame for each epoch, as long as the client keeps up; not with rate */
  every?: boolean
  /** bigint beyond 2^53 and numeric as strings */
  exact?: boolean
  /** a secret of 16 to 64 bytes that the client made up and keeps over reconnects: it stays the same member of presence */
  instance?: string
}

/** SubscribeFrame adds one subscription to a live connection. */
export interface SubscribeFrame extends SubscribeRequest {
  type: 'subscribe'
}

/** UnsubscribeFrame ends a subscription. Nothing answers; frames that are on their way may still name the id. */
export interface UnsubscribeFrame {
  type: 'unsubscribe'
  id: string
}

/** WriteFrame inserts rows, or changes or deletes the rows that a filter selects: exactly one of rows, patch and delete. Writes of one connection take effect in the order in which they were sent. */
export interface WriteFrame {
  type: 'write'
  /** names the answer */
  id: string
  table: string
  /** one row or an array of rows */
  rows?: WireRow | WireRow[]
  /** columns to replace, with filter */
  patch?: WireRow
  /** true: delete, with filter */
  delete?: boolean
  /** PostgREST query string */
  filter?: string
  /** idempotency key of the whole request */
  key?: string
  /** all rows or none */
  atomic?: boolean
  /** "merge" or "ignore" */
  on_conflict?: 'merge' | 'ignore'
  /** "applied" (default) or "logged" */
  ack?: 'applied' | 'logged'
  /** with sequence, in place of key: who numbers its writes */
  producer?: string
  /** number of this write: 1, 2, 3, … of its producer and table */
  sequence?: number
}

/** CallFrame invokes a command. Not supported yet. */
export interface CallFrame {
  type: 'call'
  id: string
  command: string
  args?: unknown
  key?: string
}

/** SignalFrame sets or clears (null) one row of a channel or of presence. Nothing answers but an error. */
export interface SignalFrame {
  type: 'signal'
  /** names an error; may be used again */
  id: string
  /** the channel */
  table: string
  /** its key columns; those with a DEFAULT may be left out, and so may the whole when the connection is the key */
  key?: WireRow
  /** its other columns; null: clear */
  value: WireRow | null
}

/** TokenFrame renews the token of a connection: another token of the same subject. Subscriptions go on, seeing what the new one allows. A token that is not believed is answered with an error and changes nothing; one of another subject ends the connection, to be opened anew. */
export interface TokenFrame {
  type: 'token'
  token: string
}

/** PingFrame asks for a pong at once: for round trips and for aligning clocks. */
export interface PingFrame {
  type: 'ping'
  /** the client's clock in ms, comes back unchanged */
  t: number
}

/** SeenFrame reports how long the way of one epoch to the screen took. The server adds it to a histogram. */
export interface SeenFrame {
  type: 'seen'
  position: string
  /** ms from the epoch's `at` to the painted frame, on the aligned clock */
  shown_ms: number
}

/** WelcomeFrame answers hello. */
export interface WelcomeFrame {
  type: 'welcome'
  /** names the connection in the server's log */
  session: string
  /** the server's clock, ms since 1970 UTC */
  now: number
  /** the log that positions belong to */
  log: string
  limits: WireLimits
  /** what others see of the client in the column connection; left out: the app has no channels */
  connection?: string
}

/** SnapshotFrame is a page of the rows of a subscription, all pages at one position. The rows are complete when more is false. */
export interface SnapshotFrame {
  type: 'snapshot'
  id: string
  position: string
  /** names of the key columns; empty: the view always has exactly one row */
  key: string[]
  /** in the order of the key */
  rows: WireRow[]
  more: boolean
}

/** ResumedFrame says that nothing was missed: the rows that the client has at this position are right, and changes follow. */
export interface ResumedFrame {
  type: 'resumed'
  id: string
  position: string
  /** as in a snapshot */
  key?: string[]
}

/** GapFrame says that the history after the client's position is gone. A snapshot follows. */
export interface GapFrame {
  type: 'gap'
  id: string
  /** the oldest position that could have been resumed */
  kept_from: string
}

/** EpochFrame is what changed since the previous position, in all subscriptions of the connection together. Apply it whole. */
export interface EpochFrame {
  type: 'epoch'
  /** the rows of every complete subscription are now those of this position */
  position: string
  /** several epochs merged: they began here, at or before the client's position; left out: one epoch */
  from?: string
  /** the log's time of position, ms since 1970 UTC with microseconds */
  at: number
  /** by subscription id; those without changes are left out */
  changes: Record<string, WireChanges>
}

/** SignalsFrame is what changed in a subscription of a channel or of presence: the newest value of each key. It is outside of the positions. */
export interface SignalsFrame {
  type: 'signals'
  id: string
  /** forget the rows before: what this frame and those up to the first without more put is all there is */
  full?: boolean
  /** with full: names of the key columns */
  key?: string[]
  /** whole rows (of the selected columns), new or replacing */
  put?: WireRow[]
  /** keys of rows that left: values in the order of key; a key that the client does not have is none of its business */
  del?: unknown[][]
  /** so many rows are there, too many to list: only their number is told until the next full without a count */
  count?: number
  /** the rest follows */
  more?: boolean
}

/** ResultFrame answers a write that was carried out, at least in part. Refused rows are listed; a write refused as a whole is answered with an error. */
export interface ResultFrame extends WireResult {
  type: 'result'
  id: string
}

/** FreshnessFrame says how far what the client sees can be trusted to be current. */
export interface FreshnessFrame {
  type: 'freshness'
  /** left out: everything on this connection */
  id?: string
  /** live, catching_up or stale */
  state: 'live' | 'catching_up' | 'stale'
  /** ms since 1970 UTC */
  since: number
  /** of one view that stands still: why; its rows are the last good ones */
  reason?: string
}

/** ErrorFrame answers a frame that was refused. Without an id it concerns the connection, and a goodbye may follow. */
export interface ErrorFrame {
  type: 'error'
  /** of the subscription or write */
  id?: string
  error: WireProblem
}

/** GoodbyeFrame is the last frame before the server closes the connection. */
export interface GoodbyeFrame {
  type: 'goodbye'
  code: string
  reason: string
  /** wait this long before connecting again; spread over clients */
  retry_after_ms: number
}

/** PongFrame answers a ping. */
export interface PongFrame {
  type: 'pong'
  /** as it came */
  t: number
  /** the server's clock, ms since 1970 UTC */
  now: number
}

/** Frames from the client. */
export type ClientFrame =
  | HelloFrame
  | SubscribeFrame
  | UnsubscribeFrame
  | WriteFrame
  | CallFrame
  | SignalFrame
  | TokenFrame
  | PingFrame
  | SeenFrame

/** Frames from the server. */
export type ServerFrame =
  | WelcomeFrame
  | SnapshotFrame
  | ResumedFrame
  | GapFrame
  | EpochFrame
  | SignalsFrame
  | ResultFrame
  | FreshnessFrame
  | ErrorFrame
  | GoodbyeFrame
  | PongFrame

/** What a write asks for. */
export type WriteRequest = Omit<WriteFrame, 'type' | 'id'>
