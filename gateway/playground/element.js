// The one way in which this page makes elements: no markup is ever parsed.

/** `element('a', {href: '...'}, 'label')`; children are nodes or text. */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value)
  node.append(...children)
  return node
}
