// Keeps the end of the page in sight while the person is there.

const latest = document.getElementById('latest')
let following = true

export function follow() {
  if (following) scrollTo({ top: document.documentElement.scrollHeight })
  else latest.hidden = false
}

export function followAgain() {
  following = true
  follow()
  latest.hidden = true
}

addEventListener('scroll', () => {
  const { scrollHeight } = document.documentElement
  following = innerHeight + scrollY >= scrollHeight - 32
  if (following) latest.hidden = true
}, { passive: true })

latest.addEventListener('click', followAgain)
