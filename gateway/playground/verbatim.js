// The parts of a text that are shown as they were written: code and formulas.
//
// Formulas are shown as TeX, since a library that typesets them is larger than this page.
//
// The work is linear in the text: a search for a closing mark that has failed is not repeated (`failed`).

const MARK = /\\[^]|`+|\$+/g
const FORMULAS = {
  '\\(': { closing: '\\)', pattern: /\\.|\n/g }, // within a line
  '\\[': { closing: '\\]', pattern: /\\[^]/g },
  '$$': { closing: '$$', pattern: /\\[^]|\$+/g },
}

/**
 * A map from the place where each part begins to {kind, inner, end}. With `open`, a part that is not closed goes to the
 * end of the text. With `codeWithinLine`, code must be closed in its line, because the paragraphs are not known yet.
 */
export function verbatim(text, open, { codeWithinLine = false } = {}) {
  const found = new Map()
  const failed = new Map() // from a closing mark to the place up to which there is none
  const marks = new RegExp(MARK)
  for (let match = marks.exec(text); match; match = marks.exec(text)) {
    const part = read({ text, mark: match[0], from: match.index, open, failed, codeWithinLine })
    if (!part) continue
    found.set(match.index, part)
    marks.lastIndex = part.end
  }
  return found
}

function read(place) {
  if (place.mark[0] === '`') return code(place)
  if (place.mark === '$') return dollar(place)
  return FORMULAS[place.mark] ? formula(place) : null
}

function code({ text, mark, from, open, failed, codeWithinLine }) {
  const start = from + mark.length
  const close = find(text, codeWithinLine ? /`+|\n/g : /`+/g, start, mark, failed)
  if (close < 0 && (!open || codeWithinLine)) return null
  const end = close < 0 ? text.length : close
  const inner = text.slice(start, end).replaceAll('\n', ' ')
  const padded = inner.startsWith(' ') && inner.endsWith(' ') && inner.trim() // a backtick is written as `` ` ``
  return { kind: 'code', inner: padded ? inner.slice(1, -1) : inner, end: close < 0 ? end : end + mark.length }
}

function formula({ text, mark, from, open, failed }) {
  const { closing, pattern } = FORMULAS[mark]
  const close = find(text, pattern, from + mark.length, closing, failed)
  if (close < 0 && (!open || failed.get(closing) < text.length)) return null
  const end = close < 0 ? text.length : close + closing.length
  const inner = text.slice(from, end)
  const doubtful = mark === '$$' && !beginsLine(text, from) // guides write "$$" for a high price
  if (doubtful && (inner.includes('\n') || !isFormula(inner.slice(2, -2).trim(), close >= 0))) return null
  return { kind: 'math', inner, end }
}

/** The place of the first match that is `wanted`, or -1 if a matched line end or the end of the text comes first. */
function find(text, pattern, start, wanted, failed) {
  if (start < (failed.get(wanted) ?? 0)) return -1
  pattern.lastIndex = start
  let match = pattern.exec(text)
  while (match && match[0] !== wanted && match[0] !== '\n') match = pattern.exec(text)
  if (match?.[0] === wanted) return match.index
  failed.set(wanted, match?.index ?? text.length)
  return -1
}

const LINE_START = /(?:^|\n)[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?$/
const LONGEST_START = 40 // characters to look back, since a line may be long

function beginsLine(text, from) {
  const before = text.slice(Math.max(0, from - LONGEST_START), from)
  return LINE_START.test(from > LONGEST_START ? `x${before}` : before)
}

// A single dollar is a price more often than a formula. In doubt, it is no formula.

const LINE = /[^\\$\n]*(?:\\(?:[^\n]|$)[^\\$\n]*)*/y // up to the next dollar; `\$` belongs to the formula
const WORD = /[\p{L}\p{N}]/u

function dollar({ text, from, open }) {
  if (WORD.test(text[from - 1] ?? '')) return null // US$5
  LINE.lastIndex = from + 1
  const [inner] = LINE.exec(text)
  const close = from + 1 + inner.length
  const closed = text[close] === '$' && text[close + 1] !== '$' && !WORD.test(text[close + 1] ?? '')
  const growing = open && close === text.length
  if (!(closed || growing) || !isFormula(inner, closed)) return null
  return { kind: 'math', inner: text.slice(from, close + 1), end: Math.min(close + 1, text.length) }
}

const STARTS = /^[\p{L}\p{N}\\({[|+-]/u
const ENDS = /[\p{L}\p{N})}\]|!'*%]$/u

function isFormula(inner, closed) {
  if (!STARTS.test(inner) || (closed && !ENDS.test(inner))) return false
  if (/[\\^]/.test(inner)) return true
  if (/^\d/.test(inner)) return closed && !/\s/.test(inner)
  return !/\s/.test(inner) || /[_={}<>+]/.test(inner)
}
