// Tables, code and formulas that are wider than the page. They scroll by themselves; a fade at the edge shows that there is more.

const boxes = new WeakSet()

const resized = new ResizeObserver((entries) => {
  const targets = entries.map(({ target }) => target)
  for (const gone of targets.filter((target) => !target.isConnected)) resized.unobserve(gone)
  const concerned = targets.map((target) => (boxes.has(target) ? target : target.parentElement))
  for (const box of new Set(concerned)) if (boxes.has(box)) show(box)
})

/** Watches `box`, which scrolls sideways where its content is wider, and to which `label` gives a name. */
export function scrolling(box, label) {
  boxes.add(box)
  box.setAttribute('aria-label', label)
  box.setAttribute('role', 'group')
  box.addEventListener('scroll', () => show(box), { passive: true })
  resized.observe(box)
  return watchContent(box)
}

/** To be called again when the box has got other children. */
export function watchContent(box) {
  for (const child of box.children) resized.observe(child)
  return box
}

/** Only a box that scrolls can be reached by keyboard, and is a place of its own to a screen reader. */
function show(box) {
  const hidden = box.scrollWidth - box.clientWidth
  const passed = Math.abs(box.scrollLeft) // it counts downwards from 0 where text runs to the left
  box.classList.toggle('more-before', hidden > 1 && passed > 1)
  box.classList.toggle('more-after', hidden > 1 && passed < hidden - 1)
  box.setAttribute('role', hidden > 1 ? 'region' : 'group')
  if (hidden > 1) box.tabIndex = 0
  else box.removeAttribute('tabindex')
}
