import type { ServerCode, WireProblem } from './wire.ts'

/** The stable name of an error: the server's (docs/errors.md), or one of the SDK's own four. */
export type Code = ServerCode | 'timeout' | 'unreachable' | 'closed' | 'queue_full'

/** Every error of the SDK. `message` is the detail in words. */
export class Problem extends Error {
  override readonly name = 'Problem'
  /** Decide by this. A newer server may send a code that is not in the type. */
  readonly code: Code
  /** HTTP status of the code; 0 for the SDK's own codes. */
  readonly status: number
  /** The column, parameter or member to blame, when there is one. */
  readonly field: string | undefined
  /** What to do about it. */
  readonly hint: string | undefined
  /** Whether the same request may succeed later. */
  readonly retry: 'no' | 'after'
  /** With retry `after`: how long to wait, in ms; undefined when the server did not say. */
  readonly retryAfterMs: number | undefined
  /** The request id that is in the server's log line. */
  readonly request: string | undefined
  /** For writes: the idempotency key. Repeating the write with it is safe. */
  key: string | undefined

  /** @internal */
  constructor(p: WireProblem) {
    super(p.detail || p.title || p.code)
    this.code = p.code as Code
    this.status = p.status ?? 0
    this.field = p.field
    this.hint = p.hint
    this.retry = p.retry === 'after' ? 'after' : 'no'
    this.retryAfterMs = p.retry_after_ms
    this.request = p.request
  }
}

/** @internal */
export const problem = (code: Code, detail: string, retry: 'no' | 'after' = 'no'): Problem => new Problem({ code, detail, retry })

/** The body of an HTTP answer. Throws when it is cut off, or good and not JSON: that is no answer. @internal */
export async function bodyOf<T>(res: Response): Promise<T> {
  const text = await res.text()
  try {
    return JSON.parse(text) as T
  } catch (err) {
    if (res.ok) throw err
    return {} as T // the page of a proxy
  }
}

/** The problem that an HTTP answer tells, also one of a proxy that knows nothing of ours. @internal */
export function refusal(res: Response, body: Partial<WireProblem>): WireProblem {
  const after = Number(res.headers.get('Retry-After')) * 1000
  return {
    title: `HTTP ${res.status}`,
    status: res.status,
    ...(after ? { retry_after_ms: after } : {}),
    code: res.status >= 500 ? 'internal' : 'invalid_request',
    retry: res.status === 429 || res.status >= 502 ? 'after' : 'no',
    ...body,
  }
}
