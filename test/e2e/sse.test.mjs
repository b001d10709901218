// The browser's own EventSource against the server: it resumes by itself, nothing missed and nothing twice.

import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { tmpdir } from 'node:os'
import path from 'node:path'
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

test('EventSource: on from the position of a read, beyond the ring, and again over a kill -9', async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), 'laaster-e2e-app-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  mkdirSync(path.join(folder, 'public'))
  writeFileSync(path.join(folder, 'public/index.html'), '<!doctype html><html lang="en"><title>lines</title><link rel="icon" href="data:,"></html>')
  writeFileSync(path.join(folder, 'laaster.yaml'), 'limits:\n  ring: 64KiB\n')
  writeFileSync(
    path.join(folder, 'app.sql'),
    "CREATE TABLE line (n bigint PRIMARY KEY, body text) WITH (append_only);\nCREATE MATERIALIZED VIEW even AS SELECT n, left(body, 3) AS body FROM line WHERE n % 2 = 0;\n" +
      'GRANT INSERT, SELECT ON line TO anon;\nGRANT SELECT ON even TO anon;\n',
  )
  const server = await Server.for(t, folder)
  let n = 0
  const say = async (count) => {
    for (let i = 0; i < count; i++) await server.post('line', [{ n: ++n, body: 'x'.repeat(4000) }])
  }
  await say(4)
  const read = await fetch(`${server.url}/v1/views/even`)
  const from = read.headers.get('Laaster-Position')
  const first = (await read.json()).map((row) => row.n)
  await say(60)

  const page = await open(b, server.url)
  await page.evaluate(
    ({ from, first }) => {
      globalThis.rows = first
      globalThis.heard = []
      const source = (globalThis.source = new EventSource(`/v1/views/even?select=n&_from=${from}`))
      source.addEventListener('epoch', (e) => rows.push(...(JSON.parse(e.data).put ?? []).map((row) => row.n)))
      for (const type of ['snapshot', 'epoch', 'resumed', 'gap', 'error']) source.addEventListener(type, () => heard.push(type))
    },
    { from, first },
  )
  const upTo = (n) => page.waitForFunction((n) => rows.at(-1) === n, n, { timeout: 20_000 })
  await upTo(64)
  await server.kill()
  await page.waitForFunction(() => heard.at(-1) === 'error')
  await server.start()
  await say(6)
  await upTo(70)
  const { rows, heard } = await page.evaluate(() => ({ rows, heard }))
  assert.deepEqual(rows, Array.from({ length: 35 }, (_, i) => 2 * (i + 1)), 'each once, in order')
  assert.equal(heard.includes('snapshot') || heard.includes('gap'), false)
  assert.equal(heard.filter((type) => type === 'resumed').length, 2)
})
