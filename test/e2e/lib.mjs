// What the browser tests share: a real server that can be killed and started again, browsers, and waiting for conditions.

import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { chromium } from 'playwright-core'

const root = path.resolve(import.meta.dirname, '../..')
export const app = path.join(root, 'examples/vote')
const artifacts = process.env.LAASTER_ARTIFACTS

/** `laaster run` as a process of its own. */
export class Server {
  /** @type {import('node:child_process').ChildProcess | undefined} */
  #process
  #log = ''
  url = ''

  /** Starts one for this test: it ends with it. */
  static async for(t, folder = app, command = 'run') {
    const server = new Server()
    server.folder = folder
    server.command = command
    server.data = mkdtempSync(path.join(tmpdir(), 'laaster-e2e-'))
    t.after(() => server.close())
    return server.start()
  }

  /** Starts it, again on the same port, and resolves when it is ready. */
  async start() {
    const listen = this.url ? new URL(this.url).host : '127.0.0.1:0'
    const args = [this.command, this.folder, '--listen', listen, '--admin', '127.0.0.1:0', '--data', this.data]
    const p = (this.#process = spawn(process.env.LAASTER_BIN, args, { stdio: ['ignore', 'pipe', 'pipe'] }))
    p.stderr.on('data', (d) => (this.#log += d))
    for await (const line of createInterface({ input: p.stdout })) {
      const m = /^ready public=(\S+)/.exec(line)
      if (!m) continue
      this.url = m[1]
      p.stdout.resume()
      return this
    }
    throw new Error('the server ended before it was ready:\n' + this.#log)
  }

  /** What it wrote to stderr. */
  get log() {
    return this.#log
  }

  /** kill -9, and resolves when it is gone. */
  async kill() {
    const p = this.#process
    if (!p || p.exitCode !== null || p.signalCode !== null) return
    const gone = new Promise((resolve) => p.once('exit', resolve))
    p.kill('SIGKILL')
    await gone
  }

  /** Ends it and forgets its data. */
  async close() {
    await this.kill()
    rmSync(this.data, { recursive: true, force: true })
  }

  async post(table, rows, query = '') {
    const res = await fetch(`${this.url}/v1/tables/${table}${query}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(rows),
    })
    const body = await res.json()
    if (!res.ok || body.rejected.length) throw new Error(`POST ${table}: ${res.status} ${JSON.stringify(body)}`)
    return body
  }

  async get(view, query = '') {
    const res = await fetch(`${this.url}/v1/views/${view}${query}`)
    if (!res.ok) throw new Error(`GET ${view}: ${res.status} ${await res.text()}`)
    return res.json()
  }

  /** Puts a small show on the stage by hand: five countries, some points. */
  async stage(run = '0001-2022-final') {
    await this.post('show', [{ id: 'stage', run, year: 2022, round: 'final', phase: 'jury', played_ms: 60_000, length_ms: 286_000 }])
    const countries = ['UA', 'GB', 'ES', 'SE', 'BA']
    await this.post('contestants', countries.map((country) => ({ run, country })))
    await this.post('votes', countries.map((to_country, i) => ({ run, feed: 'jury', from_country: 'FR', to_country, points: 12 - 2 * i })))
    return run
  }
}

/** The player as a process that ends with the test at the latest; `ended` resolves when it has ended well. */
export function play(t, server, ...flags) {
  const p = spawn(process.env.VOTE_PLAY_BIN, ['--url', server.url, ...flags], { stdio: ['ignore', 'ignore', 'pipe'] })
  let log = ''
  p.stderr.on('data', (d) => (log += d))
  const ended = new Promise((resolve, reject) =>
    p.once('exit', (code) => (code === 0 ? resolve() : reject(new Error(`the player ended with ${code}:\n${log}`)))),
  )
  ended.catch(() => {}) // whoever awaits it hears of it
  t.after(async () => {
    p.kill('SIGKILL')
    await ended.catch(() => {})
  })
  return { ended }
}

/** A headless Chromium. */
export const browser = () =>
  chromium.launch({
    executablePath: process.env.LAASTER_CHROMIUM,
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  })

/** A page of its own context, that fails the test on errors in it. */
export async function open(b, url, { width = 1440, height = 900, scheme = 'light', motion = 'no-preference', sockets = true } = {}) {
  const context = await b.newContext({ viewport: { width, height }, colorScheme: scheme, reducedMotion: motion })
  const page = await context.newPage()
  if (!sockets) await page.addInitScript(() => delete globalThis.WebSocket)
  page.problems = []
  page.on('pageerror', (e) => page.problems.push(e.message))
  page.on('console', (m) => {
    if (m.type() === 'error' && !/ERR_CONNECTION|WebSocket connection|Failed to load resource/.test(m.text())) page.problems.push(m.text())
  })
  await page.goto(url)
  return page
}

/** Resolves when the page is in this state. */
export const inState = (page, state) => page.waitForSelector(`body[data-state="${state}"]`, { state: 'attached', timeout: 15_000 })

/** Calls f until it answers something true; f does the waiting. */
export async function until(what, f, ms = 20_000) {
  const end = Date.now() + ms
  for (;;) {
    const got = await f().catch(() => undefined)
    if (got) return got
    if (Date.now() > end) throw new Error('waited too long until ' + what)
    await new Promise((resolve) => setImmediate(resolve))
  }
}

/** Saves a picture where LAASTER_ARTIFACTS says. */
export async function picture(page, name) {
  if (!artifacts) return
  mkdirSync(artifacts, { recursive: true })
  await page.screenshot({ path: path.join(artifacts, name + '.png') })
}

if (!existsSync(process.env.LAASTER_BIN ?? '')) throw new Error('LAASTER_BIN names no file: these tests are run by go test ./test/e2e')
