// The browser's own EventSource against the server: it resumes by itself, nothing missed and nothing twice.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { browser, inState, open, Server } from './lib.mjs'

let b
before(async () => (b = await browser()))
after(() => b.close())

test('EventSource: snapshot, changes, and a resume over a kill -9', async (t) => {
  const server = await Server.for(t)
  const run = await server.stage()
  const page = await open(b, server.url)
  await inState(page, 'live')
  await page.evaluate((run) => {
    globalThis.heard = []
    const source = (globalThis.source = new EventSource(`/v1/views/scoreboard?run=eq.${run}&country=eq.UA`))
    for (const type of ['snapshot', 'epoch', 'resumed', 'gap']) {
      source.addEventListener(type, (e) => heard.push({ type, id: e.lastEventId, data: JSON.parse(e.data) }))
    }
    source.onerror = () => heard.push({ type: 'away' })
  }, run)
  const vote = () => server.post('votes', [{ run, feed: 'room', to_country: 'UA', points: 1 }])
  const other = () => server.post('votes', [{ run, feed: 'room', to_country: 'GB', points: 1 }])
  const roomIs = (n) => page.waitForFunction((n) => heard.findLast((e) => e.type === 'epoch')?.data.put?.[0]?.room === n, n, { timeout: 20_000 })

  await page.waitForFunction(() => heard.some((e) => e.type === 'snapshot'))
  await vote()
  await roomIs(1)
  await other() // filtered out
  await vote()
  await roomIs(2)
  await server.kill()
  await page.waitForFunction(() => heard.at(-1).type === 'away')
  await server.start()
  await page.waitForFunction(() => heard.some((e) => e.type === 'resumed'), null, { timeout: 20_000 })
  await vote()
  await roomIs(3)

  const heard = await page.evaluate(() => globalThis.heard)
  const types = heard.map((e) => e.type).filter((t) => t !== 'away')
  assert.equal(types[0], 'snapshot')
  assert.equal(types.filter((t) => t === 'snapshot').length, 1, 'one snapshot, then a resume')
  assert.equal(types.includes('gap'), false)
  const rooms = heard.filter((e) => e.type === 'epoch' && e.data.put?.length).map((e) => e.data.put[0].room)
  assert.deepEqual(rooms, [1, 2, 3], 'each once, in order')
  const ids = heard.filter((e) => e.id).map((e) => Number(e.id.split('-').at(-1)))
  assert.deepEqual(ids, [...ids].sort((x, y) => x - y), 'positions only grow')
})
