// Tables, code and formulas that are wider than the page scroll by themselves. A fade shows that there is more.

const boxes = new WeakSet()

const resized = new ResizeObserver((entries) => {
  const targets = entries.map(({ target }) => target)
  for (const gone of targets.filter((target) => !target.isConnected)) resized.unobserve(gone)
  const concerned = targets.map((target) => (boxes.has(target) ? target : target.parentElement))
  for (const box of new Set(concerned)) if (boxes.has(box)) show(box)
})

/** Watches `box`, which scrolls sideways if its content is wider. `label` is its name. */
export function scrolling(box, label) {
  boxes.add(box)
  box.setAttribute('aria-label', label)
  box.setAttribute('role', 'group')
  box.addEventListener('scroll', () => show(box), { passive: true })
  resized.observe(box)
  return watchContent(box)
}

/** Call it again when the box has other children. */
export function watchContent(box) {
  for (const child of box.children) resized.observe(child)
  return box
}

/** Only a box that scrolls is a stop for the keyboard and a region for screen readers. */
function show(box) {
  const hidden = box.scrollWidth - box.clientWidth
  const passed = Math.abs(box.scrollLeft) // it counts downwards from 0 where text runs to the left
  box.classList.toggle('more-before', hidden > 1 && passed > 1)
  box.classList.toggle('more-after', hidden > 1 && passed < hidden - 1)
  box.setAttribute('role', hidden > 1 ? 'region' : 'group')
  if (hidden > 1) box.tabIndex = 0
  else box.removeAttribute('tabindex')
}
