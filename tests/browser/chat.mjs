// Checks the page of examples/chat in a real browser: who is let in, who hears what, what a lost connection comes back
// to, and the moderation that is changed while people talk; see support.mjs for how it is run.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { copyFile, cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { get } from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import {
  assert_fits, open, page_address, PLUGIN, PLUGINS_DIR, run, shoot, state, with_gateway,
} from './support.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))
const gateway = new URL(page_address).searchParams.get('gateway') ?? 'ws://127.0.0.1:8080/ws'

/** Opens a window, logs in and goes to a room. Each check has rooms of its own. */
async function enter(browser, user, room, options) {
  const window = await open(browser, options)
  const sockets = []
  window.page.on('websocket', (socket) => sockets.push(socket))
  await login(window.page, user)
  await go(window.page, room)
  return { ...window, sockets }
}

async function login(page, user) {
  await page.getByLabel('Your name').fill(user)
  await page.getByRole('button', { name: 'Log in' }).click()
  await state(page, 'Connected')
}

async function go(page, room) {
  await page.getByLabel('Another room').fill(room)
  await page.getByRole('button', { name: 'Enter' }).click()
  await page.getByRole('heading', { name: `Room ${room}` }).waitFor()
}

async function say(page, text) {
  await page.getByLabel('Message').fill(text)
  await page.getByRole('button', { name: 'Send' }).click()
}

/** Waits until a message shows: `own` for one's own, `said` for those of others. */
const line = (page, kind, text) => page.locator(`#log .${kind}`).filter({ hasText: text }).last().waitFor()

/** Waits until exactly these people are here. */
const here = (page, ...names) =>
  page.waitForFunction((names) => {
    const shown = [...document.querySelectorAll('#here li')].map((item) => item.textContent)
    return JSON.stringify(shown) === names
  }, JSON.stringify(names))

const words = (page) => page.locator('#log .words').allTextContents()

/** A window whose connections go through to the gateway, but can be cut, and held back until they are let through. */
function breakable() {
  let socket
  let through = Promise.resolve()
  let release
  const before = (page) => page.routeWebSocket(/\/ws\?/, async (route) => {
    await through
    const server = route.connectToServer()
    socket = { page: route, server }
  })
  return {
    before,
    async cut() {
      through = new Promise((resolve) => release = resolve)
      await Promise.all([socket.server.close(), socket.page.close({ code: 3000, reason: 'cut' })])
    },
    mend: () => release(),
  }
}

