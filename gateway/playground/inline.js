// Markdown inside a block: from text to DOM nodes. Nothing is parsed as HTML, so an answer cannot run scripts.
//
// With `open`, the text is still growing. Then a mark without its closing half counts as closed at the end of the text,
// so that `**` does not show until its other half has arrived.
//
// The work is linear in the text: a search for a closing mark that has failed is not repeated (`failed`).

import { element } from './element.js'
import { scrolling } from './overflow.js'
import { verbatim } from './verbatim.js'

const TOKEN = /\\[!-/:-@[-`{-~]|\\?\n|`+|\$+|\*{1,3}|_{1,3}|~~|!?\[|<|https?:\/\//g
const ADDRESS = /https?:\/\/[^\s<>"'`{}|\\^\u3000-\u303f\uff00-\uffef]+/y
const POINTED = /<((?:https?:\/\/|mailto:)[^\s<>]*)>/y
const BREAK = /<br ?\/?>/iy
const LABEL = /\[((?:[^[\]\n]|\[[^[\]\n]*\])*)\]/.source
const TARGET = /\(\s{0,8}<?((?:[^\s()<>]|\([^\s()<>]*\))*)>?(?:\s{1,8}["'][^\n]{0,300}?["'])?\s{0,8}\)/.source
const LINK = new RegExp(`(!?)${LABEL}${TARGET}`, 'y')
const UNFINISHED_LINK = /!?\[([^[\]\n]*)\]\([^\s)]{0,2000}$/y

/** Appends `text` to `parent` with emphasis, code, formulas and line breaks. With `linked`, it makes no links. */
export function inline(parent, text, { open = false, linked = false, failed = new Set() } = {}) {
  const kept = verbatim(text, open)
  const markup = without(text, kept)
  let at = 0
  for (const { 0: mark, index: from } of text.matchAll(TOKEN)) {
    if (from < at) continue // inside a node that is made already
    const reader = kept.has(from) ? asWritten : READERS[mark[0]]
    const made = reader?.({ text, markup, mark, from, open, linked, failed, kept })
    if (!made) continue // the mark is only text
    parent.append(text.slice(at, from), made.node)
    at = made.end
  }
  parent.append(text.slice(at))
}

/** The text with dots in place of code and formulas, so that no mark is found in them. */
function without(text, kept) {
  const parts = []
  let at = 0
  for (const [from, { end }] of kept) {
    parts.push(text.slice(at, from), '.'.repeat(end - from))
    at = end
  }
  return parts.join('') + text.slice(at)
}

// A reader gets the place of a mark. It returns the node that begins there and the end of its text, or nothing.

const READERS = {
  '\\': escaped,
  '\n': lineBreak,
  '*': emphasis,
  '_': emphasis,
  '~': emphasis,
  '[': link,
  '!': link,
  '<': pointed,
  'h': address,
}

function escaped({ mark, from }) {
  if (mark === '\\\n') return lineBreak({ mark, from })
  const cut = mark === '\\(' || mark === '\\[' // a formula without an end
  return { node: cut ? mark : mark[1], end: from + 2 }
}

/** As in chats, a line end is a line break. A formula on lines of its own already includes its line ends. */
function lineBreak({ text, mark, from, kept }) {
  const end = from + mark.length
  const isBefore = kept?.get(end)?.kind === 'math' && isDisplayed(text, end, kept.get(end).end)
  return isBefore ? asWritten({ text, from: end, kept }) : { node: element('br'), end }
}

function asWritten({ text, from, kept }) {
  const { kind, inner, end } = kept.get(from)
  if (kind === 'code') return { node: element('code', {}, inner), end }
  const displayed = isDisplayed(text, from, end)
  return { node: formula(inner, displayed), end: displayed && text[end] === '\n' ? end + 1 : end }
}

const MOST_OF_A_LINE = 24 // characters; such a formula fits a line of any phone, also in a list

/** A formula is never broken. One that may be wider than its line scrolls by itself. */
function formula(inner, displayed) {
  if (!displayed && inner.length <= MOST_OF_A_LINE) return element('span', { class: 'math' }, inner)
  const name = displayed ? 'math display' : 'math long'
  return scrolling(element('span', { class: name }, element('span', {}, inner)), 'Formula')
}

/** Does the formula have its lines for itself? */
function isDisplayed(text, from, end) {
  return /^(?:\\\[|\$\$)/.test(text.slice(from, from + 2)) && isEdge(text[from - 1]) && isEdge(text[end])
}

function isEdge(character = '\n') {
  return character === '\n'
}

const TAGS = { 1: ['em'], 2: ['strong'], 3: ['strong', 'em'] }
const WORD = /[\p{L}\p{N}]/u

function emphasis({ text, markup, mark, from, open, linked, failed }) {
  const start = from + mark.length
  const between = mark[0] === '_' // snake_case is no emphasis
  const opens = !/\s/.test(text[start] ?? (open ? 'x' : ' ')) && !(between && WORD.test(text[from - 1] ?? ''))
  if (!opens || failed.has(mark)) return null
  const close = run(markup, RUNS[mark[0]], start, (found, place) => {
    const fits = found.length === mark.length || found.length === 3 // three marks end both kinds
    const ends = place > start && !/\s/.test(text[place - 1])
    return fits && ends && !(between && WORD.test(text[place + found.length] ?? ''))
  })
  if (!close) failed.add(mark)
  if (!close && !open) return null
  const tags = mark[0] === '~' ? ['del'] : TAGS[mark.length]
  const nodes = tags.map((tag) => element(tag))
  nodes.reduce((outer, inner) => (outer.append(inner), inner))
  const inner = close ? text.slice(start, close.end - mark.length) : text.slice(start)
  inline(nodes.at(-1), inner, close ? { linked } : { open, linked, failed })
  return { node: nodes[0], end: close?.end ?? text.length }
}

const RUNS = { '*': /\*+/g, '_': /_+/g, '~': /~+/g }

function run(text, pattern, start, fits) {
  pattern.lastIndex = start
  for (let found = pattern.exec(text); found; found = pattern.exec(text)) {
    if (fits(found[0], found.index)) return { from: found.index, end: found.index + found[0].length }
  }
  return null
}

function link({ text, from, open, linked }) {
  const found = !linked && matchAt(LINK, text, from)
  if (found) {
    const [whole, image, label, target] = found
    const node = anchor(target)
    if (node) inline(node, (image && 'Image: ') + (label || target), { linked: true }) // an image would be a request
    return node && { node, end: from + whole.length }
  }
  const unfinished = open && matchAt(UNFINISHED_LINK, text, from)
  return unfinished ? { node: unfinished[1], end: text.length } : null
}

function pointed({ text, from, linked }) {
  const found = !linked && matchAt(POINTED, text, from)
  if (found) return { node: anchor(found[1], found[1]), end: from + found[0].length }
  const lineEnd = matchAt(BREAK, text, from) // models write it in table cells
  return lineEnd && lineBreak({ mark: lineEnd[0], from })
}

function address({ text, from, linked }) {
  if (linked) return null
  let found = matchAt(ADDRESS, text, from)?.[0] ?? ''
  while (/[.,;:!?*_~]/.test(found.at(-1)) || (found.endsWith(')') && !found.includes('('))) found = found.slice(0, -1)
  const node = anchor(found, found)
  return node && { node, end: from + found.length }
}

/** A link that tells its target nothing about this page, or null for a scheme that is not safe. */
function anchor(target, label = '') {
  const url = URL.canParse(target) ? new URL(target) : null
  if (!url || !SAFE_SCHEMES.has(url.protocol)) return null
  const node = element('a', { href: url.href, target: '_blank', rel: 'noopener noreferrer' }, label)
  if (!label) node.title = url.href // the text does not show the address
  return node
}

const SAFE_SCHEMES = new Set(['http:', 'https:', 'mailto:'])

function matchAt(pattern, text, from) {
  pattern.lastIndex = from
  return pattern.exec(text)
}
