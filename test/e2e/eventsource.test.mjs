// Chromium's EventSource over a line that breaks: in the middle of a line, of an event, between the pages of a snapshot; refusals and goodbyes. What
// the page knows after each is what the server has, and nobody asks in a loop.

import assert from 'node:assert/strict'
import { connect as dial, createServer } from 'node:net'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { browser, Server } from './lib.mjs'

let b
before(async () => (b = await browser()))
after(() => b.close())

const sql = `CREATE TABLE items (id integer PRIMARY KEY, name text NOT NULL, note text);
GRANT ALL ON items TO anon;
`

/** A line to the server that can be told to break after some bytes of what comes down. */
class Line {
  streams = 0
  #sockets = new Set()
  #after = Infinity // bytes of the next stream, behind its head

  static async to(t, server) {
    const line = new Line()
    const s = createServer((near) => {
      const far = dial(Number(new URL(server.url).port), '127.0.0.1')
      line.#sockets.add(near)
      let left
      near.on('data', (d) => {
        if (/text\/event-stream/.test(d.toString('latin1'))) {
          line.streams++
          left = line.#after
          line.#after = Infinity
        }
        far.write(d)
      })
      let head = ''
      far.on('data', (d) => {
        if (left !== undefined && left !== Infinity) {
          let body = d
          if (!head.includes('\r\n\r\n')) {
            head += d.toString('latin1')
            const end = head.indexOf('\r\n\r\n')
            body = end < 0 ? Buffer.alloc(0) : d.subarray(d.length - (head.length - end - 4))
          }
          if (body.length > left) {
            near.write(d.subarray(0, d.length - body.length + left))
            return near.end(() => far.destroy())
          }
          left -= body.length
        }
        near.write(d)
      })
      for (const [a, z] of [[near, far], [far, near]]) {
        a.on('error', () => z.destroy())
        a.on('close', () => (z.destroy(), line.#sockets.delete(a)))
      }
    })
    t.after(() => (line.cut(), s.close()))
    await new Promise((resolve) => s.listen(0, '127.0.0.1', resolve))
    line.url = `http://127.0.0.1:${s.address().port}`
    return line
  }

  /** Breaks everything that is open. */
  cut() {
    for (const s of this.#sockets) s.destroy()
  }

  /** The next stream ends after so many bytes of its body. */
  cutAfter(bytes) {
    this.#after = bytes
  }
}

/** A server, a line to it, and a page that keeps rows by EventSource alone. */
async function stage(t) {
  const folder = mkdtempSync(path.join(tmpdir(), 'laaster-sse-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  writeFileSync(path.join(folder, 'app.sql'), sql)
  const server = await Server.for(t, folder)
  const line = await Line.to(t, server)
  const context = await b.newContext()
  t.after(() => context.close())
  const page = await context.newPage()
  await page.goto(server.url + '/v1/views/items?limit=0')
  /** Follows a view: twenty lines are all that a page needs. */
  const follow = (query = '') =>
    page.evaluate((url) => {
      const s = (globalThis.s = { rows: {}, fresh: {}, wrong: [], told: {}, at: 0, errors: 0, source: new EventSource(url) })
      const seq = (e) => Number(JSON.parse(e.data).position.split('-').at(-1))
      const on = (type, f) =>
        s.source.addEventListener(type, (e) => {
          s.told[type] = (s.told[type] ?? 0) + 1
          if (e.data) f(JSON.parse(e.data), e)
        })
      on('snapshot', (d, e) => {
        for (const r of d.rows) {
          if (s.fresh[r.id]) s.wrong.push('twice in a snapshot: ' + r.id)
          s.fresh[r.id] = r
        }
        if (d.more) return
        s.rows = s.fresh
        s.fresh = {}
        s.at = seq(e)
        if (e.lastEventId !== d.position) s.wrong.push('the last page has the id ' + e.lastEventId)
      })
      on('epoch', (d, e) => {
        if (seq(e) < s.at) s.wrong.push(`${seq(e)} after ${s.at}`)
        if (e.lastEventId !== d.position) s.wrong.push('an epoch has the id ' + e.lastEventId)
        s.at = seq(e)
        for (const r of d.put ?? []) {
          if (JSON.stringify(s.rows[r.id]) === JSON.stringify(r)) s.wrong.push('twice: ' + r.id)
          s.rows[r.id] = r
        }
        for (const [id] of d.del ?? []) {
          if (!s.rows[id]) s.wrong.push('left twice: ' + id)
          delete s.rows[id]
        }
      })
      for (const type of ['resumed', 'gap', 'goodbye']) on(type, () => {})
      s.source.onerror = () => (s.errors++, (s.fresh = {}))
      s.source.onopen = () => (s.fresh = {})
    }, line.url + '/v1/views/items' + query)
  /** Resolves when the page has the server's rows. */
  const settled = async () => {
    const want = Object.fromEntries((await server.get('items')).map((r) => [r.id, r]))
    await page.waitForFunction((want) => {
      const ids = Object.keys(want)
      return ids.length === Object.keys(s.rows).length && ids.every((id) => JSON.stringify(s.rows[id]) === JSON.stringify(want[id]))
    }, want, { timeout: 30_000 })
    assert.deepEqual(await page.evaluate(() => s.wrong), [])
  }
  const write = (from, to, note = null) =>
    server.post('items', Array.from({ length: to - from + 1 }, (_, i) => ({ id: from + i, name: 'n' + (from + i), note })))
  return { server, line, page, follow, settled, write }
}

test('EventSource: cut in a line, before the blank line, and between events; each time it goes on where it was', async (t) => {
  const { line, page, follow, settled, write } = await stage(t)
  await write(1, 3)
  await follow()
  await settled()
  let n = 10
  for (const bytes of [1, 7, 60, 121, 122, 240]) {
    line.cutAfter(bytes)
    line.cut()
    await write(n, n + 1)
    n += 2
    await settled()
  }
  const told = await page.evaluate(() => s.told)
  assert.equal(told.snapshot, 1, 'everything else was resumed')
  assert.equal(told.gap, undefined)
})

test('EventSource: a snapshot of many pages that is cut in the middle begins anew, and only a whole one counts', async (t) => {
  const { line, page, follow, settled, write } = await stage(t)
  await write(1, 900, 'x'.repeat(1000))
  line.cutAfter(400_000) // in the second page: there was no id yet
  await follow()
  await settled()
  assert.ok((await page.evaluate(() => s.errors)) >= 1, 'it was cut')
  assert.equal(line.streams, 2)
  await write(1000, 1002)
  await settled()
})

test('EventSource: a restart says goodbye with a pace, and the browser resumes at that pace', async (t) => {
  const { server, line, page, follow, settled, write } = await stage(t)
  await write(1, 5)
  await follow()
  await settled()
  await server.kill()
  await server.start()
  await write(6, 8)
  await settled()
  assert.equal((await page.evaluate(() => s.told)).snapshot, 1)
  assert.ok(line.streams < 12, `${line.streams} streams: the browser must not ask in a loop`)
})

test('EventSource: a view that does not exist ends for good', async (t) => {
  const { line, page } = await stage(t)
  await page.evaluate((url) => {
    globalThis.bad = new EventSource(url)
  }, line.url + '/v1/views/nothing')
  await page.waitForFunction(() => bad.readyState === EventSource.CLOSED, null, { timeout: 20_000 })
  assert.equal(line.streams, 1)
})

test('EventSource: a changed row, a deleted row, a filter', async (t) => {
  const { server, page, follow, settled, write } = await stage(t)
  await write(1, 9)
  await follow()
  await settled()
  const patch = (method, query, body) =>
    fetch(`${server.url}/v1/tables/items?${query}`, { method, headers: { 'Content-Type': 'application/json' }, ...(body ? { body: JSON.stringify(body) } : {}) })
  assert.equal((await patch('PATCH', 'id=lt.4', { note: 'changed' })).status, 200)
  assert.equal((await patch('DELETE', 'id=gt.7')).status, 200)
  await settled()
  await page.evaluate(() => s.source.close())
  await follow('?id=gt.5')
  await page.waitForFunction(() => Object.keys(s.rows).length === 2, null, { timeout: 20_000 })
})
