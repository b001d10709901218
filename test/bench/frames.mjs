// What a binary form of the frames would save a client: size, and time to decode, of the same epoch as JSON and as MessagePack
// (https://github.com/msgpack/msgpack/blob/master/spec.md, as much of it as such frames need).
//
//	node test/bench/frames.mjs

const text = new TextEncoder()

function pack(value) {
  const out = []
  const sized = (n, fix, most, codes) => {
    if (n <= most) out.push(fix | n)
    else if (codes[0] && n < 256) out.push(codes[0], n)
    else out.push(codes[1], n >> 8, n & 255)
  }
  const add = (v) => {
    if (v === null) out.push(0xc0)
    else if (typeof v === 'boolean') out.push(v ? 0xc3 : 0xc2)
    else if (typeof v === 'number') {
      if (Number.isInteger(v) && v >= 0 && v < 128) out.push(v)
      else if (Number.isInteger(v) && v >= 0 && v < 2 ** 32) out.push(0xce, v >>> 24, (v >>> 16) & 255, (v >>> 8) & 255, v & 255)
      else out.push(0xcb, ...new Uint8Array(new Float64Array([v]).buffer).reverse())
    } else if (typeof v === 'string') {
      const b = text.encode(v)
      sized(b.length, 0xa0, 31, [0xd9, 0xda])
      out.push(...b)
    } else if (Array.isArray(v)) {
      sized(v.length, 0x90, 15, [0, 0xdc])
      v.forEach(add)
    } else {
      const all = Object.entries(v)
      sized(all.length, 0x80, 15, [0, 0xde])
      for (const [k, x] of all) add(k), add(x)
    }
  }
  add(value)
  return Uint8Array.from(out)
}

const decoder = new TextDecoder()
let at = 0
let view

function short(b, n) { // a call of TextDecoder costs more than a short text
  let s = ''
  for (const end = at + n; at < end; at++) {
    if (b[at] > 127) {
      const rest = decoder.decode(b.subarray(at, end))
      at = end
      return s + rest
    }
    s += String.fromCharCode(b[at])
  }
  return s
}

function string(b, n) {
  if (n < 24) return short(b, n)
  at += n
  return decoder.decode(b.subarray(at - n, at))
}

function array(b, n) {
  const all = new Array(n)
  for (let i = 0; i < n; i++) all[i] = next(b)
  return all
}

function map(b, n) {
  const all = {}
  for (let i = 0; i < n; i++) all[next(b)] = next(b)
  return all
}

function next(b) {
  const c = b[at++]
  if (c < 0x80) return c
  if (c < 0x90) return map(b, c & 15)
  if (c < 0xa0) return array(b, c & 15)
  if (c < 0xc0) return string(b, c & 31)
  switch (c) {
    case 0xc0: return null
    case 0xc2: return false
    case 0xc3: return true
    case 0xcb: return (at += 8), view.getFloat64(at - 8)
    case 0xce: return (at += 4), view.getUint32(at - 4)
    case 0xd9: return string(b, b[at++])
    case 0xda: return (at += 2), string(b, view.getUint16(at - 2))
    case 0xdc: return (at += 2), array(b, view.getUint16(at - 2))
    case 0xde: return (at += 2), map(b, view.getUint16(at - 2))
  }
  throw new Error('a byte of no meaning: ' + c)
}

function unpack(b) {
  at = 0
  view = new DataView(b.buffer, b.byteOffset, b.byteLength)
  return next(b)
}

const row = (i) => ({ contestant: 'contestant ' + i, votes: 1000 + i, share: i / 7, country: 'Österreich', open: true, last: '2026-11-22T19:26:47.123456Z' })
const frame = (rows) => ({
  type: 'epoch', position: 't2yw2ary4gfijqsr.0-123456', from: 't2yw2ary4gfijqsr.0-123455', at: 1795313749943.059,
  changes: { t: { put: Array.from({ length: rows }, (_, i) => row(i)) } },
})

function time(f, rows) {
  const times = []
  const n = Math.ceil(200_000 / (rows + 3))
  for (let round = 0; round < 9; round++) {
    const began = performance.now()
    for (let i = 0; i < n; i++) f()
    times.push(((performance.now() - began) * 1000) / n)
  }
  return times.sort((a, b) => a - b)[4]
}

console.log(`node ${process.version}; medians of 9 rounds; JSON comes as text of a WebSocket, MessagePack as bytes`)
for (const rows of [1, 10, 100]) {
  const json = JSON.stringify(frame(rows))
  const packed = pack(frame(rows))
  if (JSON.stringify(unpack(packed)) !== json) throw new Error('it comes back as something else')
  const a = time(() => JSON.parse(json), rows)
  const b = time(() => unpack(packed), rows)
  console.log(`${String(rows).padStart(3)} rows: ${text.encode(json).length} → ${packed.length} bytes, ${a.toFixed(2)} → ${b.toFixed(2)} µs to decode (${(b / a).toFixed(2)} times)`)
}
