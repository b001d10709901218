// Votes per second as bars: one for each of the last thirty seconds, stacked by feed.

/** One second of the view pace. */
export interface Second {
  second: string
  votes: number
  jury: number
  phone: number
  room: number
}

const SPAN = 30
const FEEDS = ['jury', 'phone', 'room'] as const

/** The votes of the seconds now - 30 … now - 1, oldest first, and of the second that is running. */
export function lastSeconds(rows: readonly Second[], now: number): { seconds: (Second | undefined)[]; running: number; busiest: number } {
  const seconds: (Second | undefined)[] = Array.from({ length: SPAN })
  const current = Math.floor(now / 1000)
  let running = 0
  let busiest = 0
  for (const row of rows) {
    const age = current - Math.round(Date.parse(row.second) / 1000)
    if (age === 0) running = row.votes
    if (age < 1 || age > SPAN) continue
    seconds[SPAN - age] = row
    busiest = Math.max(busiest, row.votes)
  }
  return { seconds, running, busiest }
}

export class Chart {
  #paths: SVGPathElement[]

  /** With feeds one colour for each, else one for all. */
  constructor(svg: SVGSVGElement, readonly feeds: boolean) {
    const ns = 'http://www.w3.org/2000/svg'
    const base = svg.appendChild(document.createElementNS(ns, 'line'))
    for (const [name, value] of Object.entries({ x1: 0, x2: SPAN, y1: 10, y2: 10 })) base.setAttribute(name, String(value))
    this.#paths = (feeds ? FEEDS : ['all']).map((name) => {
      const path = svg.appendChild(document.createElementNS(ns, 'path'))
      path.setAttribute('class', name)
      return path
    })
  }

  /** Draws the seconds against a scale whose top is `top` votes. */
  draw(seconds: (Second | undefined)[], top: number): void {
    const d = this.#paths.map(() => '')
    seconds.forEach((s, x) => {
      if (!s) return
      let y = 10
      this.#paths.forEach((_, i) => {
        const votes = this.feeds ? s[FEEDS[i]!] : s.votes
        if (!votes) return
        const height = Math.max(0.25, (votes / top) * 10)
        y -= height
        d[i] += `M${x + 0.1} ${(y + height).toFixed(2)}v-${height.toFixed(2)}h.8v${height.toFixed(2)}z`
      })
    })
    this.#paths.forEach((path, i) => path.getAttribute('d') === d[i] || path.setAttribute('d', d[i]!))
  }
}

/** A round figure at or above n, for the top of a scale: 10, 20, 50, 100 … */
export function roundTop(n: number): number {
  for (let top = 10; ; top *= 10) for (const f of [1, 2, 5]) if (n <= top * f) return top * f
}
