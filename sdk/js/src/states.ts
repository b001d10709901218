/** The names of a connection's states. docs/sdk.md says what they mean. @internal */
export type StateName = 'connecting' | 'catching_up' | 'live' | 'stale' | 'closed'

/** What moves a connection from state to state. @internal */
export type StateEvent = 'failed' | 'lost' | 'behind' | 'complete' | 'stalled' | 'refused' | 'close'

const connected = { behind: 'catching_up', complete: 'live', stalled: 'stale' } as const
const end = { refused: 'closed', close: 'closed' } as const

/**
 * Every transition of the connection: the same table as in docs/sdk.md, which a test compares. An event that a state does not
 * list cannot come there.
 * @internal
 */
export const transitions: Record<StateName, Partial<Record<StateEvent, StateName>>> = {
  connecting: { failed: 'connecting', ...connected, ...end },
  catching_up: { lost: 'stale', ...connected, ...end },
  live: { lost: 'stale', ...connected, ...end },
  stale: { failed: 'stale', lost: 'stale', ...connected, ...end },
  closed: {},
}

/** Every time that the SDK waits or counts, in ms: the same table as in docs/sdk.md. @internal */
export const timers = {
  back_off_base: 250,
  back_off_cap: 10_000,
  calm: 5_000,
  welcome: 10_000,
  ping_quiet: 10_000,
  dead_quiet: 25_000,
  pong_wait: 5_000,
  tick: 2_500,
  token_ahead: 30_000,
  signal_again: 4_000,
  write_timeout: 30_000,
  write_again: 500,
  window: 600_000,
  seen_every: 5_000,
  delay_window: 60_000,
  rate_window: 5_000,
}
