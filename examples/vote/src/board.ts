// The board: rows that keep their identity, glide to their rank and never move under a finger.

import { nameOf, showFlag } from './names.ts'
import { Count, moves, say } from './paint.ts'

/** What one row shows. */
export interface Standing {
  country: string
  total: number
  jury: number
  phone: number
  room: number
}

/** The board orders by official points, or by what the room likes. */
export type Order = 'total' | 'room'

const RANK_EVERY = 400 // between two changes of the order, in ms

interface Row {
  el: HTMLLIElement
  rank: Element
  total: Count
  room: Count | undefined
  jury: HTMLElement
  phone: HTMLElement
  glide?: Animation
}

const byTotal = (a: Standing, b: Standing) => b.total - a.total || b.phone - a.phone || (nameOf(a.country) < nameOf(b.country) ? -1 : 1)
const byRoom = (a: Standing, b: Standing) => b.room - a.room || byTotal(a, b)

/** Sorts standings. Ties by total go to who has more from the phones. */
export const ranked = (all: Standing[], order: Order): Standing[] => all.sort(order === 'room' ? byRoom : byTotal)

/** The full length of the bars: round figures, so that the scale does not creep. */
export function scale(max: number): number {
  for (const step of [24, 48, 96, 150, 250, 350, 500, 700, 1000]) if (max <= step) return step
  return 10 ** Math.ceil(Math.log10(max))
}

export class Board {
  #list: HTMLElement
  #rows = new Map<string, Row>()
  #held = false
  #ordered = -RANK_EVERY
  #onVote: ((country: string, button: HTMLButtonElement) => void) | undefined

  constructor(list: HTMLElement, onVote?: (country: string, button: HTMLButtonElement) => void) {
    this.#list = list
    this.#onVote = onVote
    list.addEventListener('pointerdown', () => (this.#held = true))
    for (const up of ['pointerup', 'pointercancel']) addEventListener(up, () => (this.#held = false))
  }

  /** Draws the standings, first ones first; the answer says whether another paint is needed. */
  draw(standings: Standing[], order: Order): boolean {
    let again = false
    const shown = new Set<string>()
    const full = scale(Math.max(1, ...standings.map((s) => (order === 'room' ? s.room : s.total))))
    standings.forEach((s, i) => {
      shown.add(s.country)
      const row = this.#rows.get(s.country) ?? this.#add(s.country)
      again = row.total.show(order === 'room' && !row.room ? s.room : s.total) || again
      if (row.room) again = row.room.show(s.room) || again
      row.jury.style.setProperty('--to', String((order === 'room' ? s.room : s.jury) / full))
      row.jury.classList.toggle('of-room', order === 'room')
      row.phone.style.setProperty('--to', String(order === 'room' ? 0 : (s.jury + s.phone) / full))
      row.el.setAttribute('aria-label', `${i + 1}. ${nameOf(s.country)}, ${s.total} points: ${s.jury} jury, ${s.phone} phone; room ${s.room}`)
    })
    for (const [country, row] of this.#rows) {
      if (shown.has(country)) continue
      row.el.remove()
      this.#rows.delete(country)
    }
    return this.#arrange(standings) || again
  }

  /** The rows in their order, each gliding from where it is seen now. Not while a finger is down; not too often. */
  #arrange(standings: Standing[]): boolean {
    const want = standings.map((s) => this.#rows.get(s.country)!)
    this.#list.style.setProperty('--half', String(Math.ceil(want.length / 2)))
    const number = () => want.forEach((row, i) => say(row.rank, String(i + 1))) // what is read beside a row is where it stands
    if (want.every((row, i) => this.#list.children[i] === row.el)) {
      number()
      return false
    }
    const now = performance.now()
    if (this.#held || now - this.#ordered < RANK_EVERY) return true
    this.#ordered = now
    const before = want.map((row) => row.el.getBoundingClientRect())
    for (const row of want) row.glide?.cancel()
    number()
    want.forEach((row, i) => {
      if (this.#list.children[i] !== row.el) place(this.#list, row.el, this.#list.children[i] ?? null)
    })
    if (!moves()) return false
    const after = want.map((row) => row.el.getBoundingClientRect())
    want.forEach((row, i) => {
      const dx = before[i]!.left - after[i]!.left
      const dy = before[i]!.top - after[i]!.top
      if (!before[i]!.width || (Math.abs(dx) < 1 && Math.abs(dy) < 1)) return
      row.glide = row.el.animate([{ transform: `translate(${dx}px, ${dy}px)` }, { transform: 'none' }], {
        duration: 450,
        easing: 'cubic-bezier(0.2, 0.7, 0.2, 1)',
      })
    })
    return false
  }

  #add(country: string): Row {
    const el = document.createElement('li')
    el.className = 'row new'
    el.dataset['country'] = country
    el.addEventListener('animationend', () => el.classList.remove('new'))
    const part = (tag: string, name: string, into: Element = el): HTMLElement => {
      const p = document.createElement(tag)
      p.className = name
      return into.appendChild(p)
    }
    const rank = part('span', 'rank')
    const flag = part('span', 'flag')
    flag.ariaHidden = 'true'
    showFlag(flag, country)
    const middle = part('div', 'middle')
    middle.style.minInlineSize = '0'
    const name = part('div', 'name', middle)
    name.textContent = name.title = nameOf(country)
    const bar = part('div', 'bar', middle)
    bar.ariaHidden = 'true'
    const phone = part('i', 'phone', bar) // under the jury's part, and longer
    const jury = part('i', 'jury', bar)
    const total = new Count(part('span', 'total'))
    let room: Count | undefined
    if (this.#onVote) {
      const button = part('button', 'button vote') as HTMLButtonElement
      button.type = 'button'
      part('span', 'verb', button).textContent = 'Vote'
      part('span', 'only-heard', button).textContent = ` for ${nameOf(country)}`
      const mark = part('span', 'mark', button)
      mark.textContent = '♥'
      mark.ariaHidden = 'true'
      const number = part('span', 'room', button)
      number.ariaHidden = 'true' // the row's label says it
      room = new Count(number)
      button.addEventListener('click', () => this.#onVote!(country, button))
    }
    const row: Row = { el, rank, total, room, jury, phone }
    this.#rows.set(country, row)
    this.#list.append(el)
    return row
  }
}

/** Moves an element without losing the focus inside it, also in browsers without moveBefore. */
function place(list: Element & { moveBefore?: (el: Element, before: Element | null) => void }, el: Element, before: Element | null): void {
  if (list.moveBefore) return list.moveBefore(el, before)
  const focused = el.contains(document.activeElement) ? (document.activeElement as HTMLElement) : undefined
  list.insertBefore(el, before)
  focused?.focus({ preventScroll: true })
}