const checks = {
  async 'who is not logged in gets no connection'(browser) {
    const { page, problems, close } = await open(browser)
    await state(page, 'Not logged in')
    const [status, body] = await handshake()
    assert.equal(status, 401)
    assert.deepEqual(JSON.parse(body), { type: 'refused', reason: 'Log in first.' })
    const outcome = await page.evaluate((gateway) => new Promise((resolve) => {
      const socket = new WebSocket(gateway)
      socket.onopen = () => resolve('open')
      socket.onclose = () => resolve('refused')
    }), gateway)
    assert.equal(outcome, 'refused')

    await page.getByLabel('Your name').fill('a\u202eb')
    await page.getByRole('button', { name: 'Log in' }).click()
    await page.getByRole('alert').filter({ hasText: 'A name has 1 to 30 visible characters' }).waitFor()
    await shoot(page, 'chat-login')
    assert.deepEqual(problems, [])
    await close()
  },

  async 'two people see each other come, talk, and part'(browser) {
    const ann = await enter(browser, 'ann', 'talk')
    await here(ann.page, 'ann')
    const bob = await enter(browser, 'bob', 'talk')
    for (const { page } of [ann, bob]) await here(page, 'ann', 'bob')

    await say(ann.page, 'hello')
    await line(ann.page, 'own', 'hello')
    await line(bob.page, 'said', 'hello')
    assert.match(await bob.page.locator('#log .what').textContent(), /^ann · \d/)
    // What a form, a header and HTML each give a meaning to arrives as it was written.
    const odd = '50% & "more" = <img src=x onerror=alert(1)> \\u0022 翼 🪽'
    await say(bob.page, odd)
    await line(bob.page, 'own', odd)
    await line(ann.page, 'said', odd)
    assert.equal(await ann.page.locator('#log img').count(), 0)
    await say(ann.page, '   ')
    await ann.page.getByRole('alert').filter({ hasText: 'A message has 1 to 2000 characters.' }).waitFor()
    assert.deepEqual(await words(bob.page), ['hello', odd])

    for (const colorScheme of ['light', 'dark']) {
      await ann.page.emulateMedia({ colorScheme })
      await shoot(ann.page, `chat-${colorScheme}`)
    }
    await bob.close()
    await here(ann.page, 'ann')
    await state(ann.page, 'bob has gone.')
    assert.deepEqual([...ann.problems, ...bob.problems], [])
    await ann.close()
  },

  async 'a name is one person, in however many windows, and a logout closes them all'(browser) {
    const cleo = await enter(browser, 'Cleo & Zoë, 翼', 'windows')
    const dan = await enter(browser, 'dan', 'windows')
    const second = await cleo.page.context().newPage()
    await second.goto(page_address)
    await state(second, 'Connected')
    await go(second, 'windows')
    await say(second, 'here, too')
    await line(cleo.page, 'own', 'here, too')
    await second.close()
    const third = await cleo.page.context().newPage()
    await third.goto(page_address)
    await state(third, 'Connected')
    await here(dan.page, 'Cleo & Zoë, 翼', 'dan')

    await cleo.page.getByRole('button', { name: 'Log out' }).click()
    for (const page of [cleo.page, third]) await state(page, 'Not logged in')
    await here(dan.page, 'dan')
    await login(cleo.page, 'cleo')
    await here(cleo.page, 'cleo')
    assert.deepEqual(await words(cleo.page), [])
    assert.deepEqual([...cleo.problems, ...dan.problems], [])
    await cleo.close()
    await dan.close()
  },

  async 'rooms are apart'(browser) {
    const eve = await enter(browser, 'eve', 'one-room')
    const fay = await enter(browser, 'fay', 'one-room')
    await here(fay.page, 'eve', 'fay')
    await go(eve.page, 'other-room')
    await here(eve.page, 'eve')
    await here(fay.page, 'fay')

    await say(eve.page, 'said in the other room')
    await line(eve.page, 'own', 'said in the other room')
    // What fay says later arrives: had eve's words gone to her, too, they would be here by now.
    await say(fay.page, 'said in the one room')
    await line(fay.page, 'own', 'said in the one room')
    assert.deepEqual(await words(fay.page), ['said in the one room'])

    await go(fay.page, 'other-room')
    for (const { page } of [eve, fay]) await here(page, 'eve', 'fay')
    await say(fay.page, 'here I am')
    await line(eve.page, 'said', 'here I am')
    assert.deepEqual(await words(eve.page), ['said in the other room', 'here I am'])
    assert.deepEqual([...eve.problems, ...fay.problems], [])
    assert.equal(eve.sockets.length, 1, 'the connection stays')
    await eve.close()
    await fay.close()
  },

  async 'a connection that was cut comes back to exactly what it missed'(browser) {
    const line_to = breakable()
    const gil = await enter(browser, 'gil', 'resume', { before: line_to.before })
    const hal = await enter(browser, 'hal', 'resume')
    await say(hal.page, 'before')
    await line(gil.page, 'said', 'before')

    await line_to.cut()
    await state(gil.page, 'The gateway closed the connection')
    await here(hal.page, 'hal')
    assert(await gil.page.getByRole('button', { name: 'Send' }).isDisabled())
    await here(gil.page)
    await shoot(gil.page, 'chat-lost')
    for (const text of ['missed 1', 'missed 2', 'missed 3']) {
      await say(hal.page, text)
      await line(hal.page, 'own', text)
    }
    line_to.mend()
    await state(gil.page, 'Connected')
    await here(hal.page, 'gil', 'hal')
    await say(hal.page, 'after')
    await line(gil.page, 'said', 'after')
    const all = ['before', 'missed 1', 'missed 2', 'missed 3', 'after']
    assert.deepEqual(await words(gil.page), all)

    // A reload is a cut as well, and what was said before it stays.
    await gil.page.reload()
    await here(gil.page, 'gil', 'hal')
    await say(hal.page, 'after the reload')
    await line(gil.page, 'said', 'after the reload')
    assert.deepEqual(await words(gil.page), [...all, 'after the reload'])
    assert.equal(await gil.page.locator('#log .note').count(), 0)

    // A position that the gateway does not know.
    await gil.page.evaluate(() => {
      const kept = JSON.parse(sessionStorage.getItem('chat'))
      sessionStorage.setItem('chat', JSON.stringify({ ...kept, epoch: 'unheard-of' }))
    })
    await gil.page.reload()
    await line(gil.page, 'note', 'could not be recovered')
    await shoot(gil.page, 'chat-gap')
    assert.deepEqual([...gil.problems, ...hal.problems], [])
    await gil.close()
    await hal.close()
  },

  async 'it fits a narrow screen'(browser) {
    const long = 'w'.repeat(30)
    const { page, close } = await enter(browser, long, long, { viewport: { width: 360, height: 740 } })
    await say(page, long.repeat(10))
    await line(page, 'own', long)
    await here(page, long)
    await assert_fits(page)
    await shoot(page, 'chat-narrow')
    await close()
  },

  async 'no gateway and no PHP are said in plain words'(browser) {
    const { page, problems, close } = await open(browser, { address: with_gateway('ws://127.0.0.1:9/ws') })
    await page.getByLabel('Your name').fill('ida')
    await page.getByRole('button', { name: 'Log in' }).click()
    await state(page, 'No gateway answers at ws://127.0.0.1:9/ws. Is it running?')
    await page.getByText(/^Next try in \d+ s$/).waitFor()
    await page.route('**/websocket.php', (route) => route.abort())
    await page.getByRole('button', { name: 'Try now' }).click()
    await state(page, 'The web server of this page does not answer.')
    assert.deepEqual(problems, [])
    await close()
  },
}

