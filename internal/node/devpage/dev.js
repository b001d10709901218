// Shown on pages that `laaster dev` serves: reloads them when their files change and says what is wrong with app.sql.
let box = null

function show(text) {
  if (!box) {
    box = document.createElement('div')
    box.id = 'laaster-dev'
    box.setAttribute('role', 'alert')
    Object.assign(box.style, {
      position: 'fixed', inset: 'auto 0 0 0', maxHeight: '60vh', overflow: 'auto', margin: '0', padding: '1rem 1.25rem',
      font: '13px/1.5 ui-monospace, monospace', whiteSpace: 'pre-wrap', color: '#fff', background: '#7a1f1f',
      borderTop: '3px solid #e5484d', zIndex: '2147483647', tabSize: '4', textAlign: 'left',
    })
  }
  // A line of the source and the carets below it stay together: they scroll sideways instead of being wrapped.
  const parts = ('laaster dev: the running app is the last one that worked.\n\n' + text).split(/((?:^ +\d* \|.*\n?)+)/m)
  box.replaceChildren(...parts.map((part, i) => {
    const el = document.createElement('div')
    el.textContent = part.replace(/\n$/, '')
    if (i % 2) {
      Object.assign(el.style, { whiteSpace: 'pre', overflowX: 'auto' })
      el.tabIndex = 0
    }
    return el
  }))
  document.body.append(box)
}

const events = new EventSource('/v1/dev')
events.addEventListener('problem', (e) => show(JSON.parse(e.data).text))
events.addEventListener('fine', () => box?.remove())
events.addEventListener('reload', () => location.reload())
