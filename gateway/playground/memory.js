// Keeps the conversation and the API key of this tab over a reload. The browser forgets both with the tab.

const CONVERSATION = 'conversation'
const KEY = 'key'

/** `records` are plain values. Browsers keep 5 MB. Of more, pictures are dropped first, then the oldest records. */
export function keepConversation(records) {
  if (keep(CONVERSATION, JSON.stringify(records))) return
  const bare = records.map(withoutPictures)
  for (let from = 0; from <= bare.length; from += 1) {
    if (keep(CONVERSATION, JSON.stringify(bare.slice(from)))) return
  }
}

function withoutPictures(record) {
  const { over } = record
  return over?.extra ? { ...record, over: { ...over, extra: { ...over.extra, shown: [] } } } : record
}

export function keptConversation() {
  return JSON.parse(kept(CONVERSATION) ?? '[]')
}

export function keepKey(key) {
  keep(KEY, key)
}

export function keptKey() {
  return kept(KEY) ?? ''
}

// A browser may be set to keep nothing for pages. Then nothing outlives a reload, but the page works.

function keep(name, value) {
  try {
    sessionStorage.setItem(name, value)
    return true
  } catch {
    return false
  }
}

function kept(name) {
  try {
    return sessionStorage.getItem(name)
  } catch {
    return null
  }
}
