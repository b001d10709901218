const BASE = 250
const CAP = 10_000

/** Exponential back-off with full jitter: how long to wait before attempt n (from 0), in ms. @internal */
export const delay = (n: number, random: number): number => random * Math.min(CAP, BASE * 2 ** Math.min(n, 16))
