// The studio page: totals by feed, pace, delays and screens, and the controls of the show. `?wall` shows it without controls.

import { Board, ranked } from './board.ts'
import { Chart, lastSeconds, roundTop } from './chart.ts'
import { nameOf } from './names.ts'
import { leading, Page } from './page.ts'
import { byId, Count, figure, say } from './paint.ts'

interface Feed {
  run: string
  feed: string
  votes: number
  points: number
}

interface Screen {
  id: string
  page: string
  p50_ms: number | null
  p99_ms: number | null
}

interface Favourite {
  run: string
  feed: string
  place: number
  country: string
}

interface Show {
  id: string
  year: number
  round: string
}

const FORGET = 300_000 // after so long without a word a screen's row is deleted
const STARTED_WAIT = 5_000 // the player should have taken up a show by then

document.documentElement.classList.toggle('wall', new URLSearchParams(location.search).has('wall'))

const board = new Board(byId('board'))
const chart = new Chart(byId('pace-chart'), true)
const figures = new Map<string, Count>()
let peak = { run: '', votes: 0 }
let startedAt = 0

const page: Page = new Page('studio', () => {
  const standings = ranked(page.standings(), 'total')
  let again = board.draw(standings.slice(0, 10), 'total')
  again = drawFeeds() || again
  again = drawPace() || again
  again = drawScreens() || again
  drawControls()
  const { leader, behind } = leading(standings)
  if (Math.floor(Date.now() / 1000) % 15 === 0) say(byId('summary'), `${leader}, ${behind}.`)
  return again
})

const feeds = page.follow<Feed>('feeds', {})
const favourites = page.follow<Favourite>('favourites', { order: 'run,feed,place' })
const screens = page.follow<Screen>('connected', {})
const catalog = page.follow<Show>('catalog', { order: 'year.desc,round' })

function count(id: string, value: number): boolean {
  let c = figures.get(id)
  if (!c) figures.set(id, (c = new Count(byId(id))))
  return c.show(value)
}

function drawFeeds(): boolean {
  let again = false
  const all = { votes: 0, points: 0 }
  for (const name of ['jury', 'phone', 'room']) {
    const f = feeds.get(page.run?.name, name) ?? { votes: 0, points: 0 }
    again = count(`${name}-votes`, f.votes) || again
    again = count(`${name}-points`, f.points) || again
    const ahead = favourites.rows.filter((x) => x.run === page.run?.name && x.feed === name)
    say(byId(`${name}-ahead`), ahead.map((x) => x.country).join(' '))
    byId(`${name}-ahead`).title = ahead.map((x) => nameOf(x.country)).join(', ')
    all.votes += f.votes
    all.points += f.points
  }
  again = count('all-votes', all.votes) || again
  again = count('all-points', all.points) || again
  say(byId('votes-more'), `${figure(all.points)} points`)
  return count('votes', all.votes) || again
}

function drawPace(): boolean {
  const { seconds, busiest } = lastSeconds(page.pace.rows, page.time())
  const top = roundTop(busiest)
  chart.draw(seconds, top)
  say(byId('pace-top'), `top of the scale: ${figure(top)}`)
  if (peak.run !== page.run?.name) peak = { run: page.run?.name ?? '', votes: 0 }
  peak.votes = Math.max(peak.votes, busiest)
  say(byId('pace-peak'), `at most ${figure(peak.votes)} so far`)
  return count('pace-now', seconds.at(-1)?.votes ?? 0)
}

function drawScreens(): boolean {
  const there = screens.rows
  const medians = there.flatMap((s) => s.p50_ms ?? []).sort((a, b) => a - b)
  const worst = Math.max(...there.flatMap((s) => s.p99_ms ?? []))
  const median = medians[medians.length >> 1]
  say(byId('delay'), median === undefined ? '–' : `${median < 10 ? median.toFixed(1) : Math.round(median)} ms`)
  say(byId('delay-more'), medians.length ? `p99 ${Math.round(worst)} ms on the slowest screen` : 'none measured yet')
  const studios = there.filter((s) => s.page === 'studio').length
  say(byId('screens-more'), `${figure(there.length - studios)} audience, ${figure(studios)} studio`)
  return count('screens', there.length)
}

const speed = byId<HTMLInputElement>('speed')
const pause = byId<HTMLButtonElement>('pause')
const which = byId<HTMLSelectElement>('which')

function drawControls(): void {
  const s = page.now!
  if (document.activeElement !== speed) speed.value = String(Math.round(Math.log2(s.speed)))
  say(byId('speed-text'), figure(s.speed))
  speed.setAttribute('aria-valuetext', `${s.speed} times`)
  say(pause, s.paused ? 'Go on' : 'Pause')
  pause.disabled = s.phase === 'ended'
  if (which.options.length !== catalog.size) {
    which.replaceChildren(...catalog.rows.map((c) => new Option(`${c.year}, ${c.round.replace(/-(\d)$/, ' $1')}`, c.id, c.id === '2022-final')))
  }
  const waits = s.phase === 'waiting' && startedAt && performance.now() - startedAt > STARTED_WAIT
  say(byId('hint'), waits ? 'The player has not taken it up. Is it running? go run ./examples/vote/play' : 'Whoever opens this page may run the show: there is no sign-in yet.')
}

const set = (patch: Partial<Record<string, unknown>>): void => {
  page.client.update('show', { id: 'eq.stage' }, patch).catch((err: unknown) => page.failed(err))
}

speed.addEventListener('input', () => set({ speed: 2 ** Number(speed.value) }))
pause.addEventListener('click', () => set({ paused: !page.now?.paused }))
byId('start').addEventListener('submit', (e) => {
  e.preventDefault()
  const show = catalog.get(which.value)
  if (!show || !page.now) return
  const run = String(1 + (parseInt(page.now.run, 10) || 0)).padStart(4, '0') + '-' + show.id
  set({ run, year: show.year, round: show.round, phase: 'waiting', played_ms: 0, length_ms: 0, paused: false })
  startedAt = performance.now()
})

setInterval(() => {
  if (page.client.state.name !== 'live') return
  const before = new Date(page.client.now() - FORGET)
  page.client.delete('screens', { seen_at: 'lt.' + before.toISOString() }).catch(() => {}) // the next studio page tries again
}, FORGET)
