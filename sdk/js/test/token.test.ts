import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connect } from '../src/index.ts'
import { claims } from '../src/token.ts'
import { settle, World } from './fake.ts'

const jwt = (exp: number) => `x.${Buffer.from(JSON.stringify({ exp, name: 'ÿ?>' })).toString('base64url')}.y`

test('when a token ends', () => {
  assert.deepEqual(claims(jwt(1234)).exp, 1234)
  for (const other of [undefined, '', 'opaque', 'a.b.c', 'x.e30.y', 'x.bnVsbA.y']) assert.deepEqual(claims(other), {}, other)
})

test('whose rows go on', async () => {
  const as = (claims: object) => `x.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.y`
  const w = new World()
  const tokens = [as({ sub: 'a', jti: 1 }), as({ sub: 'a', jti: 2 }), as({ sub: 'b', jti: 3 })]
  const client = connect('http://server', { environment: w.environment, token: () => tokens.shift()! })
  const c = client.subscribe('tally')
  await w.socket.welcome()
  await w.socket.say({ type: 'snapshot', id: 's1', position: 'p-1', key: ['k'], rows: [{ k: 'a' }], more: false })
  for (const from of [undefined, null]) { // goes on as the same, and begins anew as another
    await w.socket.cut()
    await w.time.advance(5_000)
    const hello = await w.socket.welcome()
    assert.equal(hello.subscribe![0]!.from, from)
    assert.equal(hello.resume, 'p-1')
    if (from === undefined) await w.socket.say({ type: 'resumed', id: 's1', position: 'p-1' })
  }
  assert.deepEqual(c.rows, [{ k: 'a' }])
  await w.socket.say({ type: 'snapshot', id: 's1', position: 'p-2', key: ['k'], rows: [{ k: 'b' }], more: false })
  assert.deepEqual(c.rows, [{ k: 'b' }])
  client.close()
})

test('a JWT is renewed before its end, in band', async () => {
  const w = new World()
  let n = 0
  const tokens = [jwt(1_040), jwt(9_000), jwt(99_000)] // the clock begins at 1,000 s
  const client = connect('http://server', { environment: w.environment, token: async () => tokens[n++]! })
  assert.equal((await w.socket.welcome()).token, tokens[0])
  await w.time.advance(19_000)
  assert.ok(!w.socket.has('token'))
  await w.time.advance(1_000)
  assert.equal(w.socket.take('token').token, tokens[1])
  assert.equal(client.state.name, 'live')
  client.close()
  assert.equal(w.time.timers, 0)
})

test('told that it has expired: a fresh one goes in band, what was refused is repeated', async () => {
  const w = new World()
  let n = 0
  const client = connect('http://server', { environment: w.environment, token: () => 'token' + ++n })
  const c = client.subscribe('tally')
  assert.equal((await w.socket.welcome()).token, 'token1')
  const done = client.insert('votes', { k: 1 })
  const refused = { code: 'token_expired', status: 401, retry: 'no' } as never
  await w.socket.say({ type: 'error', id: w.socket.take('write').id, error: refused })
  assert.equal(w.socket.take('token').token, 'token2')
  await w.socket.say({ type: 'result', id: w.socket.take('write').id, position: 'p-1', final: true, accepted: 1, duplicates: 0, rejected: [] })
  assert.equal((await done).accepted, 1)
  await w.socket.say({ type: 'error', id: 's1', error: refused })
  assert.equal(w.socket.take('token').token, 'token3')
  await w.time.advance(1_000)
  assert.equal(w.socket.take('subscribe').id, 's1')
  await w.socket.say({ type: 'error', error: refused })
  assert.equal(w.socket.take('token').token, 'token4')
  assert.equal(c.freshness.name, 'loading')
  await w.socket.cut()
  assert.equal(client.state.name, 'stale', 'not closed')
  client.close()
})

test('a token that comes when its attempt is over disturbs nothing', async () => {
  const w = new World()
  const give: ((token: string) => void)[] = []
  const client = connect('http://server', { environment: w.environment, token: () => new Promise<string>((f) => give.push(f)) })
  const c = client.subscribe('tally')
  await w.socket.accept()
  await w.time.advance(11_000) // no welcome in time
  await w.socket.accept()
  assert.equal(give.length, 2)
  give[1]!('new')
  await settle()
  assert.equal(w.socket.take('hello').token, 'new')
  await w.socket.say({ type: 'welcome', session: 'x', now: 1, log: 'l', limits: {} as never })
  await w.socket.say({ type: 'snapshot', id: 's1', position: 'p-1', key: ['k'], rows: [{ k: 'a' }], more: true })
  give[0]!('old')
  await settle()
  await w.socket.say({ type: 'snapshot', id: 's1', position: 'p-1', key: ['k'], rows: [{ k: 'b' }], more: false })
  assert.deepEqual(c.rows, [{ k: 'a' }, { k: 'b' }])
  client.close()
})

test('no fresh token to be had: nothing is left unhandled', async () => {
  const w = new World()
  let n = 0
  const client = connect('http://server', {
    environment: w.environment,
    token: async () => {
      if (n++) throw new Error('login is down')
      return 'token'
    },
  })
  client.subscribe('tally')
  await w.socket.welcome()
  await w.socket.say({ type: 'error', error: { code: 'token_expired' } as never }, { type: 'error', id: 's1', error: { code: 'token_expired' } as never })
  assert.equal(n, 3)
  assert.notEqual(client.state.name, 'closed')
  client.close()
})

test('401 over HTTP: once more with a fresh token, not for ever', async () => {
  const w = new World()
  let n = 0
  const client = connect('http://server', { environment: w.environment, token: () => 'token' + ++n })
  const failed = assert.rejects(client.insert('votes', { k: 1 }), /expired/)
  await settle()
  await w.request.answer(401, { code: 'token_expired', detail: 'expired', retry: 'no' })
  assert.equal(w.request.headers['Authorization'], 'Bearer token2')
  await w.request.answer(401, { code: 'token_expired', detail: 'expired', retry: 'no' })
  await failed
  assert.equal(w.requests.length, 2)
  client.close()
})

test('a token that has expired at every reconnect does not make a storm', async () => {
  const w = new World()
  w.random = 1
  const client = connect('http://server', { environment: w.environment, token: () => 'old' })
  for (let i = 0; i < 12; i++) {
    const s = w.socket
    await s.accept()
    await s.say({ type: 'error', error: { code: 'token_expired' } as never })
    await s.cut(1008)
    await w.time.advance(10_000)
  }
  assert.equal(w.sockets.length, 13)
  client.close()
})
