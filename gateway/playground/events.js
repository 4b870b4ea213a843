// Reads an event stream from the body of a `fetch`; browsers have no reader for that.

/** The events of a body: https://html.spec.whatwg.org/multipage/server-sent-events.html */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = '', afterCR = false, type = '', data = [], lastEventId = ''
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      const text = afterCR ? read.value.replace(/^\n/, '') : read.value // the rest of a CRLF that was cut
      afterCR = read.value.endsWith('\r')
      const lines = (rest + text).split(/\r\n|\n|\r/)
      rest = lines.pop()
      for (const line of lines) {
        const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line)
        if (field === 'data') data.push(value)
        else if (field === 'event') type = value
        else if (field === 'id' && !value.includes('\0')) lastEventId = value
        else if (line === '') {
          if (data.length) yield { type: type || 'message', data: data.join('\n'), lastEventId }
          type = ''
          data = []
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {}) // if the caller stops early; at the end of the body it does nothing
  }
}
