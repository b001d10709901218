// The audience page: the board with a button to vote for each country, who leads, and the pace of the votes.

import { Board, ranked, type Order, type Standing } from './board.ts'
import { Chart, lastSeconds, roundTop } from './chart.ts'
import { nameOf } from './names.ts'
import { element, leading, Page } from './page.ts'
import { byId, Count, figure, say } from './paint.ts'

const SUMMARY_EVERY = 15_000

const board = new Board(byId('board'), vote)
const chart = new Chart(byId('pace-chart'), false)
const now = new Count(byId('pace-now'))
let order: Order = 'total'
let summed = -SUMMARY_EVERY

const page: Page = new Page('audience', () => {
  const standings = ranked(page.standings(), order)
  let again = board.draw(standings, order)
  const byPoints = order === 'total' ? standings : ranked([...standings], 'total')
  again = drawPace() || again
  drawHeadline(byPoints)
  drawTwelves()
  summary(byPoints)
  return again
})

function drawPace(): boolean {
  const { seconds, busiest } = lastSeconds(page.pace.rows, page.time())
  chart.draw(seconds, roundTop(busiest))
  return now.show(seconds.at(-1)?.votes ?? 0)
}

function drawHeadline(standings: Standing[]): void {
  const { leader, behind } = leading(standings)
  const over = page.now?.phase === 'ended'
  say(byId('leader'), over && standings[0] ? `${nameOf(standings[0].country)} wins with ${figure(standings[0].total)} points` : leader)
  say(byId('behind'), behind)
}

function drawTwelves(): void {
  const rows = page.twelves.rows.filter((t) => t.run === page.run?.name)
  const list = byId('twelves')
  const key = rows.map((t) => t.from_country).join()
  if (list.dataset['key'] === key) return
  list.dataset['key'] = key
  list.replaceChildren(
    ...rows.map((t) => {
      const li = document.createElement('li')
      li.append(element('span', nameOf(t.from_country)), element('span', `to ${nameOf(t.to_country)}`))
      return li
    }),
  )
}

/** For those who listen: one sentence now and then, not each tick. */
function summary(standings: Standing[]): void {
  const t = performance.now()
  if (t - summed < SUMMARY_EVERY) return
  summed = t
  const { leader, behind } = leading(standings)
  say(byId('summary'), `${leader}, ${behind}.`)
}

/** One vote. It is counted when the server says so; while it is under way the button shows a dashed border. */
async function vote(country: string, button: HTMLButtonElement): Promise<void> {
  const run = page.run?.name
  if (!run) return
  button.dataset['mine'] = 'sent'
  try {
    await page.client.insert('votes', { run, feed: 'room', to_country: country, points: 1 })
    button.dataset['mine'] = 'counted'
    say(byId('summary'), `Your vote for ${nameOf(country)} is counted.`)
  } catch (err) {
    delete button.dataset['mine']
    page.failed(err)
  }
}

for (const input of document.querySelectorAll<HTMLInputElement>('input[name=order]')) {
  input.addEventListener('change', () => {
    order = input.value as Order
    page.paint()
  })
}
