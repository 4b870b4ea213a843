// The blocks of Markdown: from text to objects {kind, raw, from, ...}. `raw` is the source, and `from` is its place.
//
// The lines are read once, from the top. A reader gets all lines and the number of the first one to read. It returns a
// block with the number of the first line behind it (`next`), or null if its kind of block does not begin there.

import { verbatim } from './verbatim.js'

const DEEPEST = 8 // levels of nested lists and quotes; deeper levels are text

/** The blocks of `text`. With `open`, the text is still growing, and its last line may not be whole. */
export function parse(text, open) {
  return parseLines(text.split('\n'), open, 0)
}

function parseLines(all, open, depth) {
  const lines = withWholeFormulas(all, open)
  const blocks = []
  for (let at = 0, from = 0; at < lines.length;) {
    const { next, ...block } = lines[at].trim() ? read(lines, at, open, depth) : { next: at + 1 }
    const raw = lines.slice(at, next).join('\n')
    if (block.kind) blocks.push({ ...block, raw, from })
    from += raw.length + 1
    at = next
  }
  return blocks
}

const FORMULA = /\\\[|\$\$/
const HELD = '\ud800' // stands for a line end; text that was decoded from UTF-8 never contains it

/** The lines, with a formula as one line, so that its `- b` is no list. A blank line ends a formula. */
function withWholeFormulas(lines, open) {
  if (!lines.some((line) => FORMULA.test(line))) return lines
  const whole = []
  for (let at = 0; at < lines.length; at++) {
    const next = first(lines, at, (line) => !line.trim() || FENCE.test(line))
    const text = lines.slice(at, next).join('\n')
    for (const line of next > at ? held(text, open && isEnd(lines, next)).split('\n') : []) {
      whole.push(line.replaceAll(HELD, '\n'))
    }
    if (next < lines.length) whole.push(lines[next])
    at = next
  }
  return whole
}

function held(text, open) {
  const parts = []
  let at = 0
  for (const [from, { kind, end }] of verbatim(text, open, { codeWithinLine: true })) {
    if (kind !== 'math') continue
    parts.push(text.slice(at, from), text.slice(from, end).replaceAll('\n', HELD))
    at = end
  }
  return parts.join('') + text.slice(at)
}

function read(lines, at, open, depth) {
  for (const reader of READERS) {
    const block = reader(lines, at, open, depth)
    if (block) return block
  }
  return paragraph(lines, at, open)
}

const READERS = [fence, heading, rule, quote, list, table] // `rule` before `list`, since `* * *` is a rule

const FENCE = /^(\s*)(`{3,}|~{3,})\s*([^`\s]*)[^`]*$/
const HEADING = /^ {0,3}(#{1,6})(?:\s+(.*))?$/
const RULE = /^ {0,3}([-*_])(?: *\1){2,} *$/
const QUOTE = /^ {0,3}> ?/
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])(?:\s+(.*))?$/s
const INTERRUPTING_ITEM = /^\s*(?:[-*+]|1[.)])\s+\S/ // "1984. " in a paragraph is a year

function fence(lines, at) {
  const [, indent, marks, language] = FENCE.exec(lines[at]) ?? []
  if (!marks) return null
  const close = first(lines, at + 1, (line) => line.trim().startsWith(marks) && !line.trim().replaceAll(marks[0], ''))
  const text = lines.slice(at + 1, close).map((line) => dedented(line, indent.length)).join('\n')
  return { kind: 'code', language, text, next: Math.min(close + 1, lines.length) }
}

function heading(lines, at) {
  const [, marks, text = ''] = HEADING.exec(lines[at]) ?? []
  return marks ? { kind: 'heading', level: marks.length, text: text.trim().replace(/ #+$/, ''), next: at + 1 } : null
}

function rule(lines, at) {
  return RULE.test(lines[at]) ? { kind: 'rule', next: at + 1 } : null
}

function quote(lines, at, open, depth) {
  const next = first(lines, at, (line) => !QUOTE.test(line))
  if (next === at || depth === DEEPEST) return null
  const inner = lines.slice(at, next).join('\n').split('\n').map((line) => line.replace(QUOTE, ''))
  return { kind: 'quote', blocks: parseLines(inner, open && isEnd(lines, next), depth + 1), next }
}

function list(lines, at, open, depth) {
  const [, indent, marker] = ITEM.exec(lines[at]) ?? []
  if (!marker || depth === DEEPEST) return null
  const ordered = marker.length > 1
  const inside = indentOf(indent) + 2 // models indent by two, three or four blanks
  const width = indentOf(indent) + marker.length + 1
  const items = []
  let next = at
  for (let blank = false; next < lines.length; next++) {
    const line = lines[next]
    const [, outer, other, content = ''] = ITEM.exec(line) ?? []
    const begun = other && indentOf(outer) < inside && other.length > 1 === ordered && !RULE.test(line)
    if (begun) items.push([dedented(content, width)])
    else if (!line.trim()) items.at(-1).push('')
    else if (indentOf(line) >= inside) items.at(-1).push(dedented(line, width))
    else if (blank || begins(lines, next, open)) break
    else items.at(-1).push(line.trimStart()) // the item's paragraph goes on without an indent
    blank = !line.trim()
  }
  const grows = open && isEnd(lines, next)
  const blocks = items.map((item, place) => parseLines(item, grows && place === items.length - 1, depth + 1))
  return { kind: 'list', ordered, start: parseInt(marker, 10), items: blocks, next }
}

function table(lines, at, open) {
  const said = sidesOf(lines, at + 1, open)
  const head = cells(lines[at])
  if (!said || !lines[at].includes('|') || said.length > head.length) return null
  const sides = head.map((_, place) => said[place]) // a row that is still growing has fewer marks
  const next = first(lines, at + 2, (line) => !line.includes('|'))
  return { kind: 'table', head, sides, rows: lines.slice(at + 2, next).map(cells), next }
}

/** The sides of the columns from a line like `|:---|---:|`, or null for any other line. */
function sidesOf(lines, at, open) {
  const line = lines[at] ?? ''
  const growing = open && at === lines.length - 1
  const marks = cells(line)
  if (!line.includes('|') || !marks.every((mark) => (growing ? /^:?-*:?$/ : /^:?-+:?$/).test(mark))) return null
  return marks.map((mark) => (mark.endsWith('-:') ? (mark.startsWith(':') ? 'middle' : 'end') : ''))
}

function cells(line) {
  const inner = line.trim().replace(/^\|/, '').replace(/(?<!\\)\|$/, '')
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll('\\|', '|'))
}

function paragraph(lines, at, open) {
  const next = first(lines, at + 1, (line, place) => !line.trim() || begins(lines, place, open))
  return { kind: 'paragraph', text: lines.slice(at, next).map((line) => line.trim()).join('\n'), next }
}

/** Does something other than a paragraph begin at this line? */
function begins(lines, at, open) {
  const line = lines[at]
  const told = [FENCE, HEADING, RULE, QUOTE, INTERRUPTING_ITEM].some((pattern) => pattern.test(line))
  return told || (line.includes('|') && sidesOf(lines, at + 1, open) !== null)
}

/** Does the text end at this line, or behind it if it is blank? */
function isEnd(lines, next) {
  return next + 1 >= lines.length && !lines[next]?.trim()
}

/** The number of the first line from `at` on that fits, or the number of lines if none fits. */
function first(lines, at, fits) {
  let place = at
  while (place < lines.length && !fits(lines[place], place)) place += 1
  return place
}

function indentOf(line) {
  const [blanks] = /^[ \t]*/.exec(line)
  return blanks.replaceAll('\t', '    ').length
}

/** The line without the first `width` columns of blanks. If it is a formula of several lines, each of them. */
function dedented(line, width) {
  if (line.includes('\n')) return line.split('\n').map((one) => dedented(one, width)).join('\n')
  let at = 0
  for (let left = width; left > 0 && ' \t'.includes(line[at] ?? 'x'); at++) left -= line[at] === '\t' ? 4 : 1
  return line.slice(at)
}
