// This page makes all its elements here. It never parses markup.

/** `element('a', {href: '...'}, 'label')`; children are nodes or text. */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value)
  node.append(...children)
  return node
}
