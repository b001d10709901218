// node check.mjs FORMAT FILE: what is wrong with an exported document, one line each; exit code 1 when anything is.
import { readFileSync } from 'node:fs'

const [format, file] = process.argv.slice(2)
const text = readFileSync(file, 'utf8')
const say = (wrong) => {
  for (const w of wrong) console.log(typeof w === 'string' ? w : JSON.stringify(w))
  process.exitCode = wrong.length ? 1 : 0
}

if (format === 'asyncapi') {
  const { Parser } = await import('@asyncapi/parser')
  const { document, diagnostics } = await new Parser().parse(text)
  const wrong = diagnostics.filter((d) => d.severity === 0).map((d) => `${d.path.join('.')}: ${d.message}`)
  say(document || wrong.length ? wrong : ['it is no document'])
} else if (format === 'openapi') {
  const { Validator } = await import('@seriousme/openapi-schema-validator')
  const v = new Validator()
  const { valid, errors } = await v.validate(JSON.parse(text))
  const refs = []
  const known = v.resolveRefs({ specification: JSON.parse(text) }) // throws when a reference leads nowhere
  if (!known) refs.push('references cannot be resolved')
  say(valid ? refs : [errors].flat())
} else {
  // A JSON Schema of 2020-12, then lines of [pointer, value, allowed] on the standard input.
  const { default: Ajv } = await import('ajv/dist/2020.js')
  const { default: formats } = await import('ajv-formats')
  const ajv = new Ajv({ strict: false, allErrors: true })
  formats(ajv)
  const doc = JSON.parse(text)
  const wrong = ajv.validateSchema(doc) ? [] : ajv.errors
  ajv.addSchema(doc, 'doc')
  for (const line of readFileSync(0, 'utf8').split('\n').filter(Boolean)) {
    const [pointer, value, allowed] = JSON.parse(line)
    if (ajv.getSchema(`doc#${pointer}`)(value) !== allowed) wrong.push(`${line}: ${!allowed}`)
  }
  say(wrong)
}
