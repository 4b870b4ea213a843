// What outlives a reload: this tab's conversation and API key. The browser forgets both when the tab is closed.

const CONVERSATION = 'conversation'
const KEY = 'key'

/** `records` are plain values. Where they are more than the browser keeps (5 MB), the earliest are left out. */
export function keepConversation(records) {
  for (let from = 0; from <= records.length; from += 1) {
    if (keep(CONVERSATION, JSON.stringify(records.slice(from)))) return
  }
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
