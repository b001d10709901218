import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { browser, inState, open, play, Server, until } from './lib.mjs'

let b
before(async () => (b = await browser()))
after(() => b.close())

/** The room's votes for a country, as the page shows them. */
const room = (page, code) => page.locator(`[data-country=${code}] .room`)

/** The button that votes for a country. */
const button = (page, name) => page.getByRole('button', { name: 'Vote for ' + name, exact: true })

const shows = (page, code, n) =>
  page.waitForFunction(
    ([code, want]) => document.querySelector(`[data-country=${code}] .room`)?.textContent === want,
    [code, String(n)],
    { timeout: 15_000 },
  )

test('a vote in one browser shows in the other', async (t) => {
  const server = await Server.for(t)
  await server.stage()
  const [one, two] = [await open(b, server.url), await open(b, server.url, { width: 390, height: 844 })]
  await Promise.all([inState(one, 'live'), inState(two, 'live')])
  await shows(two, 'UA', 0)
  await button(one, 'Ukraine').click()
  await Promise.all([shows(one, 'UA', 1), shows(two, 'UA', 1)])
  await one.waitForSelector('[data-country=UA] [data-mine="counted"]')
  await button(two, 'Ukraine').focus()
  await two.keyboard.press('Enter')
  await Promise.all([shows(one, 'UA', 2), shows(two, 'UA', 2)])
  const [row] = await server.get('scoreboard', '?country=eq.UA')
  assert.equal(row.room, 2)
  assert.deepEqual([...one.problems, ...two.problems], [])
})

test('kill -9 in between: stale, then back without a reload, a flicker or a lost vote', async (t) => {
  const server = await Server.for(t)
  await server.stage()
  const page = await open(b, server.url)
  await inState(page, 'live')
  await button(page, 'Spain').click()
  await shows(page, 'ES', 1)
  await page.evaluate(() => {
    // From here on: is there ever a moment without rows, with an older figure, or with the skeleton?
    globalThis.kept = { rows: document.querySelectorAll('#board li').length, fewest: 99, least: 99, skeleton: false }
    new MutationObserver(() => {
      kept.fewest = Math.min(kept.fewest, document.querySelectorAll('#board li').length)
      kept.least = Math.min(kept.least, Number(document.querySelector('[data-country=ES] .room').textContent))
      kept.skeleton ||= !document.getElementById('loading').hidden
    }).observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true })
  })
  const widthBefore = await page.locator('#pulse summary').boundingBox()
  await server.kill()
  await inState(page, 'stale')
  await page.waitForFunction(() => /^as of \d+ s ago$/.test(document.getElementById('pulse-text').textContent))
  assert.deepEqual(await page.locator('#pulse summary').boundingBox(), widthBefore, 'the badge shifts nothing')
  assert.equal(await room(page, 'ES').textContent(), '1', 'the last known figure stays')

  await button(page, 'Spain').click() // nobody is there to take it
  await page.waitForSelector('[data-country=ES] [data-mine="sent"]')
  await server.start()
  await inState(page, 'live')
  await shows(page, 'ES', 2)
  await page.waitForSelector('[data-country=ES] [data-mine="counted"]')

  const kept = await page.evaluate(() => globalThis.kept)
  assert.equal(kept.fewest, kept.rows, 'every row stayed')
  assert.equal(kept.least, 1, 'no figure went back')
  assert.equal(kept.skeleton, false)
  const [row] = await server.get('scoreboard', '?country=eq.ES')
  assert.equal(row.room, 2, 'the vote before the kill and the one during it, once each')
  assert.equal(row.jury, 8)
  assert.deepEqual(page.problems, [])
})

test('a whole final ends at the official result, with the server killed in the middle', async (t) => {
  const server = await Server.for(t)
  const page = await open(b, server.url, { motion: 'reduce' })
  await inState(page, 'empty')
  const player = play(t, server, '--speed', '40', '--once')
  await inState(page, 'live')
  await until('some points are in', async () => (await server.get('feeds'))[0]?.votes > 150)
  await server.kill()
  await inState(page, 'stale')
  await server.start()
  await player.ended
  const official = await server.get('official', '?run=eq.0001-2022-final&order=points.desc,country')
  const points = Object.fromEntries(official.map((r) => [r.country, r.points]))
  // Everybody's official points of the 2022 final.
  const want = {
    UA: 631, GB: 466, ES: 459, SE: 438, RS: 312, IT: 268, MD: 253, GR: 215, PT: 207, NO: 182, NL: 171, PL: 151, EE: 141, LT: 128,
    AU: 125, AZ: 106, CH: 78, RO: 65, BE: 64, AM: 61, FI: 38, CZ: 38, IS: 20, FR: 17, DE: 6,
  }
  assert.deepEqual(points, want)
  await page.waitForFunction(() => document.getElementById('leader').textContent === 'Ukraine wins with 631 points')
  const board = await page.locator('#board li').evaluateAll((rows) =>
    rows.slice(0, 3).map((r) => r.querySelector('.rank').textContent + r.querySelector('.name').textContent + r.querySelector('.total').textContent),
  )
  assert.deepEqual(board, ['1Ukraine631', '2United Kingdom466', '3Spain459'])
  assert.deepEqual((await server.get('podium')).map((r) => r.country).sort(), ['ES', 'GB', 'UA'])
  assert.deepEqual(page.problems, [])
})

test('the studio page runs the show', async (t) => {
  const server = await Server.for(t)
  play(t, server, '--year', '1957', '--speed', '1')
  const studio = await open(b, server.url + '/studio.html')
  await inState(studio, 'live')
  await studio.getByRole('button', { name: 'Pause' }).click()
  await until('it is paused', async () => (await server.get('show'))[0].paused)
  await studio.getByRole('slider').fill('5')
  await until('it is fast', async () => (await server.get('show'))[0].speed === 32)
  await studio.getByLabel('Which show').selectOption('1974-final')
  await studio.getByRole('button', { name: 'Start this show' }).click()
  await studio.waitForFunction(() => document.getElementById('title').textContent === 'Eurovision 1974, final')
  await until('it is over', async () => (await server.get('show'))[0].phase === 'ended')
  const official = await server.get('official', '?run=eq.0002-1974-final&order=points.desc&limit=1')
  assert.deepEqual(official, [{ run: '0002-1974-final', country: 'SE', points: 24 }]) // Waterloo
  await studio.waitForFunction(() => document.querySelector('#board .name').textContent === 'Sweden')
  await studio.waitForFunction(() => document.getElementById('screens').textContent === '1')
  assert.deepEqual(studio.problems, [])
})

test('a refused view says what, why and what next', async (t) => {
  const server = await Server.for(t)
  await server.stage()
  const page = await b.newPage()
  await page.route('**/audience.js', async (route) => {
    const res = await route.fetch()
    await route.fulfill({ response: res, body: (await res.text()).replace('"scoreboard"', '"scoreboards"') })
  })
  await page.goto(server.url)
  await inState(page, 'refused')
  assert.match(await page.locator('#refused-what').textContent(), /scoreboards/)
  await page.close()
})
