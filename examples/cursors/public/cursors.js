import { connect } from '/laaster.js'

const client = connect()
const color = '#' + Math.floor(Math.random() * 0xffffff).toString(16).padStart(6, '0')
const dots = new Map()

const here = client.presence('here', { name: 'guest' })
const who = () => {
  const live = client.state.name === 'live'
  document.querySelector('#who').textContent = live ? `${here.count} here` : client.state.name.replaceAll('_', ' ')
}
here.onChange(who)
client.onState(who)

const pointers = client.channel('pointers')
pointers.onChange(() => {
  const seen = new Set()
  for (const p of pointers.rows) {
    if (p.connection === client.connection) continue
    seen.add(p.connection)
    const dot = dots.get(p.connection) ?? document.body.appendChild(document.createElement('i'))
    dots.set(p.connection, dot)
    Object.assign(dot.style, { left: 100 * p.x + '%', top: 100 * p.y + '%', background: p.color })
  }
  for (const [name, dot] of dots) if (!seen.has(name)) { dot.remove(); dots.delete(name) }
})

let last = 0
addEventListener('pointermove', (e) => {
  if (e.timeStamp - last < 30) return // the server takes 50 a second, and screens show no more
  last = e.timeStamp
  pointers.set({ x: e.clientX / innerWidth, y: e.clientY / innerHeight, color })
})
