// Drives the TypeScript SDK: commands come as JSON objects, one a line, on standard input; what the clients tell goes out in the same form.
// node --experimental-websocket driver.mjs <laaster.js>. ../docs of the commands: driver_test.go.

import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
import path from 'node:path'

const { connect } = await import(pathToFileURL(path.resolve(process.argv[2])))
const clients = new Map()

const say = (event) => process.stdout.write(JSON.stringify(event) + '\n')

/** A clock that can run faster and jump; its timers do not jump with it, as in a throttled tab. */
class Clock {
  offset = 0
  constructor(speed) {
    this.speed = speed
    this.began = performance.now()
    this.at = performance.timeOrigin + this.began
  }
  get environment() {
    return {
      now: () => this.at + (performance.now() - this.began) * this.speed + this.offset,
      setTimeout: (f, ms) => setTimeout(f, ms / this.speed),
      clearTimeout: (t) => clearTimeout(t),
      random: () => 0.004 * Math.random(), // so that nobody waits long for another attempt
    }
  }
}

const codeOf = (problem) => problem?.code ?? (problem ? String(problem) : undefined)

const commands = {
  connect({ client, url, transport, speed, rate }) {
    const clock = new Clock(speed || 1)
    const c = connect(url, { client: 'conform/1', transport: transport === 'sse' ? 'sse' : 'websocket', environment: clock.environment, ...(rate ? { rate } : {}) })
    clients.set(client, { c, clock, subs: new Map() })
    c.onState((s) => say({ ev: 'state', client, name: s.name, code: codeOf(s.reason) }))
  },
  subscribe({ client, sub, view, filter, select, order, limit }) {
    const { c, subs } = clients.get(client)
    const s = c.subscribe(view, { ...(filter && { filter }), ...(select && { select }), ...(order && { order }), ...(limit && { limit }) })
    subs.set(sub, s)
    s.onChange(({ cause, position, changes }) => {
      say({ ev: 'rows', client, sub, cause, position, changes, key: s.key, ...(s.position === position && s.size <= 100 ? { rows: s.rows } : {}) })
    })
    s.onFreshness((f) => say({ ev: 'fresh', client, sub, name: f.name, code: codeOf(f.problem) }))
  },
  leave({ client, sub }) {
    const { subs } = clients.get(client)
    subs.get(sub).close()
    subs.delete(sub)
    say({ ev: 'left', client, sub })
  },
  write({ client, write, op, table, rows, filter, patch, key, conflict, atomic, timeout, optimistic }) {
    const { c } = clients.get(client)
    const options = { ...(key && { key }), ...(conflict && { onConflict: conflict }), ...(atomic && { atomic }), ...(timeout && { timeout }), ...(optimistic && { optimistic }) }
    const answer =
      op === 'update' ? c.update(table, filter, patch, options) : op === 'delete' ? c.delete(table, filter, options) : c.insertMany(table, rows, options)
    answer.then(
      (r) => say({ ev: 'result', client, write, position: r.position, accepted: r.accepted, duplicates: r.duplicates,
        rejected: r.rejected.map(({ index, problem }) => ({ index, code: problem.code })) }),
      (problem) => say({ ev: 'result', client, write, problem: codeOf(problem), text: String(problem?.message) }),
    )
  },
  freeze({ client, ms }) {
    clients.get(client).clock.offset += ms
  },
  look({ client, look }) {
    const { c, subs } = clients.get(client)
    const all = {}
    for (const [sub, s] of subs) all[sub] = { position: s.position, rows: s.rows, fresh: s.freshness.name }
    say({ ev: 'looked', client, look, name: c.state.name, subs: all })
  },
  close({ client }) {
    clients.get(client)?.c.close()
    clients.delete(client)
    say({ ev: 'closed', client })
  },
}

process.on('uncaughtException', (err) => say({ ev: 'fatal', text: String(err?.stack ?? err) }))
process.on('unhandledRejection', (err) => say({ ev: 'fatal', text: String(err?.stack ?? err) }))

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line)
  try {
    commands[command.do](command)
  } catch (err) {
    say({ ev: 'fatal', client: command.client, text: String(err?.stack ?? err) })
  }
}
process.exit(0)
