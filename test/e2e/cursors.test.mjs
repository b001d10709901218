// Channels and presence in browsers: examples/cursors on two pages.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import path from 'node:path'
import { browser, open, picture, Server } from './lib.mjs'

const folder = path.resolve(import.meta.dirname, '../../examples/cursors')

let b
before(async () => (b = await browser()))
after(() => b.close())

test('pointers follow, survive a restart of the server, and go with their page', async (t) => {
  const server = await Server.for(t, folder)
  const one = await open(b, server.url)
  const two = await open(b, server.url, { width: 390, height: 700, scheme: 'dark' })
  const here = (page, n) => page.waitForFunction((n) => document.querySelector('#who').textContent === `${n} here`, n, { timeout: 20_000 })
  const dotAt = (page, left) => page.waitForFunction((left) => document.querySelector('i')?.style.left === left, left, { timeout: 20_000 })
  await here(one, 2)
  await here(two, 2)

  await one.mouse.move(720, 450)
  await dotAt(two, '50%')
  assert.equal(await one.locator('i').count(), 0, 'nobody sees his own')

  await picture(two, 'cursors-live')
  await server.kill()
  await two.waitForFunction(() => document.querySelector('#who').textContent === 'stale')
  await picture(two, 'cursors-stale')
  await server.start() // it knows nothing any more: both pages say again what was theirs
  await here(one, 2)
  await here(two, 2)
  await dotAt(two, '50%')

  await one.reload() // back within the time to live of presence, as somebody new
  await two.waitForFunction(() => !document.querySelector('i'))
  await one.context().close()
  await here(two, 1)
  assert.deepEqual(two.problems, [])
})
