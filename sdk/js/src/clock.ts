/** Aligns the local clock with the server's by round trips; right within half of the shortest recent one. @internal */
export class Alignment {
  #samples: { rtt: number; offset: number }[] = []
  #best: { rtt: number; offset: number } | undefined

  /** One round trip: sent and received by the local clock, the server's clock somewhere between. */
  add(sent: number, received: number, server: number): void {
    this.#samples.push({ rtt: received - sent, offset: server - (sent + received) / 2 })
    if (this.#samples.length > 16) this.#samples.shift()
    this.#best = this.#samples.reduce((a, b) => (b.rtt <= a.rtt ? b : a))
  }

  /** Forgets the samples but keeps the estimate: after a pause the local clock may have moved. */
  restart(): void {
    this.#samples = []
  }

  /** Server's time less local time, in ms; 0 before the first sample. */
  get offset(): number {
    return this.#best?.offset ?? 0
  }

  /** The shortest recent round trip in ms; NaN before the first sample. */
  get rtt(): number {
    return this.#best?.rtt ?? NaN
  }
}
