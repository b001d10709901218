// What both pages share: the connection, what is on the stage, the states of the page and the pulse chip.

import { connect, type Client, type Collection, type Problem } from '/laaster.js'
import type { Standing } from './board.ts'
import type { Second } from './chart.ts'
import { nameOf } from './names.ts'
import { byId, figure, painter, say } from './paint.ts'

/** The row of the table show. */
export interface Stage {
  id: string
  run: string
  year: number
  round: string
  phase: 'waiting' | 'jury' | 'phone' | 'ended'
  speed: number
  paused: boolean
  played_ms: number
  length_ms: number
}

/** A jury's twelve points. */
export interface Twelve {
  run: string
  from_country: string
  to_country: string
  at: string
}

/** What belongs to one run of a show. */
interface Run {
  name: string
  scoreboard: Collection<Standing & { run: string }>
  contestants: Collection<{ run: string; country: string }>
}

type Shown = 'loading' | 'empty' | 'live' | 'catching_up' | 'stale' | 'refused'

const HEARTBEAT = 10_000

export class Page {
  readonly client: Client
  readonly stage: Collection<Stage>
  readonly pace: Collection<Second>
  readonly twelves: Collection<Twelve>
  run: Run | undefined
  /** Asks for a paint. */
  readonly paint: () => void
  #all: Collection<never>[] = []
  #draw: () => boolean
  #problem: Problem | undefined
  #refusedView = ''
  #noteTimer = 0

  /** draw paints the page's own parts and says whether another paint is needed. */
  constructor(readonly name: string, draw: () => boolean) {
    this.#draw = draw
    this.paint = painter(() => this.#painted())
    this.client = connect('', { client: `vote-${name}/1`, shown: 'manual' })
    this.stage = this.follow('show', { filter: { id: 'eq.stage' } })
    this.pace = this.follow('pace', { order: 'second.desc' })
    this.twelves = this.follow('twelves', { order: 'at.desc,from_country' })
    this.stage.onChange(() => this.#follow())
    this.client.onState(this.paint)
    this.client.onEpoch(this.paint)
    setInterval(this.paint, 1000) // ages, and a chart that slides while nothing comes
    this.#presence()
  }

  /** Subscribes, and repaints when the freshness changes. */
  follow<R extends object>(view: string, options: Parameters<Client['subscribe']>[1]): Collection<R> {
    const c = this.client.subscribe<R>(view, options as never)
    this.#all.push(c as never)
    c.onFreshness((f) => {
      if (f.name === 'refused') {
        this.#problem = f.problem
        this.#refusedView = view
      }
      this.paint()
    })
    return c
  }

  /** What is on, if anything. */
  get now(): Stage | undefined {
    return this.stage.rows[0]
  }

  /** Subscribes to the run that is on the stage. */
  #follow(): void {
    const name = this.now?.run
    if (!name || this.run?.name === name) return
    for (const c of [this.run?.scoreboard, this.run?.contestants]) c?.close()
    this.#all = this.#all.filter((c) => c.freshness.name !== 'closed')
    const filter = { run: 'eq.' + name }
    this.run = { name, scoreboard: this.follow('scoreboard', { filter }), contestants: this.follow('contestants', { filter }) }
  }

  /** The server's time in ms; while the page is stale, when it became so: old figures do not move on. */
  time(): number {
    const { state } = this.client
    return state.name === 'stale' ? this.client.now() - (Date.now() - state.since) : this.client.now()
  }

  /** Every contestant with what it has so far. */
  standings(): Standing[] {
    const all = new Map<string, Standing>()
    for (const { country } of this.run?.contestants.rows ?? []) all.set(country, { country, total: 0, jury: 0, phone: 0, room: 0 })
    for (const row of this.run?.scoreboard.rows ?? []) all.set(row.country, row)
    return [...all.values()]
  }

  #state(): Shown {
    const { state } = this.client
    if (this.#problem || state.name === 'closed') return 'refused'
    if (this.stage.freshness.name === 'loading') return 'loading'
    if (!this.now) return state.name === 'stale' ? 'loading' : 'empty'
    if (this.run && [this.run.scoreboard, this.run.contestants].some((c) => c.freshness.name === 'loading')) return 'loading'
    return state.name === 'connecting' ? 'stale' : state.name
  }

  #painted(): boolean {
    const state = this.#state()
    document.body.dataset['state'] = state
    byId('loading').hidden = state !== 'loading'
    byId('empty').hidden = state !== 'empty'
    byId('refused').hidden = state !== 'refused'
    byId('show').hidden = !['live', 'catching_up', 'stale'].includes(state)
    if (state === 'refused') this.#refused()
    const again = byId('show').hidden ? false : (this.#head(), this.#draw())
    this.#pulse()
    this.client.shown()
    return again
  }

  #refused(): void {
    const { state } = this.client
    const p = this.#problem ?? (state.name === 'closed' ? state.reason : undefined)
    const what = this.#refusedView && `${this.#refusedView}: `
    say(byId('refused-what'), p ? `${what}${p.message} (${p.code})` : 'The connection was closed.')
    say(byId('refused-next'), (p?.hint ? p.hint + '. ' : '') + 'Reload the page when that is changed.')
  }

