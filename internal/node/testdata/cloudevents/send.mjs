// Sends events as the CloudEvents SDK writes them, and prints what each request was answered.
import { CloudEvent, HTTP } from 'cloudevents'

const [url] = process.argv.slice(2)
const event = (id, more) =>
  new CloudEvent({ id, source: '//gate/1', type: 'tap', time: '2026-01-31T12:00:00.250Z', tenant: 'a "x" 100%', data: { tag: 't' + id, gate: 1 }, ...more })

async function send(name, { headers, body }) {
  const r = await fetch(url, { method: 'POST', headers, body })
  const answer = await r.json()
  console.log(JSON.stringify([name, r.status, answer.accepted ?? answer.code, answer.duplicates ?? answer.field]))
}

await send('binary', HTTP.binary(event('1')))
await send('binary again', HTTP.binary(event('1')))
await send('structured', HTTP.structured(event('2')))
await send('binary after structured', HTTP.binary(event('2')))
await send('bytes', HTTP.structured(event('3', { data: Buffer.from(JSON.stringify({ tag: 't3', gate: 1 })), datacontenttype: 'application/json' })))
await send('text', HTTP.structured(event('4', { data: 'no row', datacontenttype: 'text/plain' })))
await send('text in binary', HTTP.binary(event('4', { data: 'no row', datacontenttype: 'text/plain' })))
await send('no data', HTTP.binary(event('4', { data: undefined })))
const batch = JSON.stringify([event('5'), event('2'), event('6'), event('5')])
await send('batch', { headers: { 'content-type': 'application/cloudevents-batch+json; charset=utf-8' }, body: batch })
