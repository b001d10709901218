// Painting at the pace of people: at once after a quiet spell, and ten times a second at most.

const EVERY = 100 // ms for one more paint …
const BURST = 2 // … of which so many may be saved up
const STEP = 130 // from one step of a count to the next: later than the next tick of a steady flow

/**
 * Calls draw when asked to, at most ten times a second; asking again before it was called has no effect. draw answers whether it
 * wants to be called once more though nothing new came.
 */
export function painter(draw: () => boolean): () => void {
  let saved = BURST
  let counted = 0
  let asked = false
  let step = 0
  const run = () => {
    asked = false
    const now = performance.now()
    saved = Math.min(BURST, saved + (now - counted) / EVERY) - 1
    counted = now
    clearTimeout(step)
    step = draw() ? setTimeout(ask, STEP) : 0
  }
  const ask = () => {
    if (asked) return
    asked = true
    const wait = (1 - saved) * EVERY - (performance.now() - counted)
    if (wait > 0) setTimeout(() => requestAnimationFrame(run), wait)
    else requestAnimationFrame(run)
  }
  return ask
}

/** The element with this id. */
export function byId<E extends Element = HTMLElement>(id: string): E {
  const el = document.getElementById(id)
  if (!el) throw new Error(`the page has no #${id}`)
  return el as unknown as E
}

const grouped = new Intl.NumberFormat('en')

/** A figure with its digits grouped. */
export const figure = (n: number): string => grouped.format(n)

/** Sets the text if it differs, so that nothing is laid out for nothing. */
export function say(el: Element, text: string): void {
  if (el.textContent !== text) el.textContent = text
}

const calm = matchMedia('(prefers-reduced-motion: reduce)')

/** Whether things may move. */
export const moves = (): boolean => !calm.matches

/** A figure that counts to its new value in two steps, 200 ms in all. */
export class Count {
  #shown = NaN

  constructor(readonly el: Element) {}

  /** Shows value, or a step on the way; the answer says whether another paint is needed. */
  show(value: number): boolean {
    const jump = Number.isNaN(this.#shown) || !moves() || Math.abs(value - this.#shown) < 2
    const was = this.#shown
    this.#shown = jump ? value : Math.round((was + value) / 2)
    if (this.#shown !== was) this.el.textContent = figure(this.#shown)
    return this.#shown !== value
  }
}
