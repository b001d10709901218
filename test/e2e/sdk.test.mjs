// The SDK against the real server in a real browser, with a line in between that can be cut, delayed and made narrow. The page is
// the one of sdk/js/README.md, block by block as a new user would copy it.

import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect as dial, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { browser, open, Server, until } from './lib.mjs'

const readme = readFileSync(path.resolve(import.meta.dirname, '../../sdk/js/README.md'), 'utf8')
const blocks = new Map([...readme.matchAll(/^```\w+ title=(\S+)\n([^]*?)^```$/gm)].map(([, name, text]) => [name, text]).reverse())

let b
before(async () => (b = await browser()))
after(() => b.close())

/** A server with an app in a folder of its own. */
async function serve(t, files) {
  const folder = mkdtempSync(path.join(tmpdir(), 'laaster-sdk-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  mkdirSync(path.join(folder, 'public'))
  for (const [name, text] of Object.entries(files)) {
    assert.ok(text, `the README has no ${name}`)
    writeFileSync(path.join(folder, name), text)
  }
  return Server.for(t, folder)
}

/** The app of the README. */
const shopping = (t) =>
  serve(t, Object.fromEntries(['app.sql', 'public/index.html', 'public/app.js', 'public/worker.js'].map((name) => [name, blocks.get(name)])))

/** A line to the server. Closed, it breaks what goes over it and refuses what comes. */
class Line {
  #sockets = new Set()
  #up = true
  #slow
  url = ''
  /** How many WebSockets went over it. */
  upgrades = 0

  static async to(t, server) {
    const line = new Line()
    const s = createServer((near) => {
      if (!line.#up) return near.destroy()
      near.on('data', (d) => (line.upgrades += /^Upgrade: websocket/im.test(d.subarray(0, 2000).toString('latin1')) ? 1 : 0))
      const far = dial(Number(new URL(server.url).port), '127.0.0.1')
      for (const [a, z] of [[near, far], [far, near]]) {
        line.#sockets.add(a)
        if (line.#slow) trickle(a, z, line.#slow)
        else a.pipe(z)
        a.on('error', () => z.destroy())
        a.on('close', () => (z.destroy(), line.#sockets.delete(a)))
      }
    })
    t.after(() => (line.close(), s.close()))
    await new Promise((resolve) => s.listen(0, '127.0.0.1', resolve))
    line.url = `http://127.0.0.1:${s.address().port}`
    return line
  }

  close() {
    this.#up = false
    for (const s of this.#sockets) s.destroy()
  }

  open() {
    this.#up = true
  }

  /** From now on new connections carry so many bytes a second each way, that late. */
  slow(bytes, latency) {
    this.#slow = { bytes, latency }
  }
}

/** Passes on what a says to z at a rate, holding a back meanwhile. */
function trickle(a, z, { bytes, latency }) {
  let free = 0 // when the line has carried what it was given
  a.on('data', (d) => {
    const now = performance.now()
    free = Math.max(free, now) + (d.length / bytes) * 1000
    if (free - now > 500) a.pause()
    setTimeout(() => {
      z.write(d)
      if (free - performance.now() < 500) a.resume()
    }, free - now + latency)
  })
}

const waits = (page, text) => page.waitForFunction((t) => document.getElementById('state').textContent === t, text, { timeout: 30_000 })
const lists = (page, ...texts) =>
  page.waitForFunction((want) => [...document.querySelectorAll('#items li')].map((li) => li.textContent).join() === want, texts.join(), { timeout: 30_000 })
async function add(page, text) {
  await page.fill('#text', text)
  await page.click('#add button')
}
const stored = async (server) => (await server.get('items', '?select=text,done&order=text')).map((r) => r.text + (r.done ? '*' : '')).join()

test('two pages, offline and back: what was done meanwhile is there once, in order', async (t) => {
  const server = await shopping(t)
  const line = await Line.to(t, server)
  const [one, two] = [await open(b, line.url), await open(b, server.url)]
  await Promise.all([waits(one, 'live'), waits(two, 'live')])
  await add(one, 'bread')
  await Promise.all([lists(one, 'bread'), lists(two, 'bread')])

  line.close()
  await waits(one, 'stale')
  await add(one, 'apples')
  await one.getByRole('checkbox', { name: 'apples' }).check()
  await add(one, 'cheese')
  await waits(one, 'stale, 3 waiting')
  await lists(one, 'apples (not sent yet)', 'bread', 'cheese (not sent yet)')
  await add(two, 'dates')
  await lists(two, 'bread', 'dates')

  line.open()
  await waits(one, 'live')
  await Promise.all([lists(one, 'apples', 'bread', 'cheese', 'dates'), lists(two, 'apples', 'bread', 'cheese', 'dates')])
  assert.equal(await stored(server), 'apples*,bread,cheese,dates')
  assert.deepEqual([...one.problems, ...two.problems], [])
})

test('reload with queued writes: the page opens offline, and sends them when the server is back', async (t) => {
  const server = await shopping(t)
  const page = await open(b, server.url)
  await waits(page, 'live')
  await page.evaluate(() => navigator.serviceWorker.ready)
  await server.kill()
  await waits(page, 'stale')
  await add(page, 'milk')
  await add(page, 'nuts')
  await waits(page, 'stale, 2 waiting')
  await page.reload()
  await waits(page, 'loading, 2 waiting')
  await page.reload() // twice: nothing is sent twice for it
  await waits(page, 'loading, 2 waiting')
  await server.start()
  await waits(page, 'live')
  await lists(page, 'milk', 'nuts')
  assert.equal(await stored(server), 'milk,nuts')
  assert.equal(await page.evaluate(() => indexedDB.databases().then((d) => d.length)), 1)
})

test('a tab that is closed with queued writes: the other tab sends them', async (t) => {
  const server = await shopping(t)
  const context = await b.newContext()
  t.after(() => context.close())
  const [one, two] = [await context.newPage(), await context.newPage()]
  for (const page of [one, two]) await page.goto(server.url)
  await Promise.all([waits(one, 'live'), waits(two, 'live')])
  await server.kill()
  await Promise.all([waits(one, 'stale'), waits(two, 'stale')])
  await add(one, 'oil')
  await add(two, 'salt')
  await Promise.all([waits(one, 'stale, 1 waiting'), waits(two, 'stale, 1 waiting')])
  await one.close()
  await server.start()
  await lists(two, 'oil', 'salt')
  await waits(two, 'live')
  assert.equal(await stored(server), 'oil,salt')
})

test('a write that the server refuses is taken back, and says why', async (t) => {
  const server = await shopping(t)
  const line = await Line.to(t, server)
  const page = await open(b, line.url)
  await waits(page, 'live')
  line.close()
  await waits(page, 'stale')
  await page.evaluate(() => (document.getElementById('text').required = false))
  await add(page, '')
  await waits(page, 'stale, 1 waiting')
  assert.equal(await page.locator('#items li').count(), 1)
  line.open()
  await waits(page, 'live')
  await page.waitForFunction(() => document.getElementById('note').textContent && !document.querySelector('#items li'))
})

test('twenty tabs share one connection; the leading tab closes and nobody misses a thing', async (t) => {
  const server = await shopping(t)
  const line = await Line.to(t, server)
  const context = await b.newContext({ serviceWorkers: 'block' })
  t.after(() => context.close())
  await context.route('**/app.js', (route) =>
    route.fulfill({ contentType: 'text/javascript', body: `import { sharedSocket } from '/laaster-tabs.js'\n` + blocks.get('public/app.js').replace('offline: true', 'WebSocket: sharedSocket()') }),
  )
  const tabs = []
  for (let i = 0; i < 20; i++) {
    const page = await context.newPage()
    await page.goto(line.url)
    tabs.push(page)
  }
  await Promise.all(tabs.map((p) => waits(p, 'live')))
  assert.equal(line.upgrades, 1)
  await add(tabs[7], 'tea')
  await Promise.all(tabs.map((p) => lists(p, 'tea')))
  for (const gone of [0, 1, 2]) {
    await tabs[gone].close()
    await add(tabs[7], 'u' + gone)
    const left = tabs.slice(gone + 1)
    await Promise.all(left.map((p) => lists(p, 'tea', ...['u0', 'u1', 'u2'].slice(0, gone + 1))))
  }
  assert.equal(await stored(server), 'tea,u0,u1,u2')
  assert.equal(line.upgrades, 4, 'one for each tab that led')
})

test('a tab in the background, throttled and frozen for a while, catches up', async (t) => {
  const server = await shopping(t)
  const page = await open(b, server.url)
  await waits(page, 'live')
  const cdp = await page.context().newCDPSession(page)
  await cdp.send('Emulation.setCPUThrottlingRate', { rate: 6 })
  await cdp.send('Page.setWebLifecycleState', { state: 'frozen' })
  for (let i = 0; i < 50; i++) await server.post('items', [{ id: crypto.randomUUID(), text: 'x' + String(i).padStart(2, '0') }])
  await cdp.send('Page.setWebLifecycleState', { state: 'active' })
  await page.waitForFunction(() => document.querySelectorAll('#items li').length === 50, null, { timeout: 30_000 })
  await waits(page, 'live')
})

test('slow 3G: a fast list stays current, and a write goes through', async (t) => {
  const server = await shopping(t)
  const line = await Line.to(t, server)
  line.slow(50_000, 200) // each way: 400 ms there and back, 400 kbit/s
  const page = await b.newPage()
  t.after(() => page.close())
  const frames = []
  page.on('websocket', (s) => s.on('framereceived', (f) => frames.push(f.payload)))
  await page.goto(line.url)
  await waits(page, 'live')
  const ids = Array.from({ length: 40 }, () => crypto.randomUUID())
  const text = (i) => String(i).padStart(4, '0') + 'x'.repeat(200)
  await server.post('items', ids.map((id, i) => ({ id, text: text(i) })))
  const before = frames.length
  for (let i = 0; i < 400; i++) {
    await fetch(`${server.url}/v1/tables/items?id=eq.${ids[i % 40]}`, { method: 'PATCH', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ text: text(i) }) })
  }
  await lists(page, ...ids.map((_, i) => text(360 + i)))
  assert.ok(frames.length - before < 400, `merged: ${frames.length - before} frames for 400 changes`)
  await add(page, 'z')
  await until('it is stored', async () => (await stored(server)).endsWith(',z'))
  await waits(page, 'live')
  await lists(page, ...ids.map((_, i) => text(360 + i)), 'z')
})

test('where no WebSocket gets through, the page lives by streams of events', async (t) => {
  const server = await shopping(t)
  const context = await b.newContext()
  t.after(() => context.close())
  const page = await context.newPage()
  await page.addInitScript(() => {
    globalThis.WebSocket = class {
      constructor() {
        queueMicrotask(() => this.onclose?.({ code: 1006, reason: 'a proxy that knows no WebSocket' }))
      }
      close() {}
    }
  })
  await page.goto(server.url)
  await waits(page, 'live')
  await add(page, 'figs')
  await lists(page, 'figs')
  assert.equal(await stored(server), 'figs')
  await server.kill()
  await waits(page, 'stale')
  await add(page, 'grapes')
  await server.start()
  await waits(page, 'live')
  await lists(page, 'figs', 'grapes')
  assert.equal(await stored(server), 'figs,grapes')
})

const channels = `
CREATE TABLE typing (room text, who text, line integer NOT NULL DEFAULT 0, PRIMARY KEY (room, who)) WITH (channel, ttl = '30 seconds');
CREATE TABLE here (page text, name text) WITH (presence, ttl = '20 seconds', list_up_to = 100);
CREATE TABLE scores (id text PRIMARY KEY, points integer NOT NULL);
GRANT SELECT, INSERT ON typing, here TO anon;
GRANT SELECT, INSERT, UPDATE, DELETE ON scores TO anon;
`

for (const transport of ['websocket', 'sse']) {
  test(`presence and channels over ${transport}: a short cut is no departure, own rows come back`, async (t) => {
    const server = await serve(t, { 'app.sql': channels, 'public/index.html': '<!doctype html><title>x</title><link rel="icon" href="data:,">' })
    const line = await Line.to(t, server)
    const join = async (url, name) => {
      const page = await open(b, url)
      await page.evaluate(
        async ([name, transport]) => {
          const { connect } = await import('/laaster.js')
          globalThis.client = connect('', { transport })
          globalThis.here = client.presence('here', { page: '/', name })
          globalThis.typing = client.channel('typing', { filter: 'room=eq.a', order: 'who' })
          globalThis.left = []
          here.onChange(({ changes }) => left.push(...changes.filter((c) => c.op === 'delete').map((c) => c.old.name)))
        },
        [name, transport],
      )
      return page
    }
    const sees = (page, what, want) =>
      page.waitForFunction(
        ([what, want]) => (what === 'here' ? here.rows.map((r) => r.name).sort() : typing.rows.map((r) => r.who + r.line)).join() === want,
        [what, want],
        { timeout: 20_000 },
      )
    const [one, two] = [await join(line.url, 'ann'), await join(server.url, 'bob')]
    await Promise.all([sees(one, 'here', 'ann,bob'), sees(two, 'here', 'ann,bob')])
    await one.evaluate(() => typing.set({ line: 7 }, { room: 'a', who: 'ann' }))
    await sees(two, 'typing', 'ann7')
    await one.evaluate(() => typing.set({ line: 8 }, { room: 'a', who: 'ann' }))
    await sees(two, 'typing', 'ann8')
    line.close()
    await one.waitForFunction(() => client.state.name === 'stale')
    await one.evaluate(() => typing.set({ line: 9 }, { room: 'a', who: 'ann' }))
    line.open()
    await sees(two, 'typing', 'ann9')
    await sees(one, 'here', 'ann,bob')
    assert.deepEqual(await two.evaluate(() => left), [], 'nobody left')
    await two.evaluate(() => here.set({ page: '/b', name: 'bert' }))
    await sees(one, 'here', 'ann,bert')
    await one.evaluate(() => typing.clear({ room: 'a', who: 'ann' }))
    await sees(two, 'typing', '')
    await two.evaluate(() => here.close())
    await sees(one, 'here', 'ann')
  })
}

test('a live window: rows enter and leave, and the order is right at every step', async (t) => {
  const server = await serve(t, { 'app.sql': channels, 'public/index.html': '<!doctype html><title>x</title><link rel="icon" href="data:,">' })
  const page = await open(b, server.url)
  const ids = 'abcdefghij'.split('')
  await server.post('scores', ids.map((id, i) => ({ id, points: i })))
  await page.evaluate(async () => {
    const { connect } = await import('/laaster.js')
    globalThis.top3 = connect().subscribe('scores', { order: 'points.desc,id', limit: 3 })
    globalThis.odd = []
    top3.onChange(() => {
      const points = top3.rows.map((r) => r.points)
      if (points.length > 3 || points.some((p, i) => p > points[i - 1])) odd.push(points)
    })
  })
  const shows = (want) => page.waitForFunction((want) => globalThis.top3?.rows.map((r) => r.id + r.points).join() === want, want, { timeout: 20_000 })
  await shows('j9,i8,h7')
  const patch = (id, points) =>
    fetch(`${server.url}/v1/tables/scores?id=eq.${id}`, { method: 'PATCH', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ points }) })
  await patch('a', 50)
  await shows('a50,j9,i8')
  await patch('a', 1)
  await shows('j9,i8,h7')
  await fetch(`${server.url}/v1/tables/scores?points=gte.7`, { method: 'DELETE' })
  await shows('g6,f5,e4')
  await page.evaluate(() => top3.position)
  assert.deepEqual(await page.evaluate(() => odd), [])
})
