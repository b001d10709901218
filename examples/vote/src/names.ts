// Names and flags of the countries in the data, those that no longer exist included.

const gone: Record<string, string> = { YU: 'Yugoslavia', CS: 'Serbia and Montenegro', BA: 'Bosnia and Herzegovina', MK: 'North Macedonia' }
const names = new Intl.DisplayNames('en', { type: 'region', fallback: 'code' })

/** The country's name in English; the code itself when nobody knows it. */
export function nameOf(code: string): string {
  if (gone[code]) return gone[code]
  try {
    return names.of(code) ?? code
  } catch {
    return code // not the form of a code
  }
}

/** Whether this machine draws flags; some draw two letters or two boxes instead. */
const drawsFlags = ((): boolean => {
  const c = document.createElement('canvas').getContext('2d', { willReadFrequently: true })
  if (!c) return false
  c.font = '16px sans-serif'
  c.fillText('\u{1F1EB}\u{1F1F7}', 0, 16)
  const { data } = c.getImageData(0, 0, 24, 24)
  for (let i = 0; i < data.length; i += 4) if (data[i] !== data[i + 1]) return true // colour: not letters
  return false
})()

/** Puts the flag into el, or the code where flags cannot be drawn. */
export function showFlag(el: Element, code: string): void {
  if (drawsFlags && !['YU', 'CS'].includes(code)) {
    el.textContent = String.fromCodePoint(...[...code].map((c) => 0x1f1a5 + c.charCodeAt(0)))
  } else {
    el.textContent = code
    el.classList.add('code')
  }
}
