// What outlives a reload: this tab's conversation and API key. The browser forgets both when the tab is closed.

const CONVERSATION = 'conversation'
const KEY = 'key'

/** `records` are plain values. Of more than the browser keeps (5 MB), pictures are left out first, then the oldest. */
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

// A browser may be told to keep nothing for any page: then nothing outlives a reload, and all else works.

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
