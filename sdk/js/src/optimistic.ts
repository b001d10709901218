import type { WireRow, WriteRequest } from './wire.ts'

/** What a write is expected to do to the rows of a view, shown until the truth is here. */
export interface Expected {
  view: string
  /** Rows as they will be; columns that are left out keep their values. Each needs the key columns of the view. */
  put?: readonly object[]
  /** Keys of rows that will be gone: values in the order of the view's key. */
  del?: readonly (readonly unknown[])[]
}

/** The same, and what follows from a filter: where and patch change rows, where alone takes them away. @internal */
export interface Effect {
  view: string
  put?: readonly WireRow[]
  del?: readonly (readonly unknown[])[]
  where?: string
  patch?: WireRow
}

/** The effects of a write on the views of its own table, or those that are given. @internal */
export function effects(w: WriteRequest, given: boolean | readonly Expected[]): Effect[] {
  if (typeof given === 'object') return given as readonly Effect[] as Effect[]
  if (!given) return []
  if (w.rows) return [{ view: w.table, put: w.rows as WireRow[] }]
  return [{ view: w.table, where: w.filter ?? '', ...(w.patch ? { patch: w.patch } : {}) }]
}

/** Whether a row meets the conditions of a filter; undefined when there are others than `eq`, which only the server decides. @internal */
export function meets(filter: string, row: WireRow): boolean | undefined {
  let known: true | undefined = true
  for (const [column, condition] of new URLSearchParams(filter)) {
    if (!condition.startsWith('eq.')) known = undefined
    else if (String(row[column] ?? '') !== condition.slice(3)) return false
  }
  return known
}
