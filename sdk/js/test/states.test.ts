import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { timers, transitions } from '../src/states.ts'

const page = readFileSync('../../docs/sdk.md', 'utf8') // tests run in sdk/js

/** The rows of the table between two marks, each cell without its quotes. */
function table(mark: string): string[][] {
  const text = page.split(`<!-- ${mark} -->\n`)[1]?.split('<!-- end -->')[0] ?? ''
  return text.trim().split('\n').slice(2).map((line) => line.split('|').slice(1, -1).map((cell) => cell.trim().replaceAll('`', '')))
}

test('the page has every transition of the code, and no other', () => {
  const code = Object.entries(transitions).flatMap(([from, events]) => Object.entries(events).map(([event, to]) => [from, event, to]))
  assert.deepEqual(table('states').sort(), code.sort())
})

test('the page has every timer of the code, and no other', () => {
  assert.deepEqual(table('timers').map(([name, ms]) => [name, Number(ms)]), Object.entries(timers))
})
