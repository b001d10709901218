// How the pages look and whom they reach: pictures of every state at two widths in both schemes, axe-core, sizes, no overflow.

import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { browser, inState, open, picture, play, Server } from './lib.mjs'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const looks = [390, 1440].flatMap((width) => ['light', 'dark'].map((scheme) => ({ width, height: width === 390 ? 844 : 900, scheme })))

let b
before(async () => (b = await browser()))
after(() => b.close())

/** Serious and critical findings, in words. */
async function findings(page) {
  await page.evaluate(axe) // by the debugger's way in, which the page's Content-Security-Policy does not see
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }))
  return violations
    .filter((v) => ['serious', 'critical'].includes(v.impact))
    .map((v) => `${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 120) + ' ' + n.any.map((a) => a.message).join()).join(' | ')}`)
}

/** What is wrong with the layout: a sideways scroll, targets that are too small. */
const layout = (page) =>
  page.evaluate(() => {
    const bad = []
    if (document.documentElement.scrollWidth > innerWidth) bad.push(`scrolls sideways: ${document.documentElement.scrollWidth} in ${innerWidth}`)
    for (const el of document.querySelectorAll('button, summary, select, a, label:has(input)')) {
      const r = el.getBoundingClientRect()
      if (r.width && (r.height < 43.9 || r.width < 43.9)) bad.push(`${Math.round(r.width)}×${Math.round(r.height)}: ${el.outerHTML.slice(0, 60)}`)
    }
    return bad
  })

test('every state, at both widths, in both schemes', async (t) => {
  const server = await Server.for(t)
  const pages = []
  for (const look of looks) {
    for (const path of ['/', '/studio.html']) {
      const page = await open(b, server.url + path, { ...look, motion: 'reduce' })
      page.label = `${path === '/' ? 'audience' : 'studio'}-${look.width}-${look.scheme}`
      pages.push(page)
    }
  }
  const all = (f) => Promise.all(pages.map(f))
  const check = async (page, state) => {
    await inState(page, state)
    await picture(page, `${page.label}-${state}`)
    assert.deepEqual(await layout(page), [], `${page.label} ${state}`)
    assert.deepEqual(await findings(page), [], `${page.label} ${state}`)
  }
  await all((page) => check(page, 'empty'))
  const player = play(t, server, '--speed', '20', '--once')
  await all((page) => page.waitForFunction(() => document.getElementById('phase').textContent.startsWith('The phone lines')))
  await all((page) => check(page, 'live'))
  await server.kill()
  await all((page) => check(page, 'stale'))
  await server.start()
  await player.ended
  await all(async (page) => {
    await page.waitForFunction(() => document.getElementById('phase').textContent === 'The result')
    await picture(page, page.label + '-ended')
    assert.deepEqual(page.problems, [], page.label)
  })
})

test('loading: nothing at first, a skeleton after 150 ms', async (t) => {
  const server = await Server.for(t)
  const page = await b.newPage()
  await page.routeWebSocket('**/v1/live', () => {}) // a server that never answers
  await page.goto(server.url)
  await inState(page, 'loading')
  await page.waitForFunction(() => getComputedStyle(document.querySelector('#loading .row')).opacity === '1')
  const delay = await page.evaluate(() => getComputedStyle(document.querySelector('#loading .row')).animationDelay)
  assert.equal(delay, '0.15s')
  await picture(page, 'audience-loading')
  await page.close()
})

test('on a wall everything fits', async (t) => {
  const server = await Server.for(t)
  const player = play(t, server, '--speed', '100', '--once')
  await player.ended
  for (const [width, height] of [[1280, 720], [1920, 1080], [3840, 2160]]) {
    const page = await open(b, server.url + '/studio.html?wall', { width, height, scheme: 'dark' })
    await inState(page, 'live')
    const out = await page.evaluate(() =>
      [...document.querySelectorAll('.row, .card:not(.controls)')].filter((el) => {
        const r = el.getBoundingClientRect()
        return r.width && (r.bottom > innerHeight + 1 || r.right > innerWidth + 1 || r.height < 20)
      }).length)
    await picture(page, `wall-${width}`)
    assert.equal(out, 0, `${width}×${height}`)
    await page.context().close()
  }
})

test('long names, many rows and big numbers fit', async (t) => {
  const server = await Server.for(t)
  const run = await server.stage()
  const two = Array.from({ length: 100 }, (_, i) => 'A' + String.fromCharCode(65 + (i % 26)) + (i > 25 ? i : ''))
  await server.post('contestants', two.map((country) => ({ run, country })), '?on_conflict=ignore')
  await server.post('votes', Array.from({ length: 4000 }, (_, i) => ({ run, feed: i % 3 ? 'room' : 'phone', from_country: 'FR', to_country: i % 2 ? 'BA' : 'UA', points: i % 3 ? 1 : 12 })))
  for (const look of looks) {
    const page = await open(b, server.url, { ...look, motion: 'reduce' })
    await inState(page, 'live')
    await page.waitForFunction(() => document.querySelectorAll('#board li').length > 100)
    assert.deepEqual(await layout(page), [])
    await picture(page, `audience-${look.width}-${look.scheme}-full`)
    await page.context().close()
  }
})
