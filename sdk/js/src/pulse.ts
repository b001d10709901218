import { timers } from './states.ts'

/** What the pulse chip of a page shows. */
export interface Pulse {
  /** Median delay from the log's stamp to the painted frame, in ms, over the last 60 s; NaN without samples. */
  p50: number
  /** 99th percentile of the same. */
  p99: number
  /** How many delays these are taken from: at most 512. */
  samples: number
  /** Changes per second over the last 5 s, all subscriptions together. */
  rate: number
  /** Server's clock less ours, in ms. */
  offset: number
  /** Shortest recent round trip to the server, in ms; NaN before the first. */
  rtt: number
}

const DELAYS = 512

/** Keeps recent delays and counts changes. @internal */
export class Meter {
  #delays: { t: number; ms: number }[] = []
  #counts: { t: number; n: number }[] = []
  #draw: { position: string; ms: number } | undefined
  #drawn = 0
  #reported = 0

  /** n changes arrived. */
  count(now: number, n: number): void {
    const last = this.#counts.at(-1)
    if (last && now - last.t < 100) last.n += n
    else this.#counts.push({ t: now, n })
    while (this.#counts[0] && now - this.#counts[0].t > timers.rate_window) this.#counts.shift()
  }

  /** The epoch at position was on the screen ms after its stamp. */
  delay(now: number, position: string, ms: number, random: number): void {
    this.#delays.push({ t: now, ms })
    if (this.#delays.length > DELAYS) this.#delays.shift()
    if (random * ++this.#drawn < 1) this.#draw = { position, ms } // each of the n so far with probability 1/n
  }

  /** One delay to report, drawn from those since the last report, or nothing. */
  report(now: number): { position: string; ms: number } | undefined {
    if (!this.#draw || now - this.#reported < timers.seen_every) return undefined
    const drawn = this.#draw
    this.#draw = undefined
    this.#drawn = 0
    this.#reported = now
    return drawn
  }

  read(now: number): Pick<Pulse, 'p50' | 'p99' | 'samples' | 'rate'> {
    const ms = this.#delays.filter((d) => now - d.t <= timers.delay_window).map((d) => d.ms).sort((a, b) => a - b)
    const at = (q: number) => ms[Math.max(0, Math.ceil(q * ms.length) - 1)] ?? NaN
    let n = 0
    for (const c of this.#counts) if (now - c.t <= timers.rate_window) n += c.n
    return { p50: at(0.5), p99: at(0.99), samples: ms.length, rate: (n * 1000) / timers.rate_window }
  }
}
