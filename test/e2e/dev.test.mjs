// `laaster dev`: what is saved is running, what is broken is said in the terminal and on the page, and the page follows its files.

import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { browser, open, picture, Server, until } from './lib.mjs'

const sql = `CREATE TABLE votes (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), who text NOT NULL) WITH (append_only);
CREATE MATERIALIZED VIEW tally AS SELECT who, count(*) AS votes FROM votes GROUP BY who;
GRANT INSERT ON votes TO anon;
GRANT SELECT ON tally TO anon;
`
const html = (title) => `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${title}</title><link rel="stylesheet" href="/style.css"><main><h1>${title}</h1><p id="rows"></p></main><script type="module" src="/page.js"></script></html>`
const css = `:root { color-scheme: light dark } body { font: 1rem/1.5 system-ui; margin: 2rem; background: Canvas; color: CanvasText }`
const js = `import { connect } from '/laaster.js'
const tally = connect().subscribe('tally')
tally.onChange(() => (document.getElementById('rows').textContent = JSON.stringify(tally.rows)))`

let b
before(async () => (b = await browser()))
after(() => b.close())

test('save, break, repair, with pages open', async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), 'laaster-dev-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const save = (name, text) => writeFileSync(path.join(folder, name), text)
  mkdirSync(path.join(folder, 'public'))
  save('app.sql', sql)
  save('public/index.html', html('One'))
  save('public/style.css', css)
  save('public/page.js', js)
  const server = await Server.for(t, folder, 'dev')
  await server.post('votes', [{ who: 'A' }, { who: 'A' }, { who: 'B' }])
  const looks = [390, 1280].flatMap((width) => ['light', 'dark'].map((scheme) => ({ width, height: 800, scheme })))
  const pages = await Promise.all(looks.map((look) => open(b, server.url, look)))
  const rows = (text) => Promise.all(pages.map((page) => page.waitForFunction((want) => document.getElementById('rows').textContent === want, text)))
  const overlay = (page, state) => page.waitForSelector('#laaster-dev', { state, timeout: 15_000 })
  await rows('[{"who":"A","votes":2},{"who":"B","votes":1}]')

  // A good change: a new view is served, and the pages see the changed one without being loaded again.
  await Promise.all(pages.map((page) => page.evaluate(() => (globalThis.mark = 1))))
  save('app.sql', sql.replace('count(*) AS votes', 'count(*) * 10 AS points') + 'CREATE MATERIALIZED VIEW all_votes AS SELECT count(*) AS n FROM votes;\nGRANT SELECT ON all_votes TO anon;\n')
  await rows('[{"who":"A","points":20},{"who":"B","points":10}]')
  assert.deepEqual(await server.get('all_votes'), [{ n: 3 }])
  assert.deepEqual(await Promise.all(pages.map((page) => page.evaluate(() => globalThis.mark))), [1, 1, 1, 1])
  await until('the terminal says it', async () => /deployed: [^]*view all_votes is new[^]*in effect at/.test(server.log))

  // A broken one: said in both places, with the line, and the app that worked goes on. Saved by rename, as editors do.
  const broken = sql.replace('GROUP BY who', 'GROUP BY whom')
  save('app.sql~', broken.slice(0, 200))
  save('app.sql~', broken)
  renameSync(path.join(folder, 'app.sql~'), path.join(folder, 'app.sql'))
  await Promise.all(pages.map((page) => overlay(page, 'visible')))
  for (const [i, page] of pages.entries()) {
    const text = await page.textContent('#laaster-dev')
    assert.match(text, /app\.sql:2:\d+: error: [^]*whom[^]*\^\^\^\^/)
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false, 'it does not make the page scroll sideways')
    await picture(page, `dev-${looks[i].width}-${looks[i].scheme}`)
  }
  assert.match(server.log, /problem: app\.sql:2:\d+: error: /)
  await server.post('votes', [{ who: 'A' }])
  await rows('[{"who":"A","points":30},{"who":"B","points":10}]')

  // A page that is opened or loaded now says it too; saving it loads it again.
  save('public/index.html', html('Two'))
  await Promise.all(pages.map((page) => page.waitForFunction(() => document.title === 'Two')))
  await Promise.all(pages.map((page) => overlay(page, 'visible')))

  // Repaired: it goes away.
  save('app.sql', sql.replace('count(*) AS votes', 'count(*) * 10 AS points') + 'CREATE MATERIALIZED VIEW all_votes AS SELECT count(*) AS n FROM votes;\nGRANT SELECT ON all_votes TO anon;\n')
  await Promise.all(pages.map((page) => overlay(page, 'detached')))

  // Settings are for the next start.
  save('laaster.yaml', 'limits:\n  row: 100KiB\n')
  await Promise.all(pages.map((page) => overlay(page, 'visible')))
  assert.match(await pages[0].textContent('#laaster-dev'), /laaster\.yaml has changed[^]*restart/)
  rmSync(path.join(folder, 'laaster.yaml'))
  await Promise.all(pages.map((page) => overlay(page, 'detached')))
  for (const page of pages) assert.deepEqual(page.problems, [])
})
