/** Compares two rows as Array.sort wants it. */
export type Compare<R> = (a: R, b: R) => number

/** Text by code points, which is PostgreSQL's C collation of UTF-8; JavaScript's own < compares UTF-16 units. */
function text(a: string, b: string): number {
  const n = Math.min(a.length, b.length)
  for (let i = 0; i < n; i++) {
    let x = a.charCodeAt(i)
    let y = b.charCodeAt(i)
    if (x === y) continue
    if (x >= 0xd800 && y >= 0xd800) {
      // surrogates stand for code points above all others
      if (x <= 0xdfff) x += 0x10000
      if (y <= 0xdfff) y += 0x10000
    }
    return x - y
  }
  return a.length - b.length
}

function values(a: unknown, b: unknown): number {
  if (typeof a === 'string' && typeof b === 'string') return text(a, b)
  if (typeof a === 'object') a = JSON.stringify(a)
  if (typeof b === 'object') b = JSON.stringify(b)
  return (a as number) < (b as number) ? -1 : (a as number) > (b as number) ? 1 : 0
}

/**
 * The comparison that `order` asks for (`total.desc,country.asc.nullslast`), ties broken by the key columns. NULL is last
 * ascending and first descending unless said otherwise.
 * @internal
 */
export function comparison(order: string, key: readonly string[]): Compare<Record<string, unknown>> {
  const terms = [...order.split(',').filter(Boolean), ...key].map((term) => {
    const [column = '', ...words] = term.trim().split('.')
    const sign = words.includes('desc') ? -1 : 1
    const nulls = words.includes('nullsfirst') ? -1 : words.includes('nullslast') ? 1 : sign
    return { column, sign, nulls }
  })
  return (a, b) => {
    for (const { column, sign, nulls } of terms) {
      const x = a[column] ?? null
      const y = b[column] ?? null
      const c = x === null || y === null ? (x === y ? 0 : x === null ? nulls : -nulls) : sign * values(x, y)
      if (c) return c
    }
    return 0
  }
}