  #head(): void {
    const s = this.now!
    say(byId('title'), `Eurovision ${s.year}, ${s.round.replace(/-(\d)$/, ' $1')}`)
    const phases = { waiting: 'About to begin', jury: 'The juries are calling', phone: 'The phone lines are open', ended: 'The result' }
    const speed = s.speed === 1 || s.phase === 'ended' ? '' : ` · ${s.speed} times as fast`
    say(byId('phase'), s.paused && s.phase !== 'ended' ? 'Paused' : phases[s.phase] + speed)
    byId('progress').style.setProperty('--done', String(s.length_ms ? Math.min(1, s.played_ms / s.length_ms) : 0))
  }

  #pulse(): void {
    const { state } = this.client
    const { p50, p99, rate, rtt } = this.client.pulse()
    const chip = byId('pulse')
    chip.dataset['state'] = state.name
    const ms = (n: number) => (Number.isNaN(n) ? '–' : `${n < 10 ? n.toFixed(1) : Math.round(n)} ms`)
    const perSecond = `${figure(rate < 10 ? Math.round(rate * 10) / 10 : Math.round(rate))}/s`
    const text = {
      connecting: 'connecting',
      catching_up: 'catching up',
      live: Number.isNaN(p50) ? `live · ${perSecond}` : `live · ${ms(p50)} · ${perSecond}`,
      stale: state.name === 'stale' ? `as of ${age(Date.now() - state.since)} ago` : '',
      closed: 'closed',
    }
    say(byId('pulse-text'), text[state.name])
    if (!(chip as HTMLDetailsElement).open && !chip.matches(':hover')) return
    const facts: [string, string][] = [
      ['event to screen, median', ms(p50)],
      ['event to screen, p99', ms(p99)],
      ['changes', perSecond],
      ['round trip', ms(rtt)],
    ]
    const list = byId('pulse-more')
    if (list.children.length === 0) for (const [name] of facts) list.append(element('dt', name), element('dd', ''))
    facts.forEach(([, value], i) => say(list.children[2 * i + 1]!, value))
  }

  /** Shows a message for some seconds. */
  note(text: string): void {
    const el = byId('note')
    el.textContent = text
    el.hidden = false
    clearTimeout(this.#noteTimer)
    this.#noteTimer = setTimeout(() => (el.hidden = true), 6000)
  }

  /** Tells of a write that failed. */
  failed(err: unknown): void {
    const p = err as Problem
    this.note(p.hint ? `${p.message} ${p.hint}` : p.message)
  }

  /** Tells every ten seconds that this page is open; says good-bye when it closes. */
  #presence(): void {
    const id = Array.from(crypto.getRandomValues(new Uint8Array(9)), (b) => b.toString(36)).join('')
    const beat = () => {
      if (this.client.state.name !== 'live') return
      const { p50, p99 } = this.client.pulse()
      const finite = (n: number) => (Number.isNaN(n) ? null : Math.round(n * 10) / 10)
      const row = { id, page: this.name, p50_ms: finite(p50), p99_ms: finite(p99), seen_at: new Date(this.client.now()).toISOString() }
      this.client.insert('screens', row, { onConflict: 'merge', timeout: HEARTBEAT }).catch(() => {}) // the next one tells
    }
    let begun = false
    this.client.onState((s) => {
      if (s.name !== 'live' || begun) return
      begun = true
      beat()
      setTimeout(beat, HEARTBEAT / 4) // with a first delay
      setInterval(beat, HEARTBEAT)
    })
    addEventListener('pagehide', () => {
      void fetch(`/v1/tables/screens?id=eq.${id}`, { method: 'DELETE', keepalive: true }).catch(() => {})
    })
  }
}

/** An age in words: 12 s, 3 min, 2 h. */
export function age(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000))
  return s < 100 ? `${s} s` : s < 6000 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`
}

/** An element with a text. */
export function element(tag: string, text: string): HTMLElement {
  const el = document.createElement(tag)
  el.textContent = text
  return el
}

/** Who leads, in words. */
export function leading(standings: Standing[]): { leader: string; behind: string } {
  const [first, second] = standings
  if (!first || !first.total) return { leader: 'No points yet', behind: 'The first jury is about to call' }
  const lead = first.total - (second?.total ?? 0)
  if (second && !lead) return { leader: `${nameOf(first.country)} and ${nameOf(second.country)}`, behind: `side by side with ${figure(first.total)} points` }
  return {
    leader: `${nameOf(first.country)} leads with ${figure(first.total)} points`,
    behind: second ? `${figure(lead)} ahead of ${nameOf(second.country)}` : '',
  }
}