if (PLUGIN) {
  checks['words are moderated, and the list is changed, while everybody stays connected'] = async (browser) => {
    const dropped = path.join(PLUGINS_DIR, '10-moderate.wasm')
    const jim = await enter(browser, 'jim', 'moderated')
    const kim = await enter(browser, 'kim', 'moderated')
    await here(jim.page, 'jim', 'kim')
    await sayUntil(jim, kim, 'heck', 'heck')
    try {
      await copyFile(PLUGIN, dropped)
      await sayUntil(jim, kim, 'heck', '****')
      await sayUntil(jim, kim, 'oh gosh', 'oh gosh')
      await say(jim.page, 'CAN ANYBODY HEAR ME')
      await jim.page.getByRole('alert').filter({ hasText: 'Please do not shout.' }).waitFor()
      await shoot(jim.page, 'chat-moderated')

      await build_edited(['heck', 'gosh'], dropped)
      await sayUntil(jim, kim, 'oh gosh', 'oh ****')
    } finally {
      await rm(dropped, { force: true })
    }
    await sayUntil(jim, kim, 'heck and gosh', 'heck and gosh')

    assert.deepEqual(await words(kim.page), await words(jim.page))
    assert(!(await words(kim.page)).some((text) => text.includes('ANYBODY')))
    for (const { sockets, problems } of [jim, kim]) {
      assert.deepEqual(sockets.map((socket) => socket.isClosed()), [false], 'one connection, from the beginning to now')
      assert.deepEqual(problems, [])
    }
    await jim.close()
    await kim.close()
  }
}

/** Asks for a WebSocket without a cookie; gives the status and the body of the answer. */
function handshake() {
  const headers = {
    Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': 13,
    'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAAAA==',
  }
  return new Promise((resolve, reject) => {
    const request = get(gateway.replace(/^ws/, 'http'), { headers, agent: false })
    request.on('error', reject)
    request.on('upgrade', (response, socket) => {
      socket.destroy()
      resolve([response.statusCode, ''])
    })
    request.on('response', async (response) => {
      resolve([response.statusCode, (await response.setEncoding('utf8').toArray()).join('')])
    })
  })
}

let tries = 0

/** One says something again and again until the other hears it as expected: a plugin has come or gone meanwhile. */
async function sayUntil(one, other, text, expected) {
  const deadline = Date.now() + 10_000
  for (;;) {
    const number = `(${++tries})` // tells each from those before
    await say(one.page, `${number} ${text}`)
    const arrived = await other.page.locator('#log .said .words').filter({ hasText: number }).textContent()
    if (arrived === `${number} ${expected}`) return
    assert(Date.now() < deadline, `“${text}” still arrives as “${arrived}”`)
  }
}

/** Does what the README says, with a copy of the sources: changes the list of words, builds the plugin and drops it. */
async function build_edited(list, dropped) {
  const copy = await mkdtemp(path.join(tmpdir(), 'moderate-'))
  try {
    const targets = path.join(root, 'plugins/target')
    for (const folder of ['wit', 'plugins']) {
      const filter = (file) => file !== targets
      await cp(path.join(root, folder), path.join(copy, folder), { recursive: true, filter })
    }
    const source = path.join(copy, 'plugins/moderate/src/lib.rs')
    const before = await readFile(source, 'utf8')
    const after = before.replace(/(const MASKED: .* = &)\[.*\];/, `$1${JSON.stringify(list)};`)
    assert.notEqual(after, before)
    await writeFile(source, after)
    // Only what is edited is built; what it depends on is there already.
    const env = { ...process.env, CARGO_TARGET_DIR: targets }
    await promisify(execFile)(path.join(copy, 'plugins/build'), ['moderate'], { env })
    await copyFile(path.join(copy, 'plugins/target/plugins/moderate.wasm'), dropped)
  } finally {
    await rm(copy, { recursive: true })
  }
}

await run(checks)
