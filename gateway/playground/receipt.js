// Checks that the text of an answer is the one that the gateway sent, by the receipt in its `end`.

export class Receipt {
  /** `format` is the one that was asked for: 'text' or 'json'. */
  constructor(format) {
    this.isJson = format === 'json'
    this.text = ''
    this.end = null // the data of the `end`
  }

  /** Takes the events of an answer, in their order. */
  take({ type, data }) {
    if (type === 'message' || type === 'refusal') this.text += this.isJson ? content(data) : data
    else if (type === 'end') this.end = data
  }

  /** What is wrong with the text, in words for a person. Empty if it is right, or if that cannot be known. */
  async fault() {
    if (this.end === null) return ''
    const { receipt } = parsed(this.end) ?? { receipt: {} }
    if (!receipt) return '' // the process that made the answer is gone, or the gateway is an older one
    const { bytes, sha256 } = (!this.isJson && receipt.line_feeds) || receipt // bare text has no carriage returns
    const text = new TextEncoder().encode(this.text)
    const excess = text.length - bytes
    if (excess < 0) return `${count(-excess)} of its text ${-excess === 1 ? 'is' : 'are'} missing.`
    if (excess > 0) return `Its text has ${count(excess)} too many.`
    return excess === 0 && await isSum(sha256, text) ? '' : 'Its text is not the one that was sent.'
  }
}

function content(data) {
  const { content, refusal } = parsed(data) ?? {}
  return content ?? refusal ?? ''
}

function parsed(data) {
  try { return JSON.parse(data) } catch { return null } // a change on the way may have broken it
}

/** A page that came by plain http from another machine cannot compute it. There, the length alone is checked. */
async function isSum(sha256, bytes) {
  if (!globalThis.crypto?.subtle) return true
  const sum = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))
  return sha256 === Array.from(sum, (byte) => byte.toString(16).padStart(2, '0')).join('')
}

function count(bytes) {
  return bytes === 1 ? '1 byte' : `${bytes} bytes`
}
