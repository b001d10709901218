import { timers } from './states.ts'

/** Exponential back-off with full jitter: how long to wait before attempt n (from 0), in ms. base is the server's, when it names one. @internal */
export const delay = (n: number, random: number, base: number = timers.back_off_base): number =>
  random * Math.min(Math.max(timers.back_off_cap, base), base * 2 ** Math.min(n, 16))
