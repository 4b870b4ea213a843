// Markdown as models write it, to DOM nodes. It is forgiving, knows no HTML, and is fast for a growing text.
//
// A growing text changes only at its end. So each time only the last two blocks are read again, and the others stay in
// the page. They are two because a line that is not whole yet may turn out to belong to the block before it.
//
// Left as text: code by indentation, underlined headings, reference links, footnotes and HTML.

import { parse } from './blocks.js'
import { element } from './element.js'
import { inline } from './inline.js'
import { scrolling, watchContent } from './overflow.js'

/** Returns `show(text, {open})`, which shows the text in `root`. Each text must begin with the one before it. */
export function markdown(root) {
  let settled = 0 // characters whose blocks are final
  let drawn = [] // the blocks after them, as they are in the page
  return function show(text, { open = false } = {}) {
    const blocks = parse(text.slice(settled), open)
    const before = drawn
    drawn = blocks.map((block, place) => draw(block, before[place], open && place === blocks.length - 1))
    for (const [place, { node }] of drawn.entries()) {
      if (!before[place]) root.append(node)
      else if (before[place].node !== node) before[place].node.replaceWith(node)
    }
    for (const { node } of before.slice(drawn.length)) node.remove()
    drawn = drawn.slice(-2)
    settled += drawn[0]?.block.from ?? 0
  }
}

/** Draws the block anew, or keeps the node of `before` if nothing has changed or only code has grown. */
function draw(block, before, open) {
  const same = before?.block.kind === block.kind && before.block.language === block.language
  if (same && before.block.raw === block.raw && before.open === open) return { ...before, block }
  if (same && block.kind === 'code' && block.text.startsWith(before.block.text)) {
    before.node.querySelector('code').append(block.text.slice(before.block.text.length)) // keeps the person's selection
    return { node: before.node, block, open }
  }
  const node = NODES[block.kind](block, open)
  if (!same || block.kind !== 'table') return { node, block, open }
  before.node.replaceChildren(...node.children) // keeps the place to which the person has scrolled
  return { node: watchContent(before.node), block, open }
}

const NODES = { paragraph, heading, rule, quote, list, table, code }

function paragraph({ text }, open) {
  return filled(element('p'), text, open)
}

function heading({ level, text }, open) {
  return filled(element(`h${Math.min(level + 3, 6)}`), text, open) // the page itself uses the first three levels
}

function rule() {
  return element('hr')
}

function quote({ blocks }, open) {
  return element('blockquote', {}, ...nodes(blocks, open))
}

function list({ ordered, start, items }, open) {
  const entries = items.map((blocks, place) => entry(blocks, open && place === items.length - 1))
  return element(ordered ? 'ol' : 'ul', ordered && start !== 1 ? { start } : {}, ...entries)
}

const TASK = /^\[([ xX])\]\s+(?=\S)/

function entry([first, ...others], open) {
  const item = element('li')
  const [mark = '', state] = TASK.exec(first?.text ?? '') ?? []
  if (state) item.append(checkbox(state !== ' '))
  if (state) item.className = 'task'
  if (first?.kind === 'paragraph') filled(item, first.text.slice(mark.length), open && !others.length)
  else if (first) others.unshift(first)
  item.append(...nodes(others, open))
  return item
}

function checkbox(isDone) {
  const state = isDone ? { checked: '', 'aria-label': 'Done' } : { 'aria-label': 'Not done' }
  return element('input', { type: 'checkbox', disabled: '', ...state })
}

const LONG_CELL = 16 // characters; a longer cell gets a least width of a few words

function table({ head, rows, sides }, open) {
  const row = (cells, tag, growing) => {
    const made = sides.map((side, place) => {
      const text = cells[place] ?? ''
      const name = [side, text.length > LONG_CELL && 'long'].filter(Boolean).join(' ')
      const cell = element(tag, name ? { class: name } : {})
      return filled(cell, text, growing && place === cells.length - 1)
    })
    return element('tr', {}, ...made)
  }
  const body = rows.map((cells, place) => row(cells, 'td', open && place === rows.length - 1))
  const whole = element('table', {}, element('thead', {}, row(head, 'th', false)), element('tbody', {}, ...body))
  return scrolling(element('div', { class: 'table' }, whole), 'Table')
}

function code({ language, text }) {
  const bar = element('div', { class: 'code-bar' }, element('span', {}, language || 'text'))
  const body = element('code', {}, text)
  if (navigator.clipboard) bar.append(copyButton(body)) // only https and localhost have it
  const pre = scrolling(element('pre', {}, body), language ? `Code, ${language}` : 'Code')
  return element('div', { class: 'code' }, bar, pre)
}

function copyButton(source) {
  const button = element('button', { type: 'button', class: 'quiet' }, 'Copy')
  button.addEventListener('click', async () => {
    const copied = await navigator.clipboard.writeText(source.textContent).then(() => true, () => false)
    button.textContent = copied ? 'Copied' : 'Not allowed'
    setTimeout(() => { button.textContent = 'Copy' }, 1500)
  })
  return button
}

function nodes(blocks, open) {
  return blocks.map((block, place) => NODES[block.kind](block, open && place === blocks.length - 1))
}

function filled(node, text, open) {
  inline(node, text, { open })
  return node
}
