// The report of laaster bench, opened as a file: pictures, both schemes, two widths, axe-core, nothing fetched, nothing beside the page.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createRequire } from 'node:module'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { after, before, test } from 'node:test'
import { browser, open, picture } from './lib.mjs'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const looks = [390, 1440].flatMap((width) => ['light', 'dark'].map((scheme) => ({ width, height: 900, scheme })))

let b, folder
before(async () => {
  b = await browser()
  folder = mkdtempSync(path.join(tmpdir(), 'laaster-e2e-bench-'))
})
after(async () => {
  await b.close()
  rmSync(folder, { recursive: true })
})

for (const [profile, ...flags] of [
  ['fanout', '--clients', '20', '--rate', '200', '--time', '3s', '--warm', '100ms'],
  ['ingest', '--rates', '2000,4000', '--time', '2s', '--warm', '100ms'],
]) {
  test(`the report of ${profile}`, async () => {
    const file = path.join(folder, profile + '.html')
    await promisify(execFile)(process.env.LAASTER_BIN, ['bench', profile, ...flags, '--html', file])
    for (const look of looks) {
      const page = await open(b, 'about:blank', look)
      const fetched = []
      page.on('request', (q) => fetched.push(q.url()))
      await page.goto(pathToFileURL(file).href)
      assert.deepEqual(fetched, [pathToFileURL(file).href])
      assert.equal(await page.title(), 'laaster bench ' + profile)
      const seen = await page.evaluate(() => ({
        wide: document.documentElement.scrollWidth > innerWidth,
        pictures: document.querySelectorAll('svg[role=img]').length,
        // Lines within their picture, and no two texts of one picture over each other.
        out: [...document.querySelectorAll('svg')].filter((svg) => {
          const r = svg.getBoundingClientRect()
          return [...svg.querySelectorAll('path.line')].some((p) => {
            const q = p.getBoundingClientRect()
            return q.left < r.left - 1 || q.right > r.right + 1 || q.top < r.top - 3 || q.bottom > r.bottom + 1
          })
        }).length,
        over: [...document.querySelectorAll('svg')].flatMap((svg) => {
          const texts = [...svg.querySelectorAll('text')].map((t) => ({ text: t.textContent, r: t.getBoundingClientRect() }))
          return texts.flatMap((a, i) => texts.slice(0, i).filter((c) => a.r.left < c.r.right - 1 && c.r.left < a.r.right - 1 && a.r.top < c.r.bottom - 4 && c.r.top < a.r.bottom - 4).map((c) => `${a.text} over ${c.text}`))
        }),
        paper: getComputedStyle(document.body).backgroundColor,
      }))
      await picture(page, `bench-${profile}-${look.width}-${look.scheme}`)
      assert.ok(seen.pictures >= 5, `${seen.pictures} pictures`)
      assert.deepEqual({ wide: seen.wide, out: seen.out, over: seen.over }, { wide: false, out: 0, over: [] })
      assert.equal(seen.paper, look.scheme === 'dark' ? 'rgb(21, 24, 28)' : 'rgb(252, 252, 251)')
      await page.evaluate(axe)
      const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }))
      assert.deepEqual(violations.filter((v) => ['serious', 'critical'].includes(v.impact)).map((v) => `${v.id}: ${v.nodes[0].html.slice(0, 120)}`), [])
      assert.deepEqual(page.problems, [])
      await page.context().close()
    }
  })
}
