// Channels and presence in browsers: examples/cursors on two pages.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import path from 'node:path'
import { browser, open, picture, Server } from './lib.mjs'

const folder = path.resolve(import.meta.dirname, '../../examples/cursors')

let b
before(async () => (b = await browser()))
after(() => b.close())

const here = (page, n) => page.waitForFunction((n) => document.querySelector('#who').textContent === `${n} here`, n, { timeout: 20_000 })
const dotAt = (page, left) => page.waitForFunction((left) => document.querySelector('i')?.style.left === left, left, { timeout: 20_000 })

test('pointers follow, survive a restart of the server, and go with their page', async (t) => {
  const server = await Server.for(t, folder)
  const one = await open(b, server.url)
  const two = await open(b, server.url, { width: 390, height: 700, scheme: 'dark' })
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

test('without WebSockets, too', async (t) => {
  const server = await Server.for(t, folder)
  const one = await open(b, server.url, { sockets: false })
  const two = await open(b, server.url)
  await here(one, 2)
  await here(two, 2)
  await one.mouse.move(720, 450)
  await dotAt(two, '50%')
  await two.mouse.move(360, 450)
  await dotAt(one, '25%')
  assert.equal(await one.locator('i').count() + await two.locator('i').count(), 2, 'nobody sees his own')
  await server.kill()
  await one.waitForFunction(() => document.querySelector('#who').textContent === 'stale')
  await server.start()
  await here(one, 2)
  await dotAt(two, '50%')
  await dotAt(one, '25%')
  assert.equal(await one.locator('i').count() + await two.locator('i').count(), 2, 'nobody sees his own')
  assert.deepEqual(one.problems, [])
})
